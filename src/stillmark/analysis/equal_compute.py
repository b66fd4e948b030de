"""Accuracy at equal compute: the difference of two sides, and an arm's curve with its confidence band."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmark.analysis.bootstrap import NUM_RESAMPLES, FloatArray
from stillmark.analysis.curves import ArmRows, Curve, ExtraFlops, Monotone, seed_notes
from stillmark.analysis.intervals import Interval
from stillmark.analysis.resample import resampled_arms


def accuracy_difference_at(
    first_curves: Sequence[Curve],
    second_curves: Sequence[Curve],
    flops: float,
    *,
    first_extra_flops: ExtraFlops = 0.0,
    second_extra_flops: ExtraFlops = 0.0,
    monotone: Monotone = "isotonic",
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
    clusters: Sequence[Any] | None = None,
) -> Interval | None:
    """Accuracy of the first side less that of the second at equal compute; of several arms, the best counts.

    None where a side has no arm whose checkpoints span that compute: nothing is extrapolated.
    """
    sides = [*first_curves, *second_curves]
    extras = [first_extra_flops] * len(first_curves) + [second_extra_flops] * len(second_curves)
    arms = resampled_arms(
        sides, extra_flops=extras, num_resamples=num_resamples, random_seed=random_seed, clusters=clusters
    )
    names = {curve.arm for curve in first_curves}
    first = _accuracy_at([arm for arm in arms if arm.arm in names], flops, monotone)
    second = _accuracy_at([arm for arm in arms if arm.arm not in names], flops, monotone)
    if first is None or second is None:
        return None
    difference = first - second
    low, high = np.quantile(difference[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(
        value=float(difference[0]),
        low=float(low),
        high=float(high),
        confidence=confidence,
        method="bootstrap over items and seeds",
        note="; ".join(seed_notes(arms)) or None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """An arm's mean curve over seeds with a pointwise confidence band, for a figure."""

    arm: str
    flops: FloatArray  # extra flops included
    accuracy: FloatArray
    low: FloatArray
    high: FloatArray
    confidence: float


def curve_band(
    curves: Sequence[Curve],
    *,
    extra_flops: ExtraFlops = 0.0,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
    clusters: Sequence[Any] | None = None,
) -> list[Band]:
    """Mean accuracy of each arm at each checkpoint as measured (not made monotone), with a bootstrap band."""
    arms = resampled_arms(
        curves,
        extra_flops=extra_flops,
        num_resamples=num_resamples,
        random_seed=random_seed,
        clusters=clusters,
    )
    return [band_of(arm, confidence) for arm in arms]


def band_of(arm: ArmRows, confidence: float) -> Band:
    """The band of an arm that is resampled already."""
    low, high = np.quantile(arm.accuracy[1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Band(
        arm=arm.arm,
        flops=np.exp(arm.log_flops) + arm.extra_flops[0],
        accuracy=arm.accuracy[0],
        low=low.clip(0, 1),
        high=high.clip(0, 1),
        confidence=confidence,
    )


def _accuracy_at(arms: Sequence[ArmRows], flops: float, monotone: Monotone) -> FloatArray | None:
    """Per row, the best accuracy of an arm at this compute (extra included), None where none spans it."""
    spanning = []
    for arm in arms:
        total = np.log(np.exp(arm.log_flops) + arm.extra_flops)
        at = math.log(flops)
        if not total[0, 0] - 1e-9 <= at <= total[0, -1] + 1e-9:
            continue
        fit = arm.fitted(monotone)
        spanning.append(np.array([np.interp(at, t, f) for t, f in zip(total, fit, strict=True)]))
    return np.max(spanning, axis=0) if spanning else None
