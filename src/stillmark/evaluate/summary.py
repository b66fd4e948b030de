"""What the store says of each model on each benchmark: accuracy with its interval, outcomes, tokens, time, FLOPs.

Read from the records alone: no model, no data set and no torch.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmark.analysis.intervals import Interval, accuracy_interval, share_interval
from stillmark.analysis.sampling import maj_at_k, pass_at_k
from stillmark.records import JobRecord, Outcome, SampleDetail, SampleRecord, Store
from stillmark.tasks.verdict import is_disputed

Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One model on one benchmark. Means are over samples without error; None where one is not known."""

    job_key: str
    label: str
    task: str
    mode: str
    num_items: int  # that were asked
    num_items_in_task: int
    num_samples: int
    outcomes: Mapping[str, int]  # sums to num_samples
    accuracy: (
        Interval | None
    )  # errors are left out, everything else that is not correct counts as not correct
    chance: float | None
    mean_prompt_tokens: float | None
    mean_thinking_tokens: float | None
    mean_generated_tokens: float | None
    mean_seconds: float | None
    mean_flops: float | None
    mean_price_usd: float | None
    num_cached: int
    by_extractor: Mapping[
        str, float
    ]  # accuracy had this extractor alone decided (nothing found: not correct)
    disputed_share: (
        float | None
    )  # of samples on which two extractors both found an answer and grade it differently
    at_k: Mapping[str, Interval]  # pass@k, maj@k, where items were sampled more than once
    price: str | None = None  # by which the answers were paid, with its source
    served_models: tuple[str, ...] = ()  # the names by which an endpoint says that it answered


def results(store: Store) -> list[Result]:
    """Every evaluated job of a store that has samples."""
    found = []
    for job in evaluation_jobs(store):
        samples = store.samples(job.key)
        if samples:
            found.append(result_of(job, samples, store.details(job.key)))
    return found


def evaluation_jobs(store: Store) -> list[JobRecord]:
    return [job for job in store.jobs() if job.stage == "evaluate" and "mode" in job.inputs]


def result_of(job: JobRecord, samples: Sequence[SampleRecord], details: Mapping[Key, SampleDetail]) -> Result:
    fine = [sample for sample in samples if sample.outcome != Outcome.ERROR]
    fine_details = [details[(sample.item_id, sample.repeat)] for sample in fine]
    grades = [json.loads(detail.grades) for detail in fine_details]
    names = sorted({name for grade in grades for name in grade}, key=lambda name: order_of(name, grades))
    items, flags = flag_matrix(samples)
    return Result(
        job_key=job.key,
        label=job.inputs["label"],
        task=job.inputs["task"],
        mode=job.inputs["mode"],
        num_items=len(items),
        num_items_in_task=job.inputs["num_items"],
        num_samples=len(samples),
        outcomes={outcome.value: sum(s.outcome == outcome for s in samples) for outcome in Outcome},
        accuracy=accuracy_interval(flags),
        chance=job.inputs["chance"],
        mean_prompt_tokens=mean(sample.prompt_tokens for sample in fine),
        mean_thinking_tokens=mean(detail.thinking_tokens for detail in fine_details),
        mean_generated_tokens=mean(sample.generated_tokens for sample in fine),
        mean_seconds=mean(sample.seconds for sample in fine),
        mean_flops=mean(detail.flops for detail in fine_details),
        mean_price_usd=mean(detail.price_usd for detail in fine_details),
        num_cached=sum(detail.is_cached for detail in fine_details),
        by_extractor={name: sum(grade.get(name) is True for grade in grades) / len(grades) for name in names},
        disputed_share=sum(map(is_disputed, grades)) / len(grades) if grades else None,
        at_k=sampled_scores(samples, details),
        price=job.inputs.get("price"),
        served_models=tuple(sorted({detail.served_model for detail in fine_details if detail.served_model})),
    )


def order_of(name: str, grades: Sequence[Mapping[str, Any]]) -> int:
    """Extractors in the order in which the scorer trusts them."""
    return next(list(grade).index(name) for grade in grades if name in grade)


def flag_matrix(samples: Sequence[SampleRecord]) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float64]]]:
    """Items in the order of their positions, and a row of flags an item: 1 correct, 0 not, NaN error or missing."""
    items = list(dict.fromkeys(sample.item_id for sample in samples))
    row_of = {item: row for row, item in enumerate(items)}
    repeats = 1 + max((sample.repeat for sample in samples), default=0)
    flags = np.full((len(items), repeats), np.nan)
    for sample in samples:
        if sample.outcome != Outcome.ERROR:
            flags[row_of[sample.item_id], sample.repeat] = sample.outcome == Outcome.CORRECT
    return items, flags


def mean(values: Iterable[float | None]) -> float | None:
    """The mean, or None where there is no value or one of them is unknown."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    return float(np.mean([value for value in known if value is not None]))


def sampled_scores(
    samples: Sequence[SampleRecord], details: Mapping[Key, SampleDetail]
) -> dict[str, Interval]:
    """pass@k and maj@k for k = 1, 2, 4, ... up to the number of samples that every item has.

    For maj@k, all right answers are one answer; wrong answers are told apart by their text.
    """
    groups: dict[str, list[SampleRecord]] = {}
    for sample in samples:
        if sample.outcome != Outcome.ERROR:
            groups.setdefault(sample.item_id, []).append(sample)
    fewest = min((len(group) for group in groups.values()), default=0)
    if fewest < 2:
        return {}
    sizes = [2**power for power in range(20) if 2**power <= fewest]
    counts = [len(group) for group in groups.values()]
    scores: dict[str, Interval] = {}
    for k in sizes:
        passed = [pass_at_k(len(g), correct_of(g), k) for g in groups.values()]
        voted = [maj_at_k(*votes(g, details), k) for g in groups.values()]
        for name, values in (("pass", passed), ("maj", voted)):
            interval = share_interval([v for v in values if v is not None], num_repeats=np.array(counts) / k)
            if interval is not None and not (k == 1 and name == "maj"):
                scores[f"{name}@{k}"] = interval
    return scores


def correct_of(group: Sequence[SampleRecord]) -> int:
    return sum(sample.outcome == Outcome.CORRECT for sample in group)


def votes(
    group: Sequence[SampleRecord], details: Mapping[Key, SampleDetail]
) -> tuple[list[tuple[bool, str] | None], list[bool]]:
    answers: list[tuple[bool, str] | None] = []
    for sample in group:
        text = details[(sample.item_id, sample.repeat)].extracted
        if sample.outcome == Outcome.CORRECT:
            answers.append((True, ""))
        else:
            answers.append(None if text is None or sample.outcome != Outcome.WRONG else (False, text.strip()))
    return answers, [sample.outcome == Outcome.CORRECT for sample in group]


def groups_of(store: Store, job_key: str) -> dict[str, tuple[int, int]]:
    """Of a benchmark with subjects: correct and scored samples of each."""
    items = store.items()
    total: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for sample in store.samples(job_key):
        if sample.outcome != Outcome.ERROR:
            total[items[sample.item_id].task] += 1
            correct[items[sample.item_id].task] += sample.outcome == Outcome.CORRECT
    return {task: (correct[task], total[task]) for task in sorted(total)}
