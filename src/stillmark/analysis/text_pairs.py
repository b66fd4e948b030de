"""A text study's students beside the arms that they are held against: differences, compute ratios, what was matched.

Differences are paired: the same sequences and, with the same seed, the same order of data on both sides; each pair of
seeds is one run of the comparison. At equal compute each side's sequences are interpolated in log compute between its
checkpoints, as measured, over the range that both sides cover; nothing is extrapolated. Ratios of compute are
`frontier.py`'s, at the quality with which either side ends, in each resample its own; there the seeds of the two sides
are drawn apart, which is at least as wide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.bootstrap import NUM_RESAMPLES, RANDOM_SEED, finite
from stillmark.analysis.crossed import ratio_of_sums
from stillmark.analysis.curves import Curve
from stillmark.analysis.frontier import Ratio, compute_ratios_at_ends, ratio_numbers
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.text_scores import COMPARED, TextResult, estimate_row
from stillmark.compute.ledger import Boundary

NUM_ALONG = 7  # compute values at which the two sides are compared, evenly spaced in log compute
MATCH_BOUNDARY = {"compute": Boundary.STUDENT, "compute_with_teacher": Boundary.GENERATION}
ENDS = ("other's end", "student's end")  # at which ratios are taken
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Who is held against whom. `match`: what a control was given, None for others."""

    student: str
    other: str
    role: str
    match: str | None


def pairs_of(lineage: Lineage) -> list[Pair]:
    """Each student beside its own control, then beside what the study's conclusion names."""
    study = lineage.study
    found = [
        Pair(student=name, other=f"{name}-control", role="control", match=arm.control.match)
        for name, arm in study.arms.items()
        if arm.control
    ]
    chosen = study.conclusion
    for student in chosen.students if chosen else ():
        others = [(arm, "control") for arm in chosen.controls] if chosen else []
        others += [(arm, "vanilla") for arm in chosen.vanilla] if chosen else []
        for other, role in others:
            is_known = any((pair.student, pair.other) == (student, other) for pair in found)
            if other != student and not is_known and study.task_of(other) == study.task_of(student):
                found.append(Pair(student=student, other=other, role=role, match=None))
    return found


def pair_rows(lineage: Lineage, results: Mapping[str, TextResult]) -> list[dict[str, Any]]:
    """One row a pair whose two sides are recorded whole."""
    return [
        pair_row(lineage, pair, results[pair.student], results[pair.other])
        for pair in pairs_of(lineage)
        if pair.student in results and pair.other in results
    ]


def pair_row(lineage: Lineage, pair: Pair, student: TextResult, other: TextResult) -> dict[str, Any]:
    along = {str(b): along_rows(lineage, student, other, b) for b in Boundary}
    return {
        "student": pair.student,
        "other": pair.other,
        "role": pair.role,
        "match": pair.match,
        "spent": spent_row(lineage, pair),
        "final": {m: estimate_row(difference(student, other, m)) for m in COMPARED},
        "final_by_source": [
            {
                "source": source,
                **{m: estimate_row(difference(student, other, m, student.held_out.of_source(source)))
                   for m in COMPARED},
            }
            for source in dict.fromkeys(student.held_out.sources)
        ],
        "along": along,
        "ratios": ratio_rows(lineage, student, other),
    }  # fmt: skip


def spent_row(lineage: Lineage, pair: Pair) -> dict[str, Any]:
    """What both sides spent to the end, counted, mean over seeds, and how far the matched amounts are apart."""

    def spent(arm: str) -> dict[str, Any]:
        last = [lineage.checkpoint_costs(arm, seed)[-1] for seed in lineage.study.seeds]
        amounts = {str(b): [cost.within(b).flops for cost in last] for b in Boundary}
        return {
            "flops": {b: None if None in values else float(np.mean(values)) for b, values in amounts.items()},  # type: ignore[arg-type]
            "tokens": training_tokens(lineage, arm, -1),
            "steps": mean_at(lineage, arm, -1, "step"),
        }

    student, other = spent(pair.student), spent(pair.other)
    boundary = MATCH_BOUNDARY.get(pair.match or "", Boundary.GENERATION)
    if pair.match in ("tokens", "steps"):
        unit, sides = pair.match, (student[pair.match], other[pair.match])
    else:
        unit, sides = "FLOPs", (student["flops"][boundary], other["flops"][boundary])
    return {
        "student": student,
        "other": other,
        "boundary": str(boundary),
        "unit": unit,
        "other_over_student": None if None in sides else sides[1] / sides[0],
    }


def training_tokens(lineage: Lineage, arm: str, checkpoint: int) -> float | None:
    """Tokens that were trained on up to a checkpoint, mean over seeds; None for a given model."""
    return mean_at(lineage, arm, checkpoint, "tokens")


def mean_at(lineage: Lineage, arm: str, checkpoint: int, column: str) -> float | None:
    """Mean over seeds of what the records of a checkpoint say; None for a given model, which has no training."""
    if lineage.study.arms[arm].recipe is None:
        return None
    keys = [lineage.plan.train_keys[arm, seed] for seed in lineage.study.seeds]
    return float(np.mean([getattr(lineage.store.checkpoints(key)[checkpoint], column) for key in keys]))


