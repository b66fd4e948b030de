"""Each student and control against the vanilla family: the compute ratio at equal accuracy, and its size in vanilla."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from stillmark.analysis.bootstrap import NUM_RESAMPLES, RANDOM_SEED, finite
from stillmark.analysis.curves import ArmRows, Curve
from stillmark.analysis.frontier import Ratio, ratio_at, ratio_numbers
from stillmark.analysis.intervals import accuracy_interval_over_seeds
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.resample import Resampled
from stillmark.analysis.shared_teacher import ratios_by_students
from stillmark.analysis.size import SizedResult, equivalent_size
from stillmark.compute.ledger import Boundary

ACCURACY_STEP = 0.05


class Family:
    """The vanilla arms that all are compared with, resampled once under every boundary."""

    def __init__(self, lineage: Lineage, curves: list[Curve]) -> None:
        self.lineage, self.curves = lineage, curves
        self.drawn = Resampled(curves, num_resamples=NUM_RESAMPLES, random_seed=RANDOM_SEED)
        self.rows = rows_within(self.drawn, lineage)
        self.sure_accuracy = max(sure_accuracy(seeds) for seeds in by_arm(curves).values())

    def beside(self, student: list[Curve]) -> dict[Boundary, list[ArmRows]]:
        """A student on the same items, its seeds drawn after the family's."""
        drawn = Resampled(student, num_resamples=NUM_RESAMPLES, random_seed=RANDOM_SEED, before=self.drawn)
        return rows_within(drawn, self.lineage)


def rows_within(drawn: Resampled, lineage: Lineage) -> dict[Boundary, list[ArmRows]]:
    return {boundary: drawn.within(lineage.extra_flops(boundary)) for boundary in Boundary}


def comparisons(lineage: Lineage, curves: Mapping[str, list[Curve]]) -> list[dict[str, Any]]:
    """One row a student and control that is recorded whole; none without a vanilla arm."""
    chosen = lineage.study.conclusion
    vanilla = [curve for arm in chosen.vanilla for curve in curves.get(arm, [])] if chosen else []
    if chosen is None or not vanilla:
        return []
    family = Family(lineage, vanilla)
    return [
        comparison(lineage, name, curves[name], family, is_control=name in chosen.controls)
        for name in [*chosen.students, *chosen.controls]
        if name in curves
    ]


def comparison(
    lineage: Lineage, name: str, student: list[Curve], family: Family, *, is_control: bool
) -> dict[str, Any]:
    """Vanilla compute / student compute at two accuracies, each a round number fixed before the ratio is worked out.

    `final`: the highest that the student surely ends with; `shared`: the highest that both sides surely end with.
    """
    chance = lineage.plan.tasks[lineage.study.task_of(name)].chance
    end = float(np.mean([np.nanmean(curve.points[-1].correct) for curve in student]))
    sure = sure_accuracy(student)
    shared = min(sure, family.sure_accuracy)
    accuracies = {"final": sure or end} | ({"shared": shared} if 0 < shared < sure else {})
    rows = family.beside(student)
    ratios = []
    for boundary in Boundary:
        for at, accuracy in accuracies.items():
            found = ratio_at(family.rows[boundary], rows[boundary], accuracy, chance, "isotonic", 0.95)
            ratios.append(ratio_row(at, str(boundary), found))
    by_students = ratios_by_students(family.rows, rows, accuracies["final"], chance=chance,
                                     students_per_teacher=lineage.students_per_teacher)  # fmt: skip
    params = {arm: lineage.plan.shape(arm).params for arm in [*by_arm(family.curves), name]}
    student_results, vanilla_results = (
        [
            SizedResult(params=params[curve.arm], seed=curve.seed, correct=curve.points[-1].correct)
            for curve in curves
        ]
        for curves in (student, family.curves)
    )
    size = equivalent_size(
        student_results, vanilla_results, num_resamples=NUM_RESAMPLES, random_seed=RANDOM_SEED
    )
    return {
        "arm": name,
        "is_control": is_control,
        "vanilla": sorted(by_arm(family.curves), key=lambda arm: params[arm]),
        "final_accuracy": end,
        "sure_accuracy": accuracies["final"],
        "shared_accuracy": accuracies.get("shared"),
        "ratios": ratios,
        "by_students": [
            {"students": students, **ratio_row("final", str(boundary), ratio)}
            for students, boundary, ratio in by_students
        ],
        "equivalent_params": asdict(size),
        "capability_density": asdict(size.density),
        "params": params[name],
    }


def by_arm(curves: list[Curve]) -> dict[str, list[Curve]]:
    return {
        arm: [curve for curve in curves if curve.arm == arm] for arm in dict.fromkeys(c.arm for c in curves)
    }


def sure_accuracy(seeds: list[Curve]) -> float:
    """The highest multiple of 5 points below the lower limit of an arm's accuracy at the end of training.

    Well inside what was reached, so that few resamples of a ratio end without reaching it.
    """
    interval = accuracy_interval_over_seeds([curve.points[-1].correct for curve in seeds])
    return 0.0 if interval is None else float(np.floor(interval.low / ACCURACY_STEP) * ACCURACY_STEP)


def ratio_row(at: str, boundary: str, ratio: Ratio) -> dict[str, Any]:
    return {
        "at": at,
        "boundary": boundary,
        "accuracy": ratio.at_accuracy,
        "vanilla_flops": finite(ratio.numerator.value),
        "student_flops": finite(ratio.denominator.value),
        "reached_by": ratio.numerator.reached_by,
        **ratio_numbers(ratio),
    }
