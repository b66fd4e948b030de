"""How a study's models answer public benchmarks at the end of training: accuracy, outcomes, the cost of an answer.

Items are the same for every arm. Of a trained arm every seed answers each item (a crossed layout): its accuracy's
interval is over items and seeds. A given model answers once. Differences are paired by item, and by seed where both
sides were trained with the same seeds; a given model stands beside every seed. Their interval is the wider of items
crossed with seeds (`crossed.py`) and Bonett and Price's over items (`paired.py`). Replies that the harness failed on
are in neither accuracy nor difference; what was truncated or could not be read is not correct.

Models that are no arms, such as one behind an endpoint, answer the same items. FLOPs and money a correct answer: those
of all answers over the number that are correct; unknown where none is, or where an answer's are.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.arm_rows import interval_row, mean_or_none
from stillmark.analysis.intervals import accuracy_interval, accuracy_interval_over_seeds
from stillmark.analysis.lineage import Lineage, correctness
from stillmark.analysis.quantised import accuracy_difference
from stillmark.analysis.text_pairs import pairs_of
from stillmark.benchmark_plan import benchmarked_arms, found_benchmark
from stillmark.records import Outcome, SampleDetail, SampleRecord
from stillmark.study.benchmarks import Benchmarks
from stillmark.study.schema import QuantisedArm

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """One arm's replies to one benchmark: of every seed, or of a given model's one run, in the items' order."""

    arm: str
    items: list[str]
    runs: list[list[SampleRecord]]
    details: list[dict[tuple[str, int], SampleDetail]]

    @property
    def correct(self) -> FloatArray:
        """Items x runs: 1 correct, 0 not, NaN where the harness failed."""
        return np.stack([correctness(sample.outcome for sample in run) for run in self.runs], axis=1)


def benchmark_part(lineage: Lineage) -> dict[str, Any]:
    """The conclusion's part; a study that asks no benchmark has none."""
    asked = lineage.study.benchmarks
    if asked is None:
        return {}
    results, differences = [], []
    for name in asked.tasks:
        answered = {arm: found for arm in [*benchmarked_arms(lineage.study, asked), *asked.others]
                    if (found := answered_by(lineage, arm, name)) is not None}  # fmt: skip
        label, chance = label_of(asked, name), found_benchmark(asked, name).chance
        results += [result_row(label, chance, found) for found in answered.values()]
        for first, second, role in compared_arms(lineage, asked):
            if first in answered and second in answered:
                row = {"benchmark": label, "arm": first, "other": second, "role": role}
                differences.append(row | {"difference": paired(answered[first], answered[second])})
    settings = asked.model_dump(mode="json", exclude={"resolved", "data", "tasks"})
    files = {label_of(asked, name): found_benchmark(asked, name).origin for name in asked.tasks}
    return {
        "benchmarks": {"settings": settings, "files": files, "results": results, "differences": differences}
    }


def label_of(asked: Benchmarks, name: str) -> str:
    """The name that a report shows: of a user's task what its YAML calls it, with the mode where that was chosen."""
    _, at, mode = name.partition("@")
    return found_benchmark(asked, name).task + at + mode


def answered_by(lineage: Lineage, arm: str, name: str) -> Answered | None:
    """None where a seed has not answered all items."""
    keys = dict.fromkeys(lineage.plan.benchmark_keys[arm, seed, name] for seed in lineage.study.seeds)
    if not keys.keys() <= lineage.finished:
        return None
    runs = [sorted(lineage.store.samples(key), key=lambda sample: sample.position) for key in keys]
    items = [sample.item_id for sample in runs[0]]
    if any([sample.item_id for sample in run] != items for run in runs):
        raise ValueError(f"{name}: the seeds of {arm} were not asked the same items")
    return Answered(arm=arm, items=items, runs=runs, details=[lineage.store.details(key) for key in keys])


def result_row(label: str, chance: float | None, answered: Answered) -> dict[str, Any]:
    """One arm on one benchmark. Means are over replies that the harness did not fail on."""
    correct = answered.correct
    fine = [
        (sample, details[sample.item_id, sample.repeat])
        for run, details in zip(answered.runs, answered.details, strict=True)
        for sample in run
        if sample.outcome != Outcome.ERROR
    ]
    flops = [detail.flops for _, detail in fine]
    num_correct = int(np.nansum(correct))
    runs = [correct[:, index] for index in range(correct.shape[1])]
    accuracy = accuracy_interval_over_seeds(runs) if len(runs) > 1 else accuracy_interval(runs[0])
    return {
        "benchmark": label,
        "arm": answered.arm,
        "num_items": len(answered.items),
        "num_runs": len(runs),
        "accuracy": interval_row(accuracy),
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


def per_correct(costs: Sequence[float | None], num_correct: int) -> float | None:
    """What all answers took over the correct ones; unknown where one answer's cost is, or none is correct."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) / num_correct if num_correct and len(known) == len(costs) else None


def compared_arms(lineage: Lineage, asked: Benchmarks) -> Iterator[tuple[str, str, str]]:
    """(arm, other, what the other is to it): students beside controls, vanilla arms, teachers and models that are no
    arms; quantised beside float."""
    for pair in pairs_of(lineage):
        yield pair.student, pair.other, pair.role
    for name, arm in lineage.study.arms.items():
        if isinstance(arm, QuantisedArm):
            yield name, arm.parent, "float"
        elif arm.teacher:
            yield name, arm.teacher, "teacher"
            yield from ((name, other, "other") for other in asked.others)


def paired(first: Answered, second: Answered) -> dict[str, Any] | None:
    """Accuracy of the first less the second's, paired by item and seed; None where no item was answered by both."""
    if first.items != second.items:
        raise ValueError(f"{first.arm} and {second.arm} were not asked the same items")
    one, other = np.broadcast_arrays(first.correct, second.correct)
    found = accuracy_difference(one, other)
    return None if found is None else asdict(found)
