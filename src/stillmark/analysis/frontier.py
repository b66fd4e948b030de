"""The performance-to-compute frontier, and how much less compute one side needs for the same accuracy.

The compute ratio is (compute at which the numerator's arms reach an accuracy) / (the same of the
denominator's), both under one boundary: what the boundary counts beside the curve's own compute (teacher,
generation, base) is added to each side as `extra_flops`. `curves.py` says how reaching is defined. The
interval is a percentile bootstrap over items, the same items for both sides, and over seeds, drawn for each
arm. A resample in which a side never reaches the accuracy counts as a bound and not as missing; so the
interval opens where the data end: "more than 12x", never a guess.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stillmark.analysis.bootstrap import NUM_RESAMPLES, CensoredEstimate, FloatArray, censored_summary, finite
from stillmark.analysis.curves import (
    ArmRows,
    Curve,
    CurvePoint,
    ExtraFlops,
    Monotone,
    Reach,
    cheapest_reach,
    reach_of,
)
from stillmark.analysis.equal_compute import Band, accuracy_difference_at, curve_band
from stillmark.analysis.resample import resampled_arms

__all__ = [
    "Band",
    "Curve",
    "CurvePoint",
    "Ratio",
    "Reach",
    "accuracy_difference_at",
    "compute_ratios",
    "compute_ratios_at_ends",
    "compute_to_reach",
    "curve_band",
    "pareto_frontier",
]

Direction = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Ratio(CensoredEstimate):
    """How many times the denominator's compute the numerator needs for the same accuracy."""

    at_accuracy: float
    numerator: Reach
    denominator: Reach

    def __str__(self) -> str:
        """`12.3x (8.1 to 19)`, `more than 40x`, with the limits that are known."""
        if self.value is not None:
            text = f"{self.value:.3g}x"
        elif self.censored == "between":
            text = f"{self.lower_bound:.3g}x to {self.upper_bound:.3g}x"
        elif self.censored == "unknown":
            text = "unknown"
        else:
            bound = self.lower_bound if self.censored == "more than" else self.upper_bound
            text = f"{self.censored} {bound:.3g}x"
        if self.low is None and self.high is None:
            return text
        low = "no lower limit" if self.low is None else f"{self.low:.3g}"
        high = "no upper limit" if self.high is None else f"{self.high:.3g}"
        return f"{text} ({low} to {high})"


