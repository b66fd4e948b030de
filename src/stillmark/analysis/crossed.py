"""The interval of a ratio of sums over items and seeds: bits over bytes, nats over tokens, one gap over another.

    R = sum over seeds and items of a / sum over seeds and items of b

Every seed sees the same items (a crossed layout). With z = (a - R b) / (sum of b of one seed), the error of R is, to
first order, the sum of z over items and its mean over seeds; so its variance has the parts that `clustering.py` knows:
between items, between seeds, and what is left. Half-widths are `clustering.crossed_half_width`, with Student's t: few
items or few seeds give a wide interval. One seed says nothing of the variance between seeds, and the note says so.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from stillmark.analysis.clustering import FloatArray, Variances, crossed_half_width

METHOD = "linearised ratio of sums, items crossed with seeds, Student's t"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A ratio with its interval; both limits None where one item says nothing of how items differ."""

    value: float
    low: float | None
    high: float | None
    confidence: float
    method: str = METHOD
    note: str | None = None


def ratio_of_sums(
    amounts: npt.ArrayLike, sizes: npt.ArrayLike, *, confidence: float = 0.95, is_seeded: bool = True
) -> Estimate:
    """`amounts` and `sizes`: seeds x items, or items (sizes alike for all seeds).

    `is_seeded`: whether another seed could have given another result; a model that is given as it is has none.
    Raises ValueError where the sizes do not sum to a positive number.
    """
    a = np.atleast_2d(np.asarray(amounts, dtype=np.float64))
    b = np.broadcast_to(np.asarray(sizes, dtype=np.float64), a.shape)
    num_seeds, num_items = a.shape
    if not b.sum() > 0:
        raise ValueError(f"sizes must sum to a positive number, got {b.sum()}")
    value = float(a.sum() / b.sum())
    note = (
        "one seed: the variance between seeds is not in the interval"
        if num_seeds == 1 and is_seeded
        else None
    )
    if num_items == 1:
        return Estimate(value=value, low=None, high=None, confidence=confidence, note="one item: no interval")
    residual = (a - value * b) / (b.sum() / num_seeds)
    weight = np.abs(b.mean(axis=0)) / np.abs(b.mean(axis=0)).sum()
    unbiased, degrees = item_factors(weight)
    by_item = residual.mean(axis=0)
    items = unbiased * float((by_item**2).sum())
    if num_seeds == 1:
        half = float(special.stdtrit(degrees, (1 + confidence) / 2)) * float(np.sqrt(items))
    else:
        by_seed = residual.sum(axis=1)
        left = residual - by_item - by_seed[:, None] * weight
        half = crossed_half_width(
            Variances(
                items=items,
                seeds=float(by_seed.var(ddof=1)) / num_seeds,
                interaction=float((left**2).sum()) * unbiased / (num_seeds * (num_seeds - 1)),
                item_degrees=degrees,
                seed_degrees=num_seeds - 1,
            ),
            confidence,
        )
    return Estimate(value=value, low=value - half, high=value + half, confidence=confidence, note=note)


def item_factors(weight: FloatArray) -> tuple[float, float]:
    """(factor that makes the sum of squares between items unbiased, degrees of freedom); n/(n - 1) and n - 1 where
    all weigh the same. As `clustering.cluster_design` has them for identical answers within a cluster."""
    parts = weight**2
    seen = float((parts * (1 - 2 * weight)).sum() + parts.sum() ** 2)
    degrees = max(1.0, float(parts.sum() ** 2 / (parts**2).sum()) - 1)
    return float(parts.sum()) / seen, degrees
