"""How a study's models answer public benchmarks: accuracy over compute, outcomes, the cost of an answer.

Items are the same for every arm. Of a trained arm every seed answers each item (a crossed layout): its accuracy's
interval is over items and seeds. A given model answers once. Differences are paired by item, and by seed where both
sides were trained with the same seeds; a given model stands beside every seed. Their interval is the wider of items
crossed with seeds (`crossed.py`) and Bonett and Price's over items (`paired.py`). Replies that the harness failed on
are in neither accuracy nor difference; what was truncated or could not be read is not correct.

Models that are no arms, such as one behind an endpoint, answer the same items. FLOPs and money a correct answer: those
of all answers over the number that are correct; unknown where none is, or where an answer's are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stillmark.analysis.arm_rows import interval_row, mean_or_none
from stillmark.analysis.bootstrap import FloatArray
from stillmark.analysis.curves import Curve
from stillmark.analysis.frontier import ratio_numbers
from stillmark.analysis.intervals import Interval, accuracy_interval, accuracy_interval_over_seeds
from stillmark.analysis.lineage import Lineage, correctness
from stillmark.analysis.quantised import accuracy_difference
from stillmark.analysis.text_pairs import pairs_of, ratios_at_ends, training_tokens
from stillmark.benchmark_plan import checkpoints_asked, found_benchmark, label_of
from stillmark.compute.ledger import Boundary
from stillmark.records import Outcome, SampleRecord
from stillmark.study.benchmarks import Benchmarks
from stillmark.study.schema import QuantisedArm

UNKNOWN_RATIO = {
    **dict.fromkeys(("accuracy", "value", "low", "high", "bound")), "text": "unknown", "censored": "unknown",
    "method": "counted over counted", "notes": ["what a given model took to make is not recorded"],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """One model's replies to one benchmark: of every seed, or of a given model's one run, in the items' order."""

    arm: str
    items: list[str]
    is_seeded: bool  # whether another seed could have given other replies
    keys: list[str]  # of the jobs, one a run
    runs: list[list[SampleRecord]]

    @cached_property
    def correct(self) -> FloatArray:
        """Items x runs: 1 correct, 0 not, NaN where the harness failed."""
        return np.stack([correctness(sample.outcome for sample in run) for run in self.runs], axis=1)


def benchmark_part(lineage: Lineage) -> dict[str, Any]:
    """The conclusion's part; a study that asks no benchmark has none."""
    asked = lineage.study.benchmarks
    if asked is None:
        return {}
    results, differences, curves, ratios = [], [], [], []
    for name in asked.tasks:
        along = {who: [answered_by(lineage, who, name, checkpoint) for checkpoint in checkpoints]
                 for who, checkpoints in checkpoints_asked(lineage.study, asked).items()}  # fmt: skip
        last = {arm: answers[-1] for arm, answers in along.items() if answers[-1] is not None}
        label, chance = label_of(asked, name), found_benchmark(asked, name).chance
        results += [result_row(lineage, label, chance, answers) for answers in last.values()]
        for first, second, role in compared_arms(lineage, asked):
            if first in last and second in last:
                row = {"benchmark": label, "arm": first, "other": second, "role": role}
                differences.append(row | {"difference": paired(last[first], last[second])})
        whole = {arm: [one for one in answers if one is not None] for arm, answers in along.items()
                 if len(answers) > 1 and None not in answers}  # fmt: skip
        curves += curve_rows(lineage, label, whole)
        ratios += ratio_rows(lineage, label, whole)
    settings = asked.model_dump(mode="json", exclude={"resolved", "data", "tasks", "other_readers"})
    files = {label_of(asked, name): found_benchmark(asked, name).origin for name in asked.tasks}
    part = {"settings": settings, "files": files, "results": results, "differences": differences}
    return {"benchmarks": part | {"curve": curves, "ratios": ratios}}


def answered_by(lineage: Lineage, arm: str, name: str, checkpoint: int | None) -> Answered | None:
    """None where a seed has not answered all items."""
    seeds = lineage.study.seeds
    keys = list(dict.fromkeys(lineage.plan.benchmark_keys[arm, seed, name, checkpoint] for seed in seeds))
    if not lineage.finished.issuperset(keys):
        return None
    runs = [sorted(lineage.store.samples(key), key=lambda sample: sample.position) for key in keys]
    items = [sample.item_id for sample in runs[0]]
    if any([sample.item_id for sample in run] != items for run in runs):
        raise ValueError(f"{name}: the seeds of {arm} were not asked the same items")
    spec = lineage.study.arms.get(arm)
    is_seeded = spec is not None and spec.recipe is not None
    return Answered(arm=arm, items=items, is_seeded=is_seeded, keys=keys, runs=runs)


