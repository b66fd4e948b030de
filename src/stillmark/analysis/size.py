"""How large a vanilla model a student is worth, and whether it is "on par with models ten times its size".

Equivalent size: accuracy against log(parameters) over a vanilla family, made monotone (isotonic regression,
seeds of a size averaged) and interpolated; the size at which the family has the student's accuracy. Not
beyond the family: "more than" its largest, "less than" its smallest. The interval is a bootstrap over items,
the same for student and family, and over seeds.

Capability density is that size over the student's own (Densing Law, arXiv:2412.04315). There the loss is
fitted first and mapped to accuracy; here accuracy is interpolated as measured, so both need the same
reference family to compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from stillmark.analysis.bootstrap import NUM_RESAMPLES, CensoredEstimate, censored_summary
from stillmark.analysis.curves import (
    Curve,
    CurvePoint,
    Monotone,
    reach_bounds,
    seed_notes,
)
from stillmark.analysis.differences import EndDifference
from stillmark.analysis.intervals import Interval
from stillmark.analysis.mcnemar import holm
from stillmark.analysis.paired import (
    DEFAULT_MARGIN,
    Clusters,
    PairedComparison,
    compare_tasks,
    paired_difference,
    verdict_of,
)
from stillmark.analysis.resample import resampled_arms

SizeVerdict = Literal["supported", "tie", "contradicted", "underpowered"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SizedResult:
    """A trained model: its parameters (one count, the same for all: say which) and its answers."""

    params: float
    seed: int
    correct: npt.NDArray[Any]
    """0 or 1 per item (or the share of its repeats), NaN = not scored; the same item order in all results."""


@dataclass(frozen=True, kw_only=True)
class EquivalentSize(CensoredEstimate):
    """Parameters of the vanilla model, within its family, that is as accurate as the student."""

    student_params: float
    student_accuracy: float

    @property
    def density(self) -> CensoredEstimate:
        """Capability density: equivalent parameters over the student's own."""
        scaled = {
            name: None if getattr(self, name) is None else getattr(self, name) / self.student_params
            for name in ("value", "low", "high", "lower_bound", "upper_bound")
        }
        kept = {field.name: getattr(self, field.name) for field in fields(CensoredEstimate)}
        return CensoredEstimate(**{**kept, **scaled})


@dataclass(frozen=True, kw_only=True)
class SizeClaim:
    """Whether a student is on par with a vanilla model so many times its size, on one task."""

    size_factor: float
    """Parameters of the vanilla model over the student's."""
    claimed_factor: float
    comparison: PairedComparison | None
    verdict: SizeVerdict | None
    """None: not tested, as the vanilla model is not that large, or no item was answered by both."""
    note: str | None = None


def equivalent_size(
    student: Sequence[SizedResult],
    family: Sequence[SizedResult],
    *,
    monotone: Monotone = "isotonic",
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
    clusters: Sequence[Any] | None = None,
) -> EquivalentSize:
    """Size at which the vanilla family reaches the student's accuracy. `student`: one size, any seeds."""
    if len({result.params for result in student}) != 1:
        raise ValueError("the student must have one size")
    if len({(result.params, result.seed) for result in family}) != len(family):
        raise ValueError("two results of the family have the same size and seed")
    curves = [_curve("student", result.seed, [result]) for result in student]
    # One curve a size and seed would let each size vary alone; sizes of one seed are drawn together, as
    # trained.
    for seed in dict.fromkeys(result.seed for result in family):
        members = sorted((r for r in family if r.seed == seed), key=lambda result: result.params)
        curves.append(_curve("family", seed, members))
    arms = resampled_arms(curves, num_resamples=num_resamples, random_seed=random_seed, clusters=clusters)
    student_rows, family_rows = arms
    accuracy = student_rows.accuracy[:, 0]
    least, most = reach_bounds(family_rows, accuracy, monotone)
    return EquivalentSize(
        student_params=student[0].params,
        student_accuracy=float(accuracy[0]),
        notes=seed_notes(arms),
        **censored_summary(least, most, confidence),
    )


