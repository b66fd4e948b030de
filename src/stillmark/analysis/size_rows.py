"""The claim "on par with vanilla models ten times its size", put to each student and each vanilla model so large."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stillmark.analysis.curves import Curve
from stillmark.analysis.differences import items_by_seed
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.size import size_claims

CLAIMED_FACTOR = 10.0


def size_claim_rows(lineage: Lineage, curves: Mapping[str, list[Curve]]) -> list[dict[str, Any]]:
    """One row a student and vanilla model: the verdict on the task, over its items and the seeds of both."""
    chosen = lineage.study.conclusion
    if chosen is None:
        return []
    rows = []
    for student in chosen.students:
        for vanilla in chosen.vanilla:
            task = lineage.study.task_of(student)
            if student not in curves or vanilla not in curves or lineage.study.task_of(vanilla) != task:
                continue
            claims = size_claims(
                {task: (items_by_seed(curves[student]), items_by_seed(curves[vanilla]))},
                student_params=lineage.plan.shape(student).params,
                vanilla_params=lineage.plan.shape(vanilla).params,
                claimed_factor=CLAIMED_FACTOR,
            )
            rows += [{"student": student, "vanilla": vanilla, "task": name, **asdict(claim)}
                     for name, claim in claims.items()]  # fmt: skip
    return rows
