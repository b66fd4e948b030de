"""lm-evaluation-harness's logged samples as records, so that tables, intervals and `--against` hold for them too.

One sample an item, with one outcome. The first of a task's metrics that is 0 or 1 for each sample decides, under its
first filter; the others that are 0 or 1 are kept as grades of their own. A task without one (BLEU, perplexity) has no
right and wrong: it is left out, and why is said. lm-eval alone can grade again, so `rescore` leaves these be.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from stillmark.backends.protocol import Loglikelihood, Reply
from stillmark.backends.work import Work
from stillmark.compute.flops import generate_flops
from stillmark.evaluate.counts import Counts, counts_of_run
from stillmark.evaluate.model import LoadedModel, sha256_text
from stillmark.evaluate.sample_records import Pair, choice_flops
from stillmark.provenance import provenance
from stillmark.records import (
    ItemRecord,
    LedgerEntry,
    Method,
    Outcome,
    SampleDetail,
    SampleRecord,
    Store,
    canonical,
)
from stillmark.tasks.choice_scorer import choice_label

PREFIX = "lm_eval:"
FALLBACK = "[invalid]"  # what lm-eval's filters hand over where they find nothing
MODES = {"multiple_choice": "loglikelihood", "loglikelihood": "loglikelihood", "generate_until": "generation"}


class NoRightOrWrongError(Exception):
    """No metric of the task is 0 or 1 for each sample."""


def is_right_or_wrong(value: Any) -> bool:
    return isinstance(value, int | float) and value in (0, 1)


@dataclass(frozen=True, kw_only=True)
class TaskLog:
    """What one of lm-eval's tasks left behind: its config, and its samples under each filter."""

    name: str
    config: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    num_items_in_task: int
    # None, both: it ran beside other tasks of a group, whose parts are not told apart
    seconds: float | None
    work: Work | None

    @cached_property
    def metric(self) -> str:
        """The first of the task's metrics that is 0 or 1 for each sample."""
        names = [str(entry["metric"]) for entry in self.config.get("metric_list") or []]
        first = [sample for sample in self.samples if sample["filter"] == self.filter]
        for name in names:
            if all(is_right_or_wrong(sample.get(name)) for sample in first):
                return name
        raise NoRightOrWrongError(f"none of its metrics ({', '.join(names)}) is 0 or 1 for each sample")

    @property
    def filter(self) -> str:
        return str(self.samples[0]["filter"])

    @property
    def fallbacks(self) -> set[str]:
        filters = [step for entry in self.config.get("filter_list") or [] for step in entry.get("filter", [])]
        return {FALLBACK, *(str(step["fallback"]) for step in filters if "fallback" in step)}


def record_lm_eval(store: Store, model: LoadedModel, inputs: Mapping[str, Any], log: TaskLog) -> str:
    """Writes a task's samples under a job of its own, once, and gives its key."""
    if not log.samples:
        raise NoRightOrWrongError("it logs no samples")
    mode = MODES.get(log.config["output_type"])
    if mode is None:
        raise NoRightOrWrongError(f"it asks for `{log.config['output_type']}`")
    pairs, items, prompts = [], [], {}
    key = hashlib.sha256(canonical({**inputs, "sub_task": log.name, "as": "records"}).encode()).hexdigest()[
        :20
    ]
    seen: dict[str, int] = {}
    for position, sample in enumerate(s for s in log.samples if s["filter"] == log.filter):
        prompt = str(sample["arguments"][0][0])
        text = f"{PREFIX}{log.name}\0{sample['doc_hash']}"
        seen[text] = seen.get(text, 0) + 1
        item_id = sha256_text(f"{text}\0{seen[text]}" if seen[text] > 1 else text)[:20]
        items.append(
            ItemRecord(
                item_id=item_id, task=PREFIX + log.name, level=0, prompt=prompt, target=str(sample["target"])
            )
        )
        prompts[sha256_text(prompt)] = prompt
        pairs.append(pair_of(log, mode, model, key, item_id, position, sample))
    store.begin_job(key, "evaluate", job_inputs(inputs, log, mode, model), provenance())
    if store.samples(key):
        return key
    counts = counts_of_run(Work(), log.work, model.shape) or Counts(flops=None, tokens=None)
    with store.transaction():
        store.add_items(items)
        store.add_prompts(prompts)
        store.add(*(record for pair in pairs for record in pair))
        store.add(
            LedgerEntry(
                job_key=key, part="evaluate", index=0, flops_method=Method.COUNTED, seconds=log.seconds,
                cpu_seconds=None, device=model.device, **asdict(counts),
            )
        )  # fmt: skip
    if len(pairs) == log.num_items_in_task:
        store.finish_job(key)
    return key


