"""Asks a model a benchmark's items and records each reply: what is recorded already is not asked again.

A chunk of items is one transaction, so `kill -9` loses at most the chunk that was running. The job's key is a hash
of the model's identity, the data, the prompt's settings and the sampling: with any of them changed it is another
job. How many items are asked (`limit`) is not among them: a larger limit goes on from a smaller one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from stillmark.backends.devices import stretch_on
from stillmark.backends.protocol import Sampling
from stillmark.compute.stretch import ELSEWHERE, Stretch
from stillmark.errors import UserError
from stillmark.evaluate.counts import by_themselves, counts_of_run
from stillmark.evaluate.model import LoadedModel, sha256_text
from stillmark.evaluate.sample_records import Asked, generation_records, likelihood_records
from stillmark.provenance import provenance
from stillmark.records import LedgerEntry, Method, Outcome, SampleDetail, SampleRecord, Store, canonical
from stillmark.tasks.benchmark import Benchmark, BenchmarkData, Form, Mode, Row, Shots
from stillmark.tasks.thinking import DEFAULT_TAGS, ThinkingTags

CHUNK_ITEMS: dict[Mode, int] = {"generation": 32, "loglikelihood": 128}
FIRST_CHUNK_ITEMS = 4  # so that the first answers, or what is wrong with them, are seen soon
ChatUse = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How items are asked. None: as the benchmark does it."""

    num_fewshot: int | None = None
    shot_order: Shots | None = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    num_samples: int = 1
    seed: int = 0
    chat: ChatUse = "auto"  # auto: the model's template for generation, plain text for likelihoods
    thinking: ThinkingTags | None = DEFAULT_TAGS

    def shots_of(self, benchmark: Benchmark) -> tuple[int, Shots]:
        """How many examples a prompt has, and how they are chosen."""
        count = benchmark.num_fewshot if self.num_fewshot is None else self.num_fewshot
        return count, self.shot_order or benchmark.shot_order


def is_put_as_chat(settings: EvalSettings, mode: Mode, *, has_template: bool) -> bool:
    """Whether a prompt goes through the model's chat template."""
    is_asked_for = settings.chat == "always" or (settings.chat == "auto" and mode == "generation")
    return has_template and is_asked_for


def continuations(form: Form, row: Row, *, is_chat: bool) -> tuple[str, ...]:
    """The choices, as they follow a prompt: after a chat template's header there is no space to continue from."""
    texts = form.continuations(row)
    return tuple(text.lstrip() for text in texts) if is_chat else texts


@dataclass(frozen=True, kw_only=True)
class Job:
    """One model on one benchmark, and everything that its replies depend on."""

    key: str
    inputs: dict[str, Any]
    data: BenchmarkData
    mode: Mode
    model: LoadedModel
    sampling: Sampling
    num_fewshot: int
    shot_order: Shots
    uses_chat: bool
    thinking: ThinkingTags | None

    def sent(self, index: int) -> str:
        """The prompt of an item as it goes to the engine."""
        prompt = self.data.prompt(index, self.mode, self.num_fewshot, self.shot_order, is_chat=self.uses_chat)
        return self.model.chat.apply(prompt) if self.uses_chat and self.model.chat else prompt


