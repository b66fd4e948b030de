"""The compute ratio as a function of k, the number of students that share the teacher's making.

k is the input of a claim on distillation that is never published, and the one that moves it most. The curves are
resampled once; only what the boundary adds to them changes with k.
"""

from collections.abc import Sequence
from dataclasses import replace

from stillmark.analysis.bootstrap import NUM_RESAMPLES, FloatArray
from stillmark.analysis.curves import ArmRows, Curve, isotonic, resampled_arms
from stillmark.analysis.frontier import Ratio, ratio_at
from stillmark.analysis.lineage import Lineage
from stillmark.compute.ledger import Boundary

STUDENTS = (1, 2, 3, 5, 10, 20, 50, 100, 1000)
SHARED = (Boundary.TEACHER, Boundary.EVERYTHING)  # the boundaries that k moves


def ratios_by_students(
    lineage: Lineage,
    vanilla: Sequence[Curve],
    student: Sequence[Curve],
    accuracy: float,
    *,
    chance: float | None,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
) -> list[tuple[int, Boundary, Ratio]]:
    """Vanilla compute over the student's at the accuracy, for each k and each boundary that the teacher is in."""
    sides = [*vanilla, *student]
    rows = {
        boundary: resampled_arms(sides, extra_flops=[lineage.extra_flops(boundary)] * len(sides),
                                 num_resamples=num_resamples, random_seed=random_seed)
        for boundary in (Boundary.GENERATION, *SHARED)
    }  # fmt: skip
    fits = [isotonic(arm.accuracy) for arm in rows[Boundary.GENERATION]]
    names = {curve.arm for curve in vanilla}
    found = []
    for students in STUDENTS:
        for boundary in SHARED:
            arms = [
                shared(arm, plain, taught, fit, lineage.students_per_teacher / students)
                for arm, plain, taught, fit in zip(
                    rows[boundary], rows[Boundary.GENERATION], rows[Boundary.TEACHER], fits, strict=True
                )
            ]
            above = [arm for arm in arms if arm.arm in names]
            below = [arm for arm in arms if arm.arm not in names]
            found.append((students, boundary, ratio_at(above, below, accuracy, chance, "isotonic", 0.95)))
    return found


def shared(arm: ArmRows, plain: ArmRows, taught: ArmRows, fit: FloatArray, factor: float) -> ArmRows:
    """The arm with the teacher's part of its compute multiplied: what a boundary adds is linear in its parts."""
    teacher = taught.extra_flops - plain.extra_flops
    return replace(arm, extra_flops=arm.extra_flops + (factor - 1) * teacher, fit=fit)
