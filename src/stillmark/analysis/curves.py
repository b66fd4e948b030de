"""Performance-to-compute curves: accuracy at checkpoints, and the compute that reaches an accuracy.

How "reaches" is defined, and why:
- The seeds of an arm are averaged first, at equal compute (linear in log compute between checkpoints), over
  the range that all of them cover. The result is the compute at which the *expected* accuracy is reached.
- The mean curve is then made monotone by **isotonic regression** (least squares, pool adjacent violators) and
  interpolated linearly in log compute. The running best is offered too, but is not the default: the best of
  k noisy checkpoints is above the truth, and the more checkpoints, the more so, which favours the arm that
  was measured most often. On a curve that truly falls at the end (overfitting), isotonic regression
  understates the peak; use `monotone="running_best"` there, and say so.
- Where the curve never gets there, the compute is "more than" the last checkpoint's; where the first
  checkpoint is there already, "less than" the first's. Nothing is extrapolated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stillmark.analysis.bootstrap import CensoredEstimate, FloatArray, censored_summary

Monotone = Literal["isotonic", "running_best"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CurvePoint:
    """One checkpoint: the compute spent on it so far, and its answers."""

    flops: float
    correct: npt.NDArray[Any]
    """0 or 1 per item (or the share of its repeats), NaN = not scored; the same item order in all points."""
    weights: npt.NDArray[Any] | None = None
    """Of the items. Where given, `correct` is any quality per unit of weight, more being better: -nats per byte, and
    bytes. The same in all points that are compared."""

    def __post_init__(self) -> None:
        values = np.asarray(self.correct, dtype=np.float64)
        if not (np.isfinite(self.flops) and self.flops > 0):
            raise ValueError(f"flops must be positive and finite, got {self.flops}")
        if self.weights is not None:
            if values.shape != np.shape(self.weights) or not (np.asarray(self.weights) > 0).all():
                raise ValueError("weights must be one positive number per item")
            if not np.isfinite(values).all():
                raise ValueError("a weighted quality must be finite")
            return
        if values.ndim != 1 or not ((values >= 0) & (values <= 1) | np.isnan(values)).all():
            raise ValueError("correct must be one number from 0 to 1, or NaN, per item")


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One arm trained with one seed."""

    arm: str
    seed: int
    points: tuple[CurvePoint, ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError(f"curve of {self.arm}, seed {self.seed}, has no point")
        flops = [point.flops for point in self.points]
        if sorted(set(flops)) != flops:
            raise ValueError(f"{self.arm}, seed {self.seed}: flops must increase: {flops}")


ExtraFlops = float | Callable[[Curve, CurvePoint], float]
"""Compute outside the curve's own that a boundary counts: one for all checkpoints, or worked out for each."""


@dataclass(frozen=True, kw_only=True)
class Reach(CensoredEstimate):
    """Compute (FLOPs, boundary costs included) at which an arm reaches an accuracy."""

    accuracy: float
    arms: tuple[str, ...]
    reached_by: str | None = None
    """The arm that reaches it with the least compute; None where none does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanCurve:
    """An arm's accuracy, mean over its seeds, on the data (row 0) and on each resample; rows x grid.

    What is worked out from it is kept: the same curve is met under every boundary and beside many others.
    """

    arm: str
    num_seeds: int
    log_flops: FloatArray  # grid, of the arm's own compute
    accuracy: FloatArray

    @cached_property
    def _kept(self) -> dict[tuple[Monotone, float], "Place"]:
        return {}

    @cached_property
    def _isotonic(self) -> FloatArray:
        return isotonic(self.accuracy)

    def fitted(self, monotone: Monotone) -> FloatArray:
        """Accuracy made non-decreasing in compute."""
        if monotone == "running_best":
            return np.maximum.accumulate(self.accuracy, axis=1)
        return self._isotonic

    def place_of(self, accuracy: float | FloatArray, monotone: Monotone) -> "Place":
        """Where each row gets to the accuracy: one for all rows, or one a row."""
        if isinstance(accuracy, np.ndarray):
            return self._place_of(accuracy, monotone)
        if (monotone, accuracy) not in self._kept:
            self._kept[monotone, accuracy] = self._place_of(accuracy, monotone)
        return self._kept[monotone, accuracy]

    def _place_of(self, accuracy: float | FloatArray, monotone: Monotone) -> "Place":
        fit = self.fitted(monotone)
        is_there = fit >= np.reshape(accuracy, (-1, 1)) - 1e-12
        after = is_there.argmax(axis=1)
        before = np.maximum(after - 1, 0)
        rows = np.arange(len(fit))
        low, high = fit[rows, before], fit[rows, after]
        step = np.divide(accuracy - low, high - low, out=np.ones_like(low), where=high > low).clip(0, 1)
        log_flops = self.log_flops[before] + step * (self.log_flops[after] - self.log_flops[before])
        return Place(before=before, after=after, step=step, flops=np.exp(log_flops),
                     is_never=~np.any(is_there, axis=1, keepdims=True)[:, 0])  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Per row, the grid points around the one at which an accuracy is reached, and the arm's own compute there."""

    before: npt.NDArray[np.intp]
    after: npt.NDArray[np.intp]
    step: FloatArray  # share of the way from `before` to `after`
    flops: FloatArray
    is_never: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmRows:
    """A mean curve with what a boundary adds to its compute; rows x grid."""

    mean: MeanCurve
    extra_flops: FloatArray
    least_extra_flops: float  # counted however early the accuracy was reached

    @property
    def arm(self) -> str:
        return self.mean.arm

    @property
    def num_seeds(self) -> int:
        return self.mean.num_seeds

    @property
    def log_flops(self) -> FloatArray:
        return self.mean.log_flops

    @property
    def accuracy(self) -> FloatArray:
        return self.mean.accuracy

    def fitted(self, monotone: Monotone) -> FloatArray:
        """Accuracy made non-decreasing in compute."""
        return self.mean.fitted(monotone)


def isotonic(values: FloatArray) -> FloatArray:
    """Least-squares non-decreasing fit of each row, equal weights.

    By the max-min formula fit[k] = max over i <= k of min over j >= k of mean(values[i..j]) (Robertson,
    Wright and Dykstra 1988, theorem 1.4.4), which unlike pool-adjacent-violators runs on all rows at once.
    """
    num_points = values.shape[1]
    sums = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
    fit = np.full(values.shape, -np.inf)
    for first in range(num_points):
        means = (sums[:, first + 1 :] - sums[:, first : first + 1]) / np.arange(1, num_points - first + 1)
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        fit[:, first:] = np.maximum(fit[:, first:], least)
    return fit


def reach_bounds(
    arm: ArmRows, accuracy: float | FloatArray, monotone: Monotone = "isotonic"
) -> tuple[FloatArray, FloatArray]:
    """Per row, the least and the most compute at which the arm reached `accuracy` (one, or one a row)."""
    place = arm.mean.place_of(accuracy, monotone)
    rows = np.arange(len(place.step))
    extra = arm.extra_flops[rows, place.before]
    extra = extra + place.step * (arm.extra_flops[rows, place.after] - extra)
    total = place.flops + extra
    last = np.exp(arm.log_flops[-1]) + arm.extra_flops[:, -1]
    least = np.where(place.is_never, last, np.where(place.after == 0, arm.least_extra_flops, total))
    most = np.where(place.is_never, np.inf, total)
    return least, most


def cheapest_reach(
    arms: Sequence[ArmRows], accuracy: float | FloatArray, monotone: Monotone
) -> tuple[FloatArray, FloatArray, str | None]:
    """Per row, bounds of the least compute with which any of the arms reaches the accuracy; and the arm of
    row 0.

    Among the arms that reach it. Where none does: more than the *smallest* of their last checkpoints, which
    is all that is known of all of them.
    """
    bounds = [reach_bounds(arm, accuracy, monotone) for arm in arms]
    least = np.stack([low for low, _ in bounds])
    most = np.stack([high for _, high in bounds])
    best = most.argmin(axis=0)
    rows = np.arange(most.shape[1])
    is_never: npt.NDArray[np.bool_] = np.all(np.isinf(most), axis=0)
    # An arm that is there at its first checkpoint may be cheaper than the cheapest known.
    open_low = np.where(np.isfinite(most), least, np.inf).min(axis=0)
    low = np.where(is_never, least.min(axis=0), open_low)
    return low, most[best, rows], None if is_never[0] else arms[int(best[0])].arm


Bounds = tuple[FloatArray, FloatArray, str | None]
"""What `cheapest_reach` gives: the least and the most compute of each row, and the arm of row 0."""


def reach_of(
    arms: Sequence[ArmRows],
    accuracy: float | FloatArray,
    *,
    chance: float | None,
    monotone: Monotone,
    confidence: float,
    bounds: Bounds | None = None,
) -> Reach:
    """`compute_to_reach` from curves that are resampled already; `accuracy` is one, or one a row.

    `bounds`: what `cheapest_reach` gave for them, where that is worked out already.
    """
    names = tuple(arm.arm for arm in arms)
    value = float(np.ravel(accuracy)[0])
    if chance is not None and value <= chance:
        note = f"accuracy {value:.3g} is at or below chance ({chance:.3g}): a model reaches it untrained"
        nothing = np.array([0.0]), np.array([np.inf])
        summary = censored_summary(*nothing, confidence)
        return Reach(accuracy=value, arms=names, notes=(note,), **summary)
    least, most, reached_by = bounds or cheapest_reach(arms, accuracy, monotone)
    summary = censored_summary(least, most, confidence)
    return Reach(accuracy=value, arms=names, reached_by=reached_by, notes=seed_notes(arms), **summary)


def seed_notes(arms: Sequence[ArmRows]) -> tuple[str, ...]:
    """What few seeds leave unknown."""
    one = [arm.arm for arm in arms if arm.num_seeds == 1]
    two = [arm.arm for arm in arms if arm.num_seeds == 2]
    notes = []
    if one:
        notes.append("one seed, so the variance between seeds is not in the interval: " + ", ".join(one))
    if two:
        notes.append("two seeds show the variance between seeds only roughly: " + ", ".join(two))
    return tuple(notes)
