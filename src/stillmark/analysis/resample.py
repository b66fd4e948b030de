"""Curves resampled over items and seeds, so that an arm meets the same items whatever it is compared with.

Items are drawn once for a random seed and a number of items (`item_draws.py`). Seeds are drawn by arm, one arm after
another, from the random stream that follows: a second group of curves goes on where the first left off (`before`), so
that a family which many students are compared with is resampled once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.bootstrap import (
    NUM_RESAMPLES,
    RANDOM_SEED,
    FloatArray,
    bootstrap_accuracies,
    seed_weights,
)
from stillmark.analysis.curves import ArmRows, Curve, ExtraFlops, MeanCurve
from stillmark.analysis.item_draws import item_draws

POINTS_AT_ONCE = 100  # of 20,000 items: 16 MB


class Resampled:
    """Curves, each arm's mean over seeds on the data and on every resample; boundaries add their compute later."""

    def __init__(
        self,
        curves: Sequence[Curve],
        *,
        num_resamples: int = NUM_RESAMPLES,
        random_seed: int = 0,
        clusters: Sequence[Any] | None = None,
        before: "Resampled | None" = None,
    ) -> None:
        """`before`: curves of the same items whose seeds were drawn before these; not with `clusters`."""
        if not curves:
            raise ValueError("no curve given")
        if before is not None and clusters is not None:
            raise ValueError("clusters are drawn with the items: give all curves at once")
        sizes = {len(point.correct) for curve in curves for point in curve.points}
        if len(sizes) > 1:
            raise ValueError(f"all points must hold the same items; their numbers differ: {sorted(sizes)}")
        self.num_curves = len(curves)
        correct = [point.correct for curve in curves for point in curve.points]
        item_weights = common_weights(curves)
        if clusters is None and len(correct[0]):  # the same resamples for all who ask: drawn once
            draws = item_draws(len(correct[0]), num_resamples, random_seed)
            accuracies, rng = draws.accuracies(correct, item_weights), draws.rng()
            if before is not None:
                rng.bit_generator.state = before.state_after
        else:
            rng = np.random.default_rng(random_seed)
            matrix = np.array(correct, dtype=np.float64)
            accuracies = bootstrap_accuracies(
                matrix, num_resamples=num_resamples, rng=rng, clusters=clusters, item_weights=item_weights
            )
        ends = np.cumsum([len(curve.points) for curve in curves])
        rows_of = np.split(accuracies, ends[:-1], axis=1)
        self.means: list[tuple[list[int], SeedMean]] = []  # which of the curves, and their mean
        for arm in dict.fromkeys(curve.arm for curve in curves):
            members = [index for index, curve in enumerate(curves) if curve.arm == arm]
            weights = seed_weights(len(members), num_resamples, rng)
            mean = SeedMean([curves[i] for i in members], [rows_of[i] for i in members], weights)
            self.means.append((members, mean))
        self.state_after: Any = rng.bit_generator.state

    def within(self, extra_flops: Sequence[ExtraFlops] | ExtraFlops) -> list[ArmRows]:
        """Each arm with compute beside its own: one for all curves, or one for each."""
        extras = list(extra_flops) if isinstance(extra_flops, Sequence) else [extra_flops] * self.num_curves
        return [mean.within([extras[index] for index in members]) for members, mean in self.means]


class SeedMean:
    """One arm's mean over seeds, on the checkpoints' compute that lies in the range of all seeds."""

    def __init__(self, members: list[Curve], rows: list[FloatArray], weights: FloatArray) -> None:
        logs = [np.log([point.flops for point in curve.points]) for curve in members]
        start, end = max(log[0] for log in logs), min(log[-1] for log in logs)
        arm = members[0].arm
        if start > end + 1e-9:
            raise ValueError(f"the seeds of {arm} have no compute in common: they cannot be averaged")
        union = np.unique(np.concatenate(logs))
        grid = union[(union >= start - 1e-9) & (union <= end + 1e-9)]
        grid = grid[np.concatenate([[True], np.diff(grid) > 1e-9])]
        # points x grid: how a value at the checkpoints becomes one on the grid
        self.mixes = [np.stack([np.interp(grid, log, unit) for unit in np.eye(len(log))]) for log in logs]
        self.members, self.weights = members, weights
        accuracy = np.zeros((len(weights), len(grid)))
        for seed, (own, mix) in enumerate(zip(rows, self.mixes, strict=True)):
            accuracy += weights[:, seed : seed + 1] * (own @ mix)
        self.mean = MeanCurve(arm=arm, num_seeds=len(members), log_flops=grid, accuracy=accuracy)

    def within(self, extras: Sequence[ExtraFlops]) -> ArmRows:
        """`extras`: what is added to each seed's compute."""
        extra_flops = np.zeros(self.mean.accuracy.shape)
        fixed = []
        for seed, (curve, extra, mix) in enumerate(zip(self.members, extras, self.mixes, strict=True)):
            costs = [extra(curve, point) if callable(extra) else extra for point in curve.points]
            if min(costs) < 0:
                raise ValueError(f"extra flops of {self.mean.arm} must not be negative: {min(costs)}")
            extra_flops += self.weights[:, seed : seed + 1] * (np.array(costs, dtype=np.float64) @ mix)
            fixed.append(0.0 if callable(extra) else costs[0])
        return ArmRows(mean=self.mean, extra_flops=extra_flops, least_extra_flops=min(fixed))


def resampled_arms(
    curves: Sequence[Curve],
    *,
    extra_flops: Sequence[ExtraFlops] | ExtraFlops = 0.0,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
    clusters: Sequence[Any] | None = None,
) -> list[ArmRows]:
    """Mean curve of each arm on the data and on resamples of items (drawn jointly) and of seeds (drawn by arm).

    `extra_flops`: one for all curves, or one for each.
    """
    drawn = Resampled(curves, num_resamples=num_resamples, random_seed=random_seed, clusters=clusters)
    return drawn.within(extra_flops)


def draw_together(curves: Sequence[Curve]) -> None:
    """Works out what all curves are on the resamples at once: one pass over them, where each arm alone asks for one."""
    by_size: dict[int, list[npt.NDArray[Any]]] = {}
    for curve in curves:
        for point in curve.points:
            if point.weights is None:
                by_size.setdefault(len(point.correct), []).append(point.correct)
    for num_items, correct in by_size.items():
        draws = item_draws(num_items, NUM_RESAMPLES, RANDOM_SEED)
        for start in range(0, len(correct), POINTS_AT_ONCE):
            draws.accuracies(correct[start : start + POINTS_AT_ONCE])


def common_weights(curves: Sequence[Curve]) -> npt.NDArray[Any] | None:
    """The weights of the items, which all points must share."""
    weights = [point.weights for curve in curves for point in curve.points]
    first = weights[0]
    for other in weights[1:]:
        if (other is None) != (first is None) or (first is not None and not np.array_equal(first, other)):  # type: ignore[arg-type]
            raise ValueError("all points must weigh the items alike")
    return first
