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

from stillmark.analysis.bootstrap import (
    NUM_RESAMPLES,
    CensoredEstimate,
    FloatArray,
    bootstrap_accuracies,
    censored_summary,
    seed_weights,
)
from stillmark.analysis.item_draws import item_draws

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
class ArmRows:
    """An arm's mean curve on the data (row 0) and on each resample; rows x grid."""

    arm: str
    num_seeds: int
    log_flops: FloatArray  # grid, of the arm's own compute
    accuracy: FloatArray
    extra_flops: FloatArray
    least_extra_flops: float  # counted however early the accuracy was reached
    fit: FloatArray | None = None  # the isotonic fit, where it is worked out already

    def fitted(self, monotone: Monotone) -> FloatArray:
        """Accuracy made non-decreasing in compute."""
        if monotone == "running_best":
            return np.maximum.accumulate(self.accuracy, axis=1)
        return self._isotonic if self.fit is None else self.fit

    @cached_property
    def _isotonic(self) -> FloatArray:
        return isotonic(self.accuracy)


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


def resampled_arms(
    curves: Sequence[Curve],
    *,
    extra_flops: Sequence[ExtraFlops] | ExtraFlops = 0.0,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
    clusters: Sequence[Any] | None = None,
) -> list[ArmRows]:
    """Mean curve of each arm on the data and on resamples of items (drawn jointly) and of seeds (drawn by
    arm).

    `extra_flops`: one for all curves, or one for each.
    """
    if not curves:
        raise ValueError("no curve given")
    extras = list(extra_flops) if isinstance(extra_flops, Sequence) else [extra_flops] * len(curves)
    sizes = {len(point.correct) for curve in curves for point in curve.points}
    if len(sizes) > 1:
        raise ValueError(f"all points must hold the same items; their numbers differ: {sorted(sizes)}")
    correct = [point.correct for curve in curves for point in curve.points]
    item_weights = common_weights(curves)
    if clusters is None and len(correct[0]):  # the same resamples for all who ask: drawn once
        draws = item_draws(len(correct[0]), num_resamples, random_seed)
        accuracies, rng = draws.accuracies(correct, item_weights), draws.rng()
    else:
        rng = np.random.default_rng(random_seed)
        matrix = np.array(correct, dtype=np.float64)
        accuracies = bootstrap_accuracies(
            matrix, num_resamples=num_resamples, rng=rng, clusters=clusters, item_weights=item_weights
        )
    ends = np.cumsum([len(curve.points) for curve in curves])
    rows_of = np.split(accuracies, ends[:-1], axis=1)
    arms = []
    for arm in dict.fromkeys(curve.arm for curve in curves):
        members = [index for index, curve in enumerate(curves) if curve.arm == arm]
        weights = seed_weights(len(members), num_resamples, rng)
        arms.append(_mean_rows([(curves[i], rows_of[i], extras[i]) for i in members], weights))
    return arms


def common_weights(curves: Sequence[Curve]) -> npt.NDArray[Any] | None:
    """The weights of the items, which all points must share."""
    weights = [point.weights for curve in curves for point in curve.points]
    first = weights[0]
    for other in weights[1:]:
        if (other is None) != (first is None) or (first is not None and not np.array_equal(first, other)):  # type: ignore[arg-type]
            raise ValueError("all points must weigh the items alike")
    return first


def reach_bounds(
    arm: ArmRows, accuracy: float | FloatArray, monotone: Monotone = "isotonic"
) -> tuple[FloatArray, FloatArray]:
    """Per row, the least and the most compute at which the arm reached `accuracy` (one, or one a row)."""
    fit = arm.fitted(monotone)
    is_there = fit >= np.reshape(accuracy, (-1, 1)) - 1e-12
    after = is_there.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(len(fit))
    low, high = fit[rows, before], fit[rows, after]
    step = np.divide(accuracy - low, high - low, out=np.ones_like(low), where=high > low).clip(0, 1)
    log_flops = arm.log_flops[before] + step * (arm.log_flops[after] - arm.log_flops[before])
    extra = arm.extra_flops[rows, before]
    extra = extra + step * (arm.extra_flops[rows, after] - extra)
    total = np.exp(log_flops) + extra
    is_never = ~is_there.any(axis=1)
    last = np.exp(arm.log_flops[-1]) + arm.extra_flops[:, -1]
    least = np.where(is_never, last, np.where(after == 0, arm.least_extra_flops, total))
    most = np.where(is_never, np.inf, total)
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


def _mean_rows(members: list[tuple[Curve, FloatArray, ExtraFlops]], weights: FloatArray) -> ArmRows:
    """One arm's mean over seeds, on the checkpoints' compute that lies in the range of all seeds."""
    logs = [np.log([point.flops for point in curve.points]) for curve, _, _ in members]
    start, end = max(log[0] for log in logs), min(log[-1] for log in logs)
    arm = members[0][0].arm
    if start > end + 1e-9:
        raise ValueError(f"the seeds of {arm} have no compute in common: they cannot be averaged")
    union = np.unique(np.concatenate(logs))
    grid = union[(union >= start - 1e-9) & (union <= end + 1e-9)]
    grid = grid[np.concatenate([[True], np.diff(grid) > 1e-9])]
    accuracy = np.zeros((len(weights), len(grid)))
    extra_flops = np.zeros((len(weights), len(grid)))
    fixed = []
    for seed, ((curve, rows, extra), log) in enumerate(zip(members, logs, strict=True)):
        mix = np.stack([np.interp(grid, log, unit) for unit in np.eye(len(log))])  # points x grid
        accuracy += weights[:, seed : seed + 1] * (rows @ mix)
        is_fixed = not callable(extra)
        costs = [extra(curve, point) if callable(extra) else extra for point in curve.points]
        if min(costs) < 0:
            raise ValueError(f"extra flops of {arm} must not be negative: {min(costs)}")
        extra_flops += weights[:, seed : seed + 1] * (np.array(costs, dtype=np.float64) @ mix)
        fixed.append(costs[0] if is_fixed else 0.0)
    return ArmRows(
        arm=arm,
        num_seeds=len(members),
        log_flops=grid,
        accuracy=accuracy,
        extra_flops=extra_flops,
        least_extra_flops=min(fixed),
    )
