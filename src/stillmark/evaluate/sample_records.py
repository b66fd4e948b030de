"""Replies and likelihoods as records: one outcome each, tokens, seconds and counted FLOPs beside it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stillmark.backends.protocol import Loglikelihood, Reply
from stillmark.compute.flops import forward_flops, generate_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.evaluate.model import LoadedModel, sha256_text
from stillmark.records import ItemRecord, Outcome, SampleDetail, SampleRecord
from stillmark.tasks.benchmark import Benchmark, LikelihoodRule
from stillmark.tasks.choice_scorer import judge_likelihoods
from stillmark.tasks.thinking import ThinkingTags, budget_cuts, split_thinking, starts_thinking
from stillmark.tasks.verdict import Verdict, judge

Pair = tuple[SampleRecord, SampleDetail]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An item and the exact text that was sent for it."""

    index: int
    item: ItemRecord
    sent: str


def generation_records(
    job_key: str, model: LoadedModel, benchmark: Benchmark, asked: Sequence[Asked],
    replies: Sequence[Sequence[Reply]], tags: ThinkingTags | None, stop: Sequence[str],
) -> list[Pair]:  # fmt: skip
    """A pair of records for each reply."""
    cached = getattr(model.backend, "is_cached", None) or [False] * len(asked)
    return [
        generation_record(job_key, model, benchmark, one, repeat, reply, tags, is_cached, stop)
        for one, group, is_cached in zip(asked, replies, cached, strict=True)
        for repeat, reply in enumerate(group)
    ]


def generation_record(
    job_key: str, model: LoadedModel, benchmark: Benchmark, one: Asked, repeat: int, reply: Reply,
    tags: ThinkingTags | None, is_cached: bool, stop: Sequence[str],
) -> Pair:  # fmt: skip
    is_thinking = starts_thinking(one.sent, tags)
    response = whole_text(reply, tags)
    verdict = judge(
        benchmark.scorer,
        response,
        one.item.target,
        reply.stop_reason,
        tags=tags,
        starts_thinking=is_thinking,
    )
    parts = split_thinking(response, tags, starts_thinking=is_thinking)
    times = [part for part in (reply.prefill_seconds, reply.decode_seconds) if part is not None]
    if not times and reply.request_seconds is not None:
        times = [reply.request_seconds]  # network and queue included: all that a remote engine shows
    flops = None
    if model.shape is not None and reply.stop_reason != "error":
        flops = generate_flops(
            model.shape, prompt_tokens=reply.prompt_tokens, new_tokens=reply.generated_tokens
        )
    sample = SampleRecord(
        job_key=job_key, item_id=one.item.item_id, repeat=repeat, position=one.index, response=response,
        outcome=verdict.outcome, stop_reason=reply.stop_reason, prompt_tokens=reply.prompt_tokens,
        generated_tokens=reply.generated_tokens, seconds=sum(times) if times else None,
    )  # fmt: skip
    detail = SampleDetail(
        job_key=job_key, item_id=one.item.item_id, repeat=repeat, prompt_sha256=sha256_text(one.sent),
        extracted=verdict.extracted, extractor=verdict.extractor, grades=json.dumps(dict(verdict.grades)),
        nats=None, cuts=cuts_of(model, reply, stop),
        thinking_tokens=thinking_tokens(model, reply, parts.thinking),
        prefill_seconds=reply.prefill_seconds, decode_seconds=reply.decode_seconds, flops=flops,
        price_usd=reply.price_usd, is_cached=is_cached, error=reply.error or verdict.error,
        served_model=reply.served_model,
    )  # fmt: skip
    return sample, detail


def whole_text(reply: Reply, tags: ThinkingTags | None) -> str:
    """The reply in one text: thinking that an engine handed over apart goes back between its marks."""
    if not reply.thinking_text or tags is None:
        return reply.text
    closing = tags.closing if reply.text or reply.stop_reason == "stop" else ""
    return f"{tags.opening}{reply.thinking_text}{closing}{reply.text}"


def thinking_tokens(model: LoadedModel, reply: Reply, thinking: str) -> int | None:
    """As the engine counted them, else by the tokenizer on the text; 0 where the text holds no thinking."""
    if reply.thinking_tokens is not None:
        return reply.thinking_tokens
    return model.count_tokens(thinking) if thinking else 0


