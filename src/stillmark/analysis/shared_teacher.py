"""The compute ratio as a function of k, the number of students that share the teacher's making.

k is the input of a claim on distillation that is never published, and the one that moves it most. The curves are
resampled once; only what the boundary adds to them changes with k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stillmark.analysis.curves import ArmRows
from stillmark.analysis.frontier import Ratio, ratio_at
from stillmark.compute.ledger import Boundary

STUDENTS = (1, 2, 3, 5, 10, 20, 50, 100, 1000)
# The boundaries that k moves, and those that they are without the teacher
SHARED = {Boundary.TEACHER: Boundary.GENERATION, Boundary.EVERYTHING: Boundary.BASE}


def ratios_by_students(
    vanilla: Mapping[Boundary, Sequence[ArmRows]],
    student: Mapping[Boundary, Sequence[ArmRows]],
    accuracy: float,
    *,
    students_per_teacher: int,
    chance: float | None,
) -> list[tuple[int, Boundary, Ratio]]:
    """Vanilla compute over the student's at the accuracy, for each k and each boundary that the teacher is in.

    Both sides resampled, under the boundaries from generation on, with the teacher shared by `students_per_teacher`.
    """
    found = []
    for students in STUDENTS:
        factor = students_per_teacher / students
        for boundary, without in SHARED.items():
            above, below = (
                [shared(arm, plain, factor) for arm, plain in zip(side[boundary], side[without], strict=True)]
                for side in (vanilla, student)
            )
            found.append((students, boundary, ratio_at(above, below, accuracy, chance, "isotonic", 0.95)))
    return found


def shared(arm: ArmRows, plain: ArmRows, factor: float) -> ArmRows:
    """The arm with the teacher's part of its compute multiplied: what a boundary adds is linear in its parts."""
    return replace(arm, extra_flops=plain.extra_flops + factor * (arm.extra_flops - plain.extra_flops))