def job_inputs(inputs: Mapping[str, Any], log: TaskLog, mode: str, model: LoadedModel) -> dict[str, Any]:
    """As the inputs of our own benchmarks, as far as lm-eval tells them."""
    settings = log.config.get("generation_kwargs") or {}
    sampling = {
        "max_new_tokens": settings.get("max_gen_toks"),
        "temperature": settings.get("temperature", 0.0),
    }
    return {
        **inputs,
        "stage": "evaluate",
        "task": PREFIX + log.name,
        "mode": mode,
        "task_version": str((log.config.get("metadata") or {}).get("version")),
        "scorer": f"lm_eval:{log.metric},{log.filter}",
        "likelihood_rule": log.metric if mode == "loglikelihood" else None,
        "num_fewshot": log.config.get("num_fewshot"),
        "shot_order": None,
        "uses_chat": False,
        "thinking": None,
        "sampling": sampling if mode == "generation" else None,
        "label": model.label,
        "reference": PREFIX + log.name,
        "chance": None,
        "num_items": log.num_items_in_task,
        "chat_template": None,
    }


def pair_of(
    log: TaskLog,
    mode: str,
    model: LoadedModel,
    key: str,
    item_id: str,
    position: int,
    sample: Mapping[str, Any],
) -> Pair:
    """The two records of one sample. `sample["answers"]` is what our engine told of each request (the bridge)."""
    value = sample[log.metric]
    prompt = str(sample["arguments"][0][0])
    if mode == "loglikelihood":
        facts = likelihood_facts(model, sample, bool(value))
    else:
        facts = generation_facts(model, log, sample, bool(value))
    record = SampleRecord(
        job_key=key, item_id=item_id, repeat=0, position=position, response=facts["response"], outcome=facts["outcome"],
        stop_reason=facts["stop_reason"], prompt_tokens=facts["prompt_tokens"],
        generated_tokens=facts["generated_tokens"], seconds=facts["seconds"],
    )  # fmt: skip
    detail = SampleDetail(
        job_key=key, item_id=item_id, repeat=0, prompt_sha256=sha256_text(prompt), extracted=facts["extracted"],
        extractor=f"{log.metric},{log.filter}", grades=json.dumps(grades_of(log, sample)), nats=facts["nats"],
        cuts=None, thinking_tokens=None, prefill_seconds=facts["prefill_seconds"],
        decode_seconds=facts["decode_seconds"],
        flops=facts["flops"], price_usd=None, is_cached=False, error=None,
    )  # fmt: skip
    return record, detail


def likelihood_facts(model: LoadedModel, sample: Mapping[str, Any], is_right: bool) -> dict[str, Any]:
    scored = [Loglikelihood(**answer) for answer in sample["answers"]]
    nats = [answer.loglikelihood for answer in scored]
    best = max(range(len(nats)), key=lambda index: nats[index])
    seconds = sum(answer.seconds or 0.0 for answer in scored)
    picked = choice_label(best) if len(nats) > 1 else None
    return {
        "response": picked or "", "outcome": Outcome.CORRECT if is_right else Outcome.WRONG, "stop_reason": "stop",
        "prompt_tokens": max(answer.prompt_tokens for answer in scored), "generated_tokens": 0, "seconds": seconds,
        "extracted": picked, "nats": json.dumps(nats), "prefill_seconds": seconds, "decode_seconds": None,
        "flops": None if model.shape is None else choice_flops(model.shape, scored),
    }  # fmt: skip


def generation_facts(
    model: LoadedModel, log: TaskLog, sample: Mapping[str, Any], is_right: bool
) -> dict[str, Any]:
    reply = Reply(**sample["answers"][0])
    filtered = str(sample["filtered_resps"][0])
    is_found = filtered.strip() != "" and filtered not in log.fallbacks
    is_cut = reply.stop_reason == "length"
    is_whole_reply = filtered == str(sample["resps"][0][0])  # nothing was extracted: a cut reply is no answer
    if is_right:
        outcome = Outcome.CORRECT
    elif is_found and not (is_cut and is_whole_reply):
        outcome = Outcome.WRONG
    else:
        outcome = Outcome.TRUNCATED if is_cut else Outcome.UNPARSED
    times = [part for part in (reply.prefill_seconds, reply.decode_seconds) if part is not None]
    flops = None
    if model.shape is not None:
        flops = generate_flops(
            model.shape, prompt_tokens=reply.prompt_tokens, new_tokens=reply.generated_tokens
        )
    return {
        "response": str(sample["resps"][0][0]), "outcome": outcome, "stop_reason": str(reply.stop_reason),
        "prompt_tokens": reply.prompt_tokens, "generated_tokens": reply.generated_tokens,
        "seconds": sum(times) if times else None, "extracted": filtered if is_found else None, "nats": None,
        "prefill_seconds": reply.prefill_seconds, "decode_seconds": reply.decode_seconds, "flops": flops,
    }  # fmt: skip


def grades_of(log: TaskLog, sample: Mapping[str, Any]) -> dict[str, bool]:
    """Every metric that is 0 or 1 under any filter, by `metric,filter`."""
    grades = {}
    for other in log.samples:
        if other["doc_id"] == sample["doc_id"]:
            for name in other["metrics"]:
                if is_right_or_wrong(other.get(name)):
                    grades[f"{name},{other['filter']}"] = bool(other[name])
    return grades