def cuts_of(model: LoadedModel, reply: Reply, stop: Sequence[str]) -> str | None:
    """Where smaller budgets would have cut the reply, as JSON. A stop string was written and taken off."""
    if model.token_ends is None or reply.thinking_text:
        return None
    texts = [reply.text, *(reply.text + text for text in stop if reply.stop_reason == "stop")]
    for text in texts:
        cuts = budget_cuts(model.token_ends(text), reply.generated_tokens)
        if cuts:
            return json.dumps({budget: min(cut, len(reply.text)) for budget, cut in cuts.items()})
    return None


def likelihood_records(
    job_key: str, model: LoadedModel, rule: LikelihoodRule, asked: Sequence[Asked],
    choices: Sequence[Sequence[str]], scored: Sequence[Loglikelihood],
) -> list[Pair]:  # fmt: skip
    """A pair of records for each item, from the likelihoods of its choices in a row."""
    cached = getattr(model.backend, "is_cached", None) or [False] * len(scored)
    pairs, start = [], 0
    for one, texts in zip(asked, choices, strict=True):
        stop = start + len(texts)
        pairs.append(
            likelihood_record(job_key, model, rule, one, scored[start:stop], all(cached[start:stop]))
        )
        start = stop
    return pairs


def likelihood_record(
    job_key: str, model: LoadedModel, rule: LikelihoodRule, one: Asked, scored: Sequence[Loglikelihood],
    is_cached: bool,
) -> Pair:  # fmt: skip
    failures = [choice.error for choice in scored if choice.error]
    nats = None if failures else [choice.loglikelihood for choice in scored]
    if nats is None:
        verdict = Verdict(outcome=Outcome.ERROR, error=failures[0])
    else:
        verdict = judge_likelihoods(nats, one.item.target, rule)
    is_cut = any(choice.truncated_tokens for choice in scored)
    times = [choice.seconds for choice in scored if choice.seconds is not None]
    seconds = sum(times) if len(times) == len(scored) else None
    sample = SampleRecord(
        job_key=job_key, item_id=one.item.item_id, repeat=0, position=one.index, response=verdict.extracted or "",
        outcome=verdict.outcome, stop_reason="error" if failures else "stop",
        prompt_tokens=max(c.prompt_tokens for c in scored), generated_tokens=0, seconds=seconds,
    )  # fmt: skip
    detail = SampleDetail(
        job_key=job_key, item_id=one.item.item_id, repeat=0, prompt_sha256=sha256_text(one.sent),
        extracted=verdict.extracted, extractor=verdict.extractor, grades=json.dumps(dict(verdict.grades)),
        nats=None if nats is None else json.dumps(nats), cuts=None, thinking_tokens=None, prefill_seconds=seconds,
        decode_seconds=None,
        flops=None if model.shape is None or failures else choice_flops(model.shape, scored),
        price_usd=sum_or_none(choice.price_usd for choice in scored), is_cached=is_cached,
        error=verdict.error or ("the prompt was cut on its left to fit the window" if is_cut else None),
        served_model=served_name(choice.served_model for choice in scored),
    )  # fmt: skip
    return sample, detail


def sum_or_none(values: Iterable[float | None]) -> float | None:
    """The sum, or None where one of them is unknown."""
    known = list(values)
    return (
        None if any(value is None for value in known) else sum(value for value in known if value is not None)
    )


def served_name(names: Iterable[str | None]) -> str | None:
    """The one name that an endpoint gave in all its replies; all of them, where they differ."""
    told = sorted({name for name in names if name is not None})
    return ", ".join(told) or None


def choice_flops(shape: ModelShape, scored: Sequence[Loglikelihood]) -> int:
    """The prompt read once, then each choice after it: what one item takes by itself, without padding.

    The last token of a choice is not read, and the vocabulary head runs where a token is scored. Prefixes
    shared with other items are counted in each: this is the cost of an answer, not of the run (counts.py).
    """
    prompt_tokens = max(choice.prompt_tokens for choice in scored)
    flops = forward_flops(shape, tokens=prompt_tokens, scored_tokens=1)
    for choice in scored:
        tokens = choice.continuation_tokens - 1
        if tokens > 0:
            flops += forward_flops(
                shape, tokens=tokens, context_tokens=prompt_tokens + tokens, scored_tokens=tokens
            )
    return flops
