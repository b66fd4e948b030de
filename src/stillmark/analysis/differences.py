"""Accuracy of one arm less that of another at the end of training: what a student has over its controls.

Items are the same for both sides and drawn jointly, seeds are drawn for each arm. The interval is the wider of two:
the percentile bootstrap over items and seeds, which is too narrow where the two hardly ever disagree, and Bonett
and Price's paired interval over items (`paired.py`), which knows nothing of seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from stillmark.analysis.bootstrap import NUM_RESAMPLES, FloatArray
from stillmark.analysis.curves import Curve, CurvePoint
from stillmark.analysis.intervals import Interval
from stillmark.analysis.paired import Clusters, paired_difference
from stillmark.analysis.resample import resampled_arms
from stillmark.study import Study


class EndDifference:
    """Mean accuracy over seeds at the last checkpoint, the first arm's less the second's, on data and resamples."""

    def __init__(
        self,
        first: Sequence[Curve],
        second: Sequence[Curve],
        *,
        num_resamples: int = NUM_RESAMPLES,
        random_seed: int = 0,
        clusters: Clusters = None,
    ) -> None:
        """`clusters`: of the items, drawn whole."""
        ends = [last_point(curve) for curve in [*first, *second]]
        one, other = resampled_arms(
            ends,
            num_resamples=num_resamples,
            random_seed=random_seed,
            clusters=None if clusters is None else list(clusters),
        )
        self.rows = one.accuracy[:, 0] - other.accuracy[:, 0]
        self.least_seeds = min(one.num_seeds, other.num_seeds)
        self._answers, self._clusters = (items_by_seed(first), items_by_seed(second)), clusters

    def interval(self, confidence: float = 0.95) -> Interval:
        """The wider of two, as the module says."""
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.rows[1:], [tail, 1 - tail])
        paired = paired_difference(*self._answers, clusters=self._clusters, confidence=confidence)
        note = "one seed on a side: the variance between its seeds is not in the interval"
        return Interval(
            value=float(self.rows[0]),
            low=float(low if paired is None else min(low, paired.low)),
            high=float(high if paired is None else max(high, paired.high)),
            confidence=confidence,
            method="wider of bootstrap over items and seeds, and Bonett-Price over items",
            note=note if self.least_seeds == 1 else None,
        )

    @property
    def p_value(self) -> float:
        """Two-sided, of "no difference": the largest at which the bootstrap's interval does not hold 0 any more."""
        rows = self.rows[1:]
        smaller = min(int((rows <= 0).sum()), int((rows >= 0).sum()))
        return min(1.0, 2 * (1 + smaller) / (1 + len(rows)))


def final_difference(
    first: Sequence[Curve], second: Sequence[Curve], *, confidence: float = 0.95
) -> Interval:
    """The interval of `EndDifference`."""
    return EndDifference(first, second).interval(confidence)


def last_point(curve: Curve) -> Curve:
    """The end of a curve alone, at one nominal compute, so that seeds of unequal budgets can be averaged."""
    point = CurvePoint(flops=1.0, correct=curve.points[-1].correct)
    return Curve(arm=curve.arm, seed=curve.seed, points=(point,))


def items_by_seed(curves: Sequence[Curve]) -> FloatArray:
    """Correctness of each item at the end, one column a seed."""
    return np.stack([np.asarray(curve.points[-1].correct, dtype=np.float64) for curve in curves], axis=1)


def difference_rows(study: Study, curves: Mapping[str, list[Curve]]) -> list[dict[str, Any]]:
    """Each student against each control, its teacher, and each size of the vanilla family, on the same items.

    `curves`: of the arms that are recorded whole. `role` says what the second arm is to the first.
    """
    chosen = study.conclusion
    if chosen is None:
        return []
    rows = []
    for student in chosen.students:
        teacher = study.arms[student].teacher
        others = [(arm, "control") for arm in chosen.controls]
        others += [(teacher, "teacher")] if teacher else []
        others += [(arm, "vanilla") for arm in chosen.vanilla]
        for other, role in others:
            same_items = study.task_of(other) == study.task_of(student)
            if student in curves and other in curves and other != student and same_items:
                interval = final_difference(curves[student], curves[other])
                rows.append({"first": student, "second": other, "role": role, "difference": asdict(interval)})
    return rows