def pareto_frontier(
    x: Sequence[float | None],
    y: Sequence[float | None],
    *,
    better_x: Direction = "lower",
    better_y: Direction = "higher",
) -> list[int]:
    """Indices of the points that no other point beats, from the best to the worst in x.

    A point is beaten by one that is at least as good on both axes and better on one. Equal points stand
    together. A point with an unknown coordinate is left out: it can neither beat nor be placed.
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} x for {len(y)} y")
    sign_x, sign_y = (1 if better_x == "lower" else -1), (1 if better_y == "lower" else -1)
    known = [
        (sign_x * a, sign_y * b, index)
        for index, (a, b) in enumerate(zip(x, y, strict=True))
        if a is not None and b is not None and not math.isnan(a) and not math.isnan(b)
    ]
    frontier: list[int] = []
    best_y, best_x = math.inf, math.nan
    for a, b, index in sorted(known):
        if b < best_y or (b == best_y and a == best_x):
            frontier.append(index)
            best_x, best_y = a, b
    return frontier


def compute_to_reach(
    curves: Sequence[Curve] | Curve,
    accuracy: float,
    *,
    extra_flops: ExtraFlops = 0.0,
    chance: float | None = None,
    monotone: Monotone = "isotonic",
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
    clusters: Sequence[Any] | None = None,
) -> Reach:
    """Compute at which the arm (of several: the cheapest) reaches the accuracy, with its interval."""
    chosen = [curves] if isinstance(curves, Curve) else list(curves)
    arms = resampled_arms(
        chosen,
        extra_flops=extra_flops,
        num_resamples=num_resamples,
        random_seed=random_seed,
        clusters=clusters,
    )
    return reach_of(arms, accuracy, chance=chance, monotone=monotone, confidence=confidence)


def compute_ratios(
    numerator_curves: Sequence[Curve],
    denominator_curves: Sequence[Curve],
    at_accuracies: Sequence[float],
    *,
    numerator_extra_flops: ExtraFlops = 0.0,
    denominator_extra_flops: ExtraFlops = 0.0,
    chance: float | None = None,
    monotone: Monotone = "isotonic",
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
    clusters: Sequence[Any] | None = None,
) -> list[Ratio]:
    """Compute of the numerator over that of the denominator at which each reaches an accuracy, for each of them.

    From one bootstrap: the same `random_seed` draws the same resamples, so ratios under two boundaries differ
    by the boundary alone.
    """
    shared = {curve.arm for curve in numerator_curves} & {curve.arm for curve in denominator_curves}
    if shared:
        raise ValueError(f"an arm cannot be on both sides of a ratio: {sorted(shared)}")
    if not numerator_curves or not denominator_curves:
        raise ValueError("each side of a ratio needs a curve")
    sides = [*numerator_curves, *denominator_curves]
    extras = [numerator_extra_flops] * len(numerator_curves)
    extras += [denominator_extra_flops] * len(denominator_curves)
    arms = resampled_arms(
        sides, extra_flops=extras, num_resamples=num_resamples, random_seed=random_seed, clusters=clusters
    )
    above = {curve.arm for curve in numerator_curves}
    numerator = [arm for arm in arms if arm.arm in above]
    denominator = [arm for arm in arms if arm.arm not in above]
    return [
        ratio_at(numerator, denominator, accuracy, chance, monotone, confidence) for accuracy in at_accuracies
    ]


def compute_ratios_at_ends(
    numerator_curves: Sequence[Curve],
    denominator_curves: Sequence[Curve],
    *,
    numerator_extra_flops: ExtraFlops = 0.0,
    denominator_extra_flops: ExtraFlops = 0.0,
    monotone: Monotone = "isotonic",
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
) -> tuple[Ratio, Ratio]:
    """The ratio at the quality with which the numerator ends, and at that with which the denominator ends.

    Each resample has its own end: what makes items hard for both sides moves curve and target together, where a fixed
    number near the end of a curve is reached in one resample and not in the next.
    """
    sides = [*numerator_curves, *denominator_curves]
    extras = [numerator_extra_flops] * len(numerator_curves)
    extras += [denominator_extra_flops] * len(denominator_curves)
    arms = resampled_arms(sides, extra_flops=extras, num_resamples=num_resamples, random_seed=random_seed)
    names = {curve.arm for curve in numerator_curves}
    numerator = [arm for arm in arms if arm.arm in names]
    denominator = [arm for arm in arms if arm.arm not in names]
    if not numerator or not denominator:
        raise ValueError("each side of a ratio needs an arm of its own")
    above, below = (
        np.max([arm.fitted(monotone)[:, -1] for arm in side], axis=0) for side in (numerator, denominator)
    )
    return (
        ratio_at(numerator, denominator, above, None, monotone, confidence),
        ratio_at(numerator, denominator, below, None, monotone, confidence),
    )


def ratio_at(
    numerator: list[ArmRows],
    denominator: list[ArmRows],
    accuracy: float | FloatArray,
    chance: float | None,
    monotone: Monotone,
    confidence: float,
) -> Ratio:
    """The ratio from curves that are resampled already, at one accuracy, or at one for each row."""
    value = float(np.ravel(accuracy)[0])
    top, bottom = (cheapest_reach(arms, accuracy, monotone) for arms in (numerator, denominator))
    above, below = (
        reach_of(arms, accuracy, chance=chance, monotone=monotone, confidence=confidence, bounds=bounds)
        for arms, bounds in ((numerator, top), (denominator, bottom))
    )
    lowest, highest = np.array([0.0]), np.array([np.inf])
    if chance is None or value > chance:
        with np.errstate(divide="ignore"):
            lowest, highest = top[0] / bottom[1], top[1] / bottom[0]
    summary = censored_summary(lowest, highest, confidence)
    notes = tuple(dict.fromkeys(above.notes + below.notes))
    return Ratio(at_accuracy=value, numerator=above, denominator=below, notes=notes, **summary)


def ratio_numbers(ratio: Ratio) -> dict[str, Any]:
    """What every table says of a ratio; a limit that is open or not known is None."""
    return {
        "text": str(ratio),
        "value": finite(ratio.value),
        "low": finite(ratio.low),
        "high": finite(ratio.high),
        "censored": ratio.censored,
        "bound": finite(ratio.lower_bound if ratio.censored == "more than" else ratio.upper_bound),
        "method": "counted over counted",
        "notes": list(ratio.notes),
    }
