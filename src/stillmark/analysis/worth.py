"""What having an arm's answers takes in all: making it, shared with other students, and answering so many queries.

In FLOPs (counted) or CPU seconds (measured), within a boundary. Everything is worked out from a conclusion, and the
report's sliders work out the same again in the page (a test holds the two together).

    making(k)   = student + generation + teacher / k + base, those parts that the boundary counts; beside the base
                  only what of the teacher's making is not the base's
    total(k, Q) = making(k) + Q * answer
    per correct = total / (Q * accuracy)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillmark.analysis.economics import Way, break_even, total_cost
from stillmark.compute.ledger import PARTS_WITHIN, Boundary, Part

RESOURCES = ("flops", "cpu_seconds")
DEFAULT_QUERIES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One arm's costs in one resource, mean over seeds. None is unknown."""

    student: float | None
    generation: float | None
    teacher: float | None  # the whole of it, not shared
    base: float | None
    teacher_beside_base: float | None  # the whole of the teacher's making without what the base's took too
    answer: float | None  # of one query

    def making(self, boundary: Boundary, students: float) -> float | None:
        """Making the arm, the teacher shared by so many students."""
        teacher = self.teacher_beside_base if boundary is Boundary.EVERYTHING else self.teacher
        costs = {Part.STUDENT: self.student, Part.GENERATION: self.generation, Part.BASE: self.base,
                 Part.TEACHER: None if teacher is None else teacher / students}  # fmt: skip
        counted = [costs[part] for part in PARTS_WITHIN[boundary]]
        known = [float(cost) for cost in counted if cost is not None]
        return sum(known) if len(known) == len(counted) else None


def parts_of(conclusion: Mapping[str, Any], arm: Mapping[str, Any], resource: str) -> Parts:
    """The parts of an arm's cost, taken apart again from its costs by boundary."""
    by_boundary = arm[resource]
    own, generation, teacher, base, everything = (by_boundary[str(boundary)] for boundary in Boundary)

    def less(more: float | None, fewer: float | None) -> float | None:
        return None if more is None or fewer is None else more - fewer

    def unshared(share: float | None) -> float | None:
        return None if share is None else share * float(conclusion["students_per_teacher"])

    answer = arm["answer_flops"] if resource == "flops" else answer_cpu_seconds(conclusion, arm)
    return Parts(
        student=own,
        generation=less(generation, own),
        teacher=unshared(less(teacher, generation)),
        base=less(base, generation),
        teacher_beside_base=unshared(less(everything, base)),
        answer=answer,
    )


def answer_cpu_seconds(conclusion: Mapping[str, Any], arm: Mapping[str, Any]) -> float | None:
    """CPU seconds of one answer at the last checkpoint, measured in batches, on the machine that evaluated."""
    rows = [row for row in conclusion["ledger"] if (row["arm"], row["part"]) == (arm["arm"], "evaluate")]
    last = max((row["checkpoint"] for row in rows if row["checkpoint"] is not None), default=None)
    spent = [row["cpu_seconds"] for row in rows if row["checkpoint"] == last]
    num_samples: int = sum(arm["outcomes"].values())
    if not spent or any(seconds is None for seconds in spent) or not num_samples:
        return None
    return float(sum(spent)) / num_samples


def worth_rows(
    conclusion: Mapping[str, Any],
    *,
    student: str | None,
    queries: float = DEFAULT_QUERIES,
    students: float = 1,
    boundary: str = "student",
    resource: str = "flops",
) -> list[dict[str, Any]]:
    """Each arm's making, answer, total, cost per correct answer, and where it breaks even with the student."""
    within = Boundary(boundary)
    parts = {arm["arm"]: parts_of(conclusion, arm, resource) for arm in conclusion["arms"]}
    ways = {name: Way(name=name, fixed_cost=part.making(within, students), cost_per_query=part.answer)
            for name, part in parts.items()}  # fmt: skip
    rows = []
    for arm in conclusion["arms"]:
        name, way = arm["arm"], ways[arm["arm"]]
        share = arm["accuracy"]["value"] if arm["accuracy"] else None
        total = total_cost(way, queries)
        rows.append(
            {
                "arm": name,
                "accuracy": share,
                "making": way.fixed_cost,
                "answer": way.cost_per_query,
                "total": total,
                "per_correct": total / (queries * share) if total is not None and share and queries else None,
                "against": meeting(ways[student], way) if student in ways and student != name else None,
            }
        )
    return rows


def meeting(student: Way, other: Way) -> dict[str, Any]:
    """From how many queries on which of the two is the cheaper to have."""
    found = break_even(student, other)
    return {"queries": found.queries, "before": found.cheaper_before, "after": found.cheaper_after}


def flip_students(
    vanilla_flops: float | None, rest_flops: float | None, teacher_flops: float | None
) -> float | None:
    """The k at which a ratio is 1: vanilla = rest + teacher / k. Infinity where no sharing is enough, None unknown."""
    if vanilla_flops is None or rest_flops is None or teacher_flops is None:
        return None
    room = vanilla_flops - rest_flops
    return teacher_flops / room if room > 0 else float("inf")