def make_job(
    model: LoadedModel,
    data: BenchmarkData,
    mode: Mode,
    settings: EvalSettings,
    *,
    reference: str | None = None,
) -> Job:
    """The job of a model on a benchmark. `reference`: the name by which the benchmark was asked for."""
    benchmark = data.benchmark
    _, form = benchmark.form(mode)
    if settings.chat == "always" and model.chat is None:
        raise UserError(f"{model.label} has no chat template", hint="leave --chat out, or give `never`")
    uses_chat = is_put_as_chat(settings, mode, has_template=model.chat is not None)
    count, order = settings.shots_of(benchmark)
    if count:
        data.examples(0, count, order)  # reads the examples' file, so that `origin` names it
    sampling = Sampling(
        max_new_tokens=settings.max_new_tokens or form.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        num_samples=settings.num_samples,
        seed=settings.seed,
        stop=form.chat_stop if uses_chat and form.chat_stop is not None else form.stop,
    )
    inputs = {
        "stage": "evaluate",
        "task": benchmark.name,
        "mode": mode,
        "task_version": benchmark.version,
        "scorer": type(benchmark.scorer).__name__,
        "likelihood_rule": form.rule if mode == "loglikelihood" else None,
        "task_settings": benchmark.settings,
        "data": data.origin,
        "num_fewshot": count,
        "shot_order": order if count else None,
        "uses_chat": uses_chat,
        "thinking": asdict(settings.thinking) if settings.thinking else None,
        "sampling": asdict(sampling) if mode == "generation" else None,
        "model": dict(model.identity),
    }
    key = hashlib.sha256(canonical(inputs).encode()).hexdigest()[:20]
    recorded = {
        **inputs,
        "label": model.label,
        "reference": reference or benchmark.name,
        "chance": data.chance,
        "num_items": len(data.rows),
        "chat_template": model.chat.template if uses_chat and model.chat else None,
        "price": model.price,
    }
    return Job(
        key=key, inputs=recorded, data=data, mode=mode, model=model, sampling=sampling, num_fewshot=count,
        shot_order=order, uses_chat=uses_chat, thinking=settings.thinking,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Progress:
    """After a chunk: items done, of how many, and correct samples among those scored so far."""

    done: int
    total: int
    num_correct: int
    num_samples: int


def run_job(store: Store, job: Job, *, limit: int | None = None) -> Iterator[Progress]:
    """Asks what is not yet recorded, as a job of its own."""
    store.begin_job(job.key, "evaluate", job.inputs, provenance())
    yield from ask_items(store, job, limit=limit)
    if len(job.data.chosen(limit)) == len(job.data.rows):
        store.finish_job(job.key)


def ask_items(
    store: Store, job: Job, *, limit: int | None = None, failed_again: bool = True
) -> Iterator[Progress]:
    """Asks what is not yet recorded under the job's key; `failed_again`: also samples that ended in `error`."""
    chosen = job.data.chosen(limit)
    if failed_again:
        store.drop_errors(job.key)
    recorded = store.samples(job.key)
    done = {sample.item_id for sample in recorded}
    wanted = {job.data.item_ids[index] for index in chosen}
    outcomes = [sample.outcome for sample in recorded if sample.item_id in wanted]
    todo = [index for index in chosen if job.data.item_ids[index] not in done]
    next_entry = len(store.ledger(job.key))
    num_done = len(chosen) - len(todo)
    for number, indices in enumerate(chunks_of(todo, CHUNK_ITEMS[job.mode])):
        samples, _ = run_chunk(store, job, indices, next_entry + number)
        outcomes += [sample.outcome for sample in samples]
        num_done += len(indices)
        yield Progress(
            done=num_done,
            total=len(chosen),
            num_correct=outcomes.count(Outcome.CORRECT),
            num_samples=len(outcomes),
        )


def chunks_of(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """A small piece first, then pieces of `size`."""
    start, step = 0, FIRST_CHUNK_ITEMS
    while start < len(indices):
        yield indices[start : start + step]
        start, step = start + step, size


def run_chunk(
    store: Store, job: Job, indices: Sequence[int], entry_index: int
) -> tuple[list[SampleRecord], list[SampleDetail]]:
    """One chunk, asked, scored and written in one transaction."""
    asked = [Asked(index=index, item=job.data.item(index), sent=job.sent(index)) for index in indices]
    device, before = job.model.device, job.model.backend.work
    stretch = Stretch(unread=ELSEWHERE) if device == "remote" else stretch_on(device)
    if job.mode == "generation":
        with stretch:
            replies = job.model.backend.generate([one.sent for one in asked], job.sampling)
        pairs = generation_records(
            job.key, job.model, job.data.benchmark, asked, replies, job.thinking, job.sampling.stop
        )
    else:
        form = job.data.benchmark.forms["loglikelihood"]
        choices = [continuations(form, job.data.rows[one.index], is_chat=job.uses_chat) for one in asked]
        requests = [(one.sent, text) for one, texts in zip(asked, choices, strict=True) for text in texts]
        with stretch:
            scored = job.model.backend.loglikelihood(requests)
        pairs = likelihood_records(job.key, job.model, form.rule, asked, choices, scored)
    samples, details = [sample for sample, _ in pairs], [detail for _, detail in pairs]
    counts = counts_of_run(before, job.model.backend.work, job.model.shape) or by_themselves(pairs)
    entry = LedgerEntry(
        job_key=job.key, part="evaluate", index=entry_index, flops_method=Method.COUNTED, device=device,
        **asdict(counts), **stretch.row(),
    )  # fmt: skip
    with store.transaction():
        store.add_items(one.item for one in asked)
        store.add_prompts({sha256_text(one.sent): one.sent for one in asked})
        store.add(*samples, *details, entry)
    return samples, details