def curve_rows(lineage: Lineage, label: str, whole: Mapping[str, list[Answered]]) -> list[dict[str, Any]]:
    """Accuracy at each checkpoint, and the mean FLOPs over seeds within each boundary."""
    rows = []
    for arm, along in whole.items():
        costs = [lineage.checkpoint_costs(arm, seed) for seed in lineage.study.seeds]
        for index, answers in enumerate(along):
            rows.append(
                {
                    "benchmark": label, "arm": arm, "checkpoint": index,
                    "tokens": training_tokens(lineage, arm, index), "accuracy": interval_row(accuracy_of(answers)),
                    "flops": {str(b): mean_or_none([seed[index].within(b).flops for seed in costs]) for b in Boundary},
                }
            )  # fmt: skip
    return rows


def ratio_rows(lineage: Lineage, label: str, whole: Mapping[str, list[Answered]]) -> list[dict[str, Any]]:
    """The other's compute over the student's at the accuracy with which either ends, by boundary (`frontier.py`)."""
    rows = []
    for pair in pairs_of(lineage):
        if pair.student not in whole or pair.other not in whole:
            continue
        sides = [accuracy_curves(lineage, whole[arm]) for arm in (pair.other, pair.student)]
        for at, boundary, ratio in ratios_at_ends(lineage, *sides, student=pair.student, other=pair.other):
            named = {
                "benchmark": label,
                "student": pair.student,
                "other": pair.other,
                "at": at,
                "boundary": str(boundary),
            }
            found = (
                UNKNOWN_RATIO if ratio is None else {"accuracy": ratio.at_accuracy, **ratio_numbers(ratio)}
            )
            rows.append(named | found)
    return rows


def accuracy_curves(lineage: Lineage, along: list[Answered]) -> list[Curve]:
    """One a seed: correctness of each item at each checkpoint."""
    return [
        lineage.curve_of(along[0].arm, seed, [answers.correct[:, index] for answers in along])
        for index, seed in enumerate(lineage.study.seeds)
    ]


def result_row(lineage: Lineage, label: str, chance: float | None, answered: Answered) -> dict[str, Any]:
    """One model on one benchmark. Means are over replies that the harness did not fail on."""
    correct = answered.correct
    details_of = map(lineage.store.details, answered.keys)
    fine = [
        (sample, details[sample.item_id, sample.repeat])
        for run, details in zip(answered.runs, details_of, strict=True)
        for sample in run
        if sample.outcome != Outcome.ERROR
    ]
    flops = [detail.flops for _, detail in fine]
    num_correct = int(np.nansum(correct))
    return {
        "benchmark": label,
        "arm": answered.arm,
        "num_items": len(answered.items),
        "num_runs": correct.shape[1],
        "accuracy": interval_row(accuracy_of(answered)),
        "chance": chance,
        "outcomes": dict(Counter(str(sample.outcome) for run in answered.runs for sample in run)),
        "prompt_tokens": mean_or_none([sample.prompt_tokens for sample, _ in fine]),
        "generated_tokens": mean_or_none([sample.generated_tokens for sample, _ in fine]),
        "answer_flops": mean_or_none(flops),
        "answer_usd": mean_or_none(prices := [detail.price_usd for _, detail in fine]),
        "usd_per_correct": per_correct(prices, num_correct),
        "answer_seconds": mean_or_none([sample.seconds for sample, _ in fine]),
        "flops_per_correct": per_correct(flops, num_correct),
    }


def accuracy_of(answered: Answered) -> Interval | None:
    runs = list(answered.correct.T)
    return accuracy_interval_over_seeds(runs) if answered.is_seeded else accuracy_interval(runs[0])


def per_correct(costs: Sequence[float | None], num_correct: int) -> float | None:
    """What all answers took over the correct ones; unknown where one answer's cost is, or none is correct."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) / num_correct if num_correct and len(known) == len(costs) else None


def compared_arms(lineage: Lineage, asked: Benchmarks) -> Iterator[tuple[str, str, str]]:
    """(arm, other, what the other is to it): students beside controls, vanilla arms and teachers; quantised arms beside
    float ones; every other arm beside the models that are no arms."""
    for pair in pairs_of(lineage):
        yield pair.student, pair.other, pair.role
    for name, arm in lineage.study.arms.items():
        if isinstance(arm, QuantisedArm):
            yield name, arm.parent, "float"
            continue
        if arm.teacher:
            yield name, arm.teacher, "teacher"
        yield from ((name, other, "other") for other in asked.others)


def paired(first: Answered, second: Answered) -> dict[str, Any] | None:
    """Accuracy of the first less the second's, paired by item and seed; None where no item was answered by both."""
    if first.items != second.items:
        raise ValueError(f"{first.arm} and {second.arm} were not asked the same items")
    one, other = np.broadcast_arrays(first.correct, second.correct)
    found = accuracy_difference(one, other)
    return None if found is None else asdict(found)
