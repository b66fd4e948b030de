"""One arm as a conclusion holds it: what it is, how well it does at the end, what it took, and its curve."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.bootstrap import NUM_RESAMPLES, RANDOM_SEED
from stillmark.analysis.curves import Curve
from stillmark.analysis.equal_compute import band_of
from stillmark.analysis.intervals import Interval, accuracy_interval, accuracy_interval_over_seeds
from stillmark.analysis.lineage import Lineage, correctness
from stillmark.analysis.resample import Resampled
from stillmark.compute.flops import generate_flops
from stillmark.compute.ledger import Boundary
from stillmark.compute.model_shape import ModelShape
from stillmark.records import ItemRecord
from stillmark.study.schema import QuantisedArm


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What an arm replied to the held-out items with one seed, a column each: a row object a sample takes too long."""

    item_ids: list[str]
    outcomes: list[str]
    correct: npt.NDArray[np.float64]
    prompt_tokens: npt.NDArray[np.int64]
    generated_tokens: npt.NDArray[np.int64]

    @classmethod
    def of(cls, lineage: Lineage, job_key: str) -> "Answers":
        """Those of one evaluation."""
        rows = lineage.store.sample_columns(
            job_key, "item_id", "outcome", "prompt_tokens", "generated_tokens"
        )
        items, outcomes, prompt, generated = (list(column) for column in zip(*rows, strict=True))
        return cls(item_ids=items, outcomes=outcomes, correct=correctness(outcomes),
                   prompt_tokens=np.array(prompt), generated_tokens=np.array(generated))  # fmt: skip

    @classmethod
    def together(cls, parts: Sequence["Answers"]) -> "Answers":
        """Those of all seeds, one after another."""
        return cls(
            item_ids=[item for part in parts for item in part.item_ids],
            outcomes=[outcome for part in parts for outcome in part.outcomes],
            correct=np.concatenate([part.correct for part in parts]),
            prompt_tokens=np.concatenate([part.prompt_tokens for part in parts]),
            generated_tokens=np.concatenate([part.generated_tokens for part in parts]),
        )


def arm_row(lineage: Lineage, arm: str, curves: list[Curve], items: dict[str, ItemRecord]) -> dict[str, Any]:
    """One arm: what it is, how well it does at the end, what it took, and its curve."""
    spec, shape = lineage.study.arms[arm], lineage.plan.shape(arm)
    last = {seed: lineage.checkpoint_costs(arm, seed)[-1] for seed in lineage.study.seeds}
    answers = {
        seed: Answers.of(lineage, lineage.evaluation(arm, seed, cost.index).key)
        for seed, cost in last.items()
    }
    everything = Answers.together(list(answers.values()))
    traces: Counter[str] = Counter()
    for seed in lineage.study.seeds:
        traces.update({str(outcome): count for outcome, count in lineage.traces(arm, seed).items()})
    return {
        "arm": arm,
        "kind": spec.kind,
        "model": spec.model,
        "params": shape.params,
        "matmul_params": shape.matmul_params,
        "text": spec.training.text,
        "loss": spec.training.loss,
        "learning_rate": spec.training.learning_rate,
        "teacher": spec.teacher,
        "base": spec.base,
        "accuracy": interval_row(
            accuracy_interval_over_seeds([one.correct for one in answers.values()])
        ),
        "accuracy_by_seed": {str(seed): interval_row(accuracy_interval(one.correct))
                             for seed, one in answers.items()},
        "accuracy_by_level": by_level(everything, items),
        "outcomes": dict(Counter(everything.outcomes)),
        "num_items": len(set(everything.item_ids)),
        "flops": {str(b): float(np.mean([cost.within(b).flops for cost in last.values()])) for b in Boundary},
        "cpu_seconds": {str(b): float(np.mean([cost.within(b).cpu_seconds for cost in last.values()]))
                        for b in Boundary},
        "joules": {str(b): mean_or_none([cost.within(b).joules for cost in last.values()]) for b in Boundary},
        "prompt_tokens": float(np.mean(everything.prompt_tokens)),
        "generated_tokens": float(np.mean(everything.generated_tokens)),
        "answer_flops": mean_answer_flops(shape, everything),
        "traces": dict(traces),
        "curve": curve_rows(lineage, curves),
        **({"quantised_from": spec.parent, "format": spec.format} if isinstance(spec, QuantisedArm) else {}),
    }  # fmt: skip


def mean_answer_flops(shape: ModelShape, answers: Answers) -> float:
    """FLOPs of an answer by formula; answers of the same lengths take the same."""
    lengths = np.stack([answers.prompt_tokens, answers.generated_tokens], axis=1)
    kinds, kind_of = np.unique(lengths, axis=0, return_inverse=True)
    flops = [generate_flops(shape, prompt_tokens=prompt, new_tokens=new) for prompt, new in kinds.tolist()]
    return float(np.mean(np.array(flops)[kind_of.reshape(-1)]))


def by_level(answers: Answers, items: dict[str, ItemRecord]) -> list[dict[str, Any]]:
    """Accuracy at each difficulty, clustered by item over seeds."""
    levels = np.array([items[item_id].level for item_id in answers.item_ids])
    number_of = {item_id: number for number, item_id in enumerate(sorted(set(answers.item_ids)))}
    clusters = np.array([number_of[item_id] for item_id in answers.item_ids])
    rows = []
    for level in np.unique(levels).tolist():
        is_chosen = levels == level
        interval = accuracy_interval(answers.correct[is_chosen], clusters=clusters[is_chosen])
        rows.append({"level": level, "accuracy": interval_row(interval)})
    return rows


def curve_rows(lineage: Lineage, curves: list[Curve]) -> dict[str, list[dict[str, float]]]:
    """Mean accuracy over seeds with its pointwise band, over compute within each boundary.

    An arm that is evaluated once has one point, at its seeds' mean compute: they need not have spent the same.
    """
    if all(len(curve.points) == 1 for curve in curves):
        return {str(boundary): [one_point(lineage, curves, boundary)] for boundary in Boundary}
    drawn = Resampled(curves, num_resamples=NUM_RESAMPLES, random_seed=RANDOM_SEED)
    (own,) = drawn.within(0.0)
    band = band_of(own, confidence=0.95)
    rows = {}
    for boundary in Boundary:  # a boundary moves compute alone
        (arm,) = drawn.within(lineage.extra_flops(boundary))
        flops = np.exp(arm.log_flops) + arm.extra_flops[0]
        rows[str(boundary)] = [
            dict(zip(("flops", "accuracy", "low", "high"), map(float, row), strict=True))
            for row in zip(flops, band.accuracy, band.low, band.high, strict=True)
        ]
    return rows


def one_point(lineage: Lineage, curves: list[Curve], boundary: Boundary) -> dict[str, float]:
    extra = lineage.extra_flops(boundary)
    flops = [curve.points[0].flops + extra(curve, curve.points[0]) for curve in curves]
    found = accuracy_interval_over_seeds([curve.points[0].correct for curve in curves])
    assert found is not None, "an arm that is recorded whole has answers"
    return {"flops": float(np.mean(flops)), "accuracy": found.value, "low": found.low, "high": found.high}


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean; unknown where one is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def interval_row(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else asdict(interval)