def size_claims(
    results: dict[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    student_params: float,
    vanilla_params: float,
    claimed_factor: float = 10.0,
    clusters: dict[str, Clusters] | None = None,
    margin: float = DEFAULT_MARGIN,
    alpha: float = 0.05,
) -> dict[str, SizeClaim]:
    """The claim on each task, from (student, vanilla) answers to the same items; Holm over the tasks.

    Answers are items, or items x seeds, the seeds of each side its own: then the interval is over items and seeds as
    that of any two arms (`differences.py`), and its p-value the larger of its two parts'.

    - tie: the difference lies within the margin (two one-sided tests at alpha);
    - supported: better, or surely not worse by more than the margin;
    - contradicted: significantly worse, and not a tie;
    - underpowered: none of these can be told from this many items and seeds.
    """
    size_factor = vanilla_params / student_params
    made = partial(SizeClaim, size_factor=size_factor, claimed_factor=claimed_factor)
    if size_factor < claimed_factor * (1 - 1e-9):
        note = f"not tested: the vanilla model is {size_factor:.3g} times as large, not {claimed_factor:g}"
        return {task: made(comparison=None, verdict=None, note=note) for task in results}
    groups = clusters or {}
    compared = compare_tasks(results, clusters=groups, margin=margin, alpha=alpha)
    sides = {
        task: _Sides(*results[task], clusters=groups.get(task), comparison=comparison)
        for task, comparison in compared.items()
        if comparison is not None
    }
    adjusted = holm({task: side.p_value for task, side in sides.items()})
    claims = {}
    for task in results:
        if task not in sides:
            claims[task] = made(
                comparison=None, verdict=None, note="not tested: no item was answered by both"
            )
            continue
        comparison, is_not_worse = sides[task].judged(adjusted[task], margin, alpha)
        claims[task] = made(comparison=comparison, verdict=_size_verdict(comparison, is_not_worse))
    return claims


class _Sides:
    """Student and vanilla on one task: what was compared over items, and over seeds where the answers have them."""

    def __init__(
        self, student: npt.ArrayLike, vanilla: npt.ArrayLike, *, clusters: Clusters,
        comparison: PairedComparison,
    ) -> None:  # fmt: skip
        self.answers, self.clusters, self.comparison = (student, vanilla), clusters, comparison
        matrices = [np.asarray(side, dtype=np.float64) for side in self.answers]
        self.over_seeds = None
        if all(matrix.ndim == 2 for matrix in matrices):
            first, second = (
                [
                    _curve(name, seed, [SizedResult(params=1.0, seed=seed, correct=column)])
                    for seed, column in enumerate(matrix.T)
                ]
                for name, matrix in zip(("student", "vanilla"), matrices, strict=True)
            )
            self.over_seeds = EndDifference(first, second, clusters=clusters)

    @property
    def p_value(self) -> float:
        over_items = self.comparison.p_value
        return over_items if self.over_seeds is None else max(over_items, self.over_seeds.p_value)

    def interval(self, confidence: float) -> Interval:
        if self.over_seeds is not None:
            return self.over_seeds.interval(confidence)
        found = paired_difference(*self.answers, clusters=self.clusters, confidence=confidence)
        assert found is not None, "an item was answered by both"
        return found

    def judged(self, adjusted: float | None, margin: float, alpha: float) -> tuple[PairedComparison, bool]:
        """The comparison over items and seeds, and whether the student is surely not worse by the margin."""
        assert adjusted is not None, "the p-value is known"
        wide, narrow = self.interval(1 - alpha), self.interval(1 - 2 * alpha)
        detectable = self.comparison.smallest_detectable
        if self.over_seeds is not None and detectable is not None:
            # What two sides must differ by for power .8, in half-widths of the interval; never less than items ask.
            reach = (special.ndtri(1 - alpha / 2) + special.ndtri(0.8)) / special.ndtri(1 - alpha / 2)
            detectable = min(1.0, max(detectable, float(reach) * (wide.high - wide.low) / 2))
        comparison = replace(
            self.comparison,
            difference=wide,
            p_value=self.p_value,
            adjusted_p_value=adjusted,
            smallest_detectable=detectable,
            verdict=verdict_of(wide, narrow, adjusted, margin, alpha),
        )
        return comparison, narrow.low > -margin


def _size_verdict(comparison: PairedComparison, is_not_worse: bool) -> SizeVerdict:
    if comparison.verdict == "tie":
        return "tie"
    if comparison.verdict == "better" or is_not_worse:
        return "supported"
    return "contradicted" if comparison.verdict == "worse" else "underpowered"


def _curve(arm: str, seed: int, results: Sequence[SizedResult]) -> Curve:
    """A curve over parameters: the machinery of compute curves, with size in the place of FLOPs."""
    points = tuple(CurvePoint(flops=float(r.params), correct=np.asarray(r.correct)) for r in results)
    return Curve(arm=arm, seed=seed, points=points)
