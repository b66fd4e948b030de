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
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stillmark.analysis.bootstrap import NUM_RESAMPLES, CensoredEstimate, censored_summary
from stillmark.analysis.curves import (
    Curve,
    CurvePoint,
    Monotone,
    reach_bounds,
    seed_notes,
)
from stillmark.analysis.paired import (
    DEFAULT_MARGIN,
    Clusters,
    PairedComparison,
    compare_tasks,
    paired_difference,
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

    - tie: the difference lies within the margin (two one-sided tests at alpha);
    - supported: better, or surely not worse by more than the margin;
    - contradicted: significantly worse, and not a tie;
    - underpowered: none of these can be told from this many items.
    """
    size_factor = vanilla_params / student_params
    if size_factor < claimed_factor * (1 - 1e-9):
        note = f"not tested: the vanilla model is {size_factor:.3g} times as large, not {claimed_factor:g}"
        return {
            task: SizeClaim(
                size_factor=size_factor,
                claimed_factor=claimed_factor,
                comparison=None,
                verdict=None,
                note=note,
            )
            for task in results
        }
    compared = compare_tasks(results, clusters=clusters, margin=margin, alpha=alpha)
    claims = {}
    for task, comparison in compared.items():
        verdict: SizeVerdict | None = None
        if comparison is not None:
            student, vanilla = results[task]
            narrow = paired_difference(
                student, vanilla, clusters=(clusters or {}).get(task), confidence=1 - 2 * alpha
            )
            is_not_worse = narrow is not None and narrow.low > -margin
            verdict = _size_verdict(comparison, is_not_worse)
        claims[task] = SizeClaim(
            size_factor=size_factor,
            claimed_factor=claimed_factor,
            comparison=comparison,
            verdict=verdict,
            note=None if comparison else "not tested: no item was answered by both",
        )
    return claims


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