def difference(
    student: TextResult, other: TextResult, measure: str, chosen: npt.NDArray[np.bool_] | None = None
) -> Any:
    """The student's measure less the other's at the end of training, paired; below 0 the student is better."""
    first, second = student.amounts(measure), other.amounts(measure)
    if first is None or second is None:
        return None
    part = slice(None) if chosen is None else chosen
    apart = (first[:, -1] - second[:, -1])[:, part]  # a given model's one row stands beside every seed
    return ratio_of_sums(apart, student.sizes(measure)[part])


def log_flops(lineage: Lineage, arm: str, boundary: Boundary) -> list[FloatArray] | None:
    """By seed, log compute of each checkpoint within a boundary; None where it is unknown."""
    rows = []
    for seed in lineage.study.seeds:
        amounts = [cost.within(boundary).flops for cost in lineage.checkpoint_costs(arm, seed)]
        if any(amount is None or amount <= 0 for amount in amounts):
            return None
        rows.append(np.log(np.array(amounts, dtype=np.float64)))
    return rows


def along_rows(
    lineage: Lineage, student: TextResult, other: TextResult, boundary: Boundary
) -> list[dict[str, Any]]:
    """Paired differences at equal compute, from the least to the most that both sides' seeds all cover."""
    first, second = (log_flops(lineage, side.arm, boundary) for side in (student, other))
    if first is None or second is None:
        return []
    both = [*first, *second]
    start, end = max(float(row[0]) for row in both), min(float(row[-1]) for row in both)
    if start > end:
        return []
    grid = np.linspace(start, end, NUM_ALONG) if end > start else np.array([end])
    rows = []
    for at in grid:
        row: dict[str, Any] = {"flops": float(np.exp(at))}
        for measure in COMPARED:
            one, two = student.amounts(measure), other.amounts(measure)
            if one is None or two is None:
                row[measure] = None
                continue
            apart = np.stack([interpolated(at, first[k], one[k]) - interpolated(at, second[k], two[k])
                              for k in range(len(first))])  # fmt: skip
            row[measure] = estimate_row(ratio_of_sums(apart, student.sizes(measure)))
        rows.append(row)
    return rows


def interpolated(at: float, log_flops: FloatArray, amounts: FloatArray) -> FloatArray:
    """Per sequence, linear in log compute between checkpoints; `amounts`: checkpoints x sequences."""
    mix = np.array([np.interp(at, log_flops, unit) for unit in np.eye(len(log_flops))])
    mixed: FloatArray = mix @ amounts
    return mixed


def ratio_rows(lineage: Lineage, student: TextResult, other: TextResult) -> list[dict[str, Any]]:
    """The other's compute over the student's at equal quality, by measure, by whose end, by boundary."""
    rows = []
    for measure in COMPARED:
        sides = [curves_of(lineage, side, measure) for side in (other, student)]
        if not all(sides):  # no divergence is known of a student of another vocabulary than its teacher's
            continue
        for at, boundary, ratio in ratios_at_ends(lineage, *sides, student=student.arm, other=other.arm):
            if ratio is None:
                rows.append(unknown_ratio(measure, at, boundary))
            else:
                rows.append(ratio_row(measure, at, boundary, ratio))
    return rows


def ratios_at_ends(
    lineage: Lineage, above: Sequence[Curve], below: Sequence[Curve], *, student: str, other: str
) -> Iterator[tuple[str, Boundary, Ratio | None]]:
    """(whose end, boundary, the other's compute over the student's there), the ratio None where the boundary holds what
    is not recorded. `above` and `below` are the curves of the other and of the student; none without them."""
    for boundary in Boundary:
        if any(log_flops(lineage, arm, boundary) is None for arm in (student, other)):
            yield from ((at, boundary, None) for at in ENDS)
            continue
        if not above or not below:
            continue
        extra = lineage.extra_flops(boundary)
        found = compute_ratios_at_ends(
            above, below, numerator_extra_flops=extra, denominator_extra_flops=extra,
            num_resamples=NUM_RESAMPLES, random_seed=RANDOM_SEED,
        )  # fmt: skip
        yield from ((at, boundary, ratio) for at, ratio in zip(ENDS, found, strict=True))


def curves_of(lineage: Lineage, result: TextResult, measure: str) -> list[Curve]:
    """Curves in which more is better: the negative of the measure, weighted by bytes or tokens."""
    amounts, sizes = result.amounts(measure), result.sizes(measure)
    if amounts is None:
        return []
    seeds = lineage.study.seeds[: len(amounts)]
    return [
        lineage.curve_of(result.arm, seed, [-row / sizes for row in amounts[index]], sizes)
        for index, seed in enumerate(seeds)
    ]


def ratio_row(measure: str, at: str, boundary: Boundary, ratio: Ratio) -> dict[str, Any]:
    return {
        "measure": measure,
        "at": at,
        "boundary": str(boundary),
        "quality": -ratio.at_accuracy,
        "other_flops": finite(ratio.numerator.value),
        "student_flops": finite(ratio.denominator.value),
        **ratio_numbers(ratio),
    }


def unknown_ratio(measure: str, at: str, boundary: Boundary) -> dict[str, Any]:
    note = "what a given model took to make is not recorded, so this boundary has no number"
    numbers = dict.fromkeys(
        ("quality", "value", "low", "high", "bound", "other_flops", "student_flops"), None
    )
    return {"measure": measure, "at": at, "boundary": str(boundary), **numbers, "text": "unknown",
            "censored": "unknown", "method": "counted over counted", "notes": [note]}  # fmt: skip


def known_boundaries(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Boundaries under which a ratio has a number."""
    return list(dict.fromkeys(row["boundary"] for row in rows if row["text"] != "unknown"))
