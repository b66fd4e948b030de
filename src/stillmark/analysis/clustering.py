"""The variance of a mean over clustered answers: how many independent answers it is worth.

Everything is in units of p (1 - p), the variance of one answer: a variance of 1/n says "worth n answers".
`intervals.py` makes intervals of it, and says why so.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

FloatArray = npt.NDArray[np.float64]

PRIOR_CORRELATION = 0.5
"""Intraclass correlation of a cluster of which nothing is known: midway between independent and identical."""


@dataclass(frozen=True, kw_only=True)
class ClusterDesign:
    """What the items say of the mean: p (1 - p) * inverse_size is its variance."""

    value: float
    num_clusters: int
    degrees: float  # of freedom of the variance between clusters: num_clusters - 1 where all weigh the same
    unbiased: float  # factor on the sum of squares between clusters
    inverse_size: float  # 1 / effective number of independent samples
    inverse_independent: float  # the same, were all answers independent: the least it can be


def cluster_design(shares: FloatArray, repeats: FloatArray, labels: npt.NDArray[np.intp]) -> ClusterDesign:
    """Effective number of samples of the mean over items, from the scatter between clusters.

    1/n_effective = (1 - rho)/n_independent + rho/n_identical, with rho the intraclass correlation that makes
    p (1 - p)/n_effective the cluster-robust variance; n_independent and n_identical are Kish's sizes for
    answers that are independent, and for answers that are all the same within a cluster.
    """
    num_items = len(shares)
    value = float(shares.mean())
    num_clusters = int(labels.max()) + 1
    weight = np.bincount(labels, minlength=num_clusters) / num_items
    independent = np.bincount(labels, weights=1 / repeats, minlength=num_clusters) / num_items**2
    identical = weight**2
    deviation = np.bincount(labels, weights=shares - value, minlength=num_clusters) / num_items
    squares, spread = float((deviation**2).sum()), value * (1 - value)
    num_informative = min(len(np.unique(labels[shares > 0])), len(np.unique(labels[shares < 1])))
    room = float(identical.sum() - independent.sum())

    correlation, unbiased = PRIOR_CORRELATION, 1.0
    parts = identical
    for _ in range(2):  # the factor that makes the variance unbiased depends, a little, on the correlation
        parts = (1 - correlation) * independent + correlation * identical
        if num_clusters == 1:
            break
        seen = float((parts * (1 - 2 * weight)).sum() + parts.sum() * identical.sum())
        unbiased = float(parts.sum()) / seen
        shown = 0.0
        if spread > 0 and room > 0:
            shown = float(np.clip((squares * unbiased / spread - independent.sum()) / room, 0, 1))
        correlation = (num_informative * shown + PRIOR_CORRELATION) / (num_informative + 1)
    parts = (1 - correlation) * independent + correlation * identical
    return ClusterDesign(
        value=value,
        num_clusters=num_clusters,
        # Satterthwaite: few large clusters among many small ones count as the few that they are.
        degrees=max(1.0, float(parts.sum() ** 2 / (parts**2).sum()) - 1),
        unbiased=unbiased,
        inverse_size=float(parts.sum()),
        inverse_independent=float(independent.sum()),
    )


def item_half_width(design: ClusterDesign, confidence: float) -> float:
    """Student's t times the standard error, in units of sqrt(p (1 - p))."""
    quantile = float(special.stdtrit(design.degrees, (1 + confidence) / 2))
    return quantile * float(np.sqrt(design.inverse_size))


def half_width_with_seeds(
    design: ClusterDesign, share: FloatArray, labels: npt.NDArray[np.intp], confidence: float
) -> float:
    """Half-width with the variance between seeds added; `share`: seeds x items. Units of sqrt(p (1 - p))."""
    num_seeds, num_items = share.shape
    num_clusters = design.num_clusters
    spread = design.value * (1 - design.value)
    if spread == 0:
        return item_half_width(design, confidence)
    seed_mean = share.mean(axis=1)
    residual = share - seed_mean[:, None] - share.mean(axis=0) + design.value
    by_cluster = np.stack([np.bincount(labels, weights=row, minlength=num_clusters) for row in residual])
    unbiased = design.unbiased * num_seeds / (num_seeds - 1)
    variances = Variances(
        items=design.inverse_size,
        seeds=float(seed_mean.var(ddof=1)) / num_seeds / spread,
        interaction=float(((by_cluster / num_items) ** 2).sum()) * unbiased / num_seeds**2 / spread,
        item_degrees=design.degrees,
        seed_degrees=num_seeds - 1,
    )
    return crossed_half_width(variances, confidence)


def crossed_half_width(variances: "Variances", confidence: float) -> float:
    """Half-width of the grand mean over items and seeds: midway between the two below, in the root of their unit."""
    if variances.items == 0 and variances.seeds == 0:
        return 0.0
    narrow = _satterthwaite_half_width(variances, confidence)
    return (narrow + _generalized_half_width(variances, confidence)) / 2


@dataclass(frozen=True, kw_only=True)
class Variances:
    """Variances of the grand mean, in one unit (for shares: p (1 - p)), and their degrees of freedom."""

    items: float
    seeds: float  # of the mean over seeds as it is seen: holds the interaction too
    interaction: float
    item_degrees: float
    seed_degrees: int


def _satterthwaite_half_width(variances: Variances, confidence: float) -> float:
    """t sqrt(V_items + max(0, V_seeds - V_interaction)), degrees of freedom by Satterthwaite (1946)."""
    v = variances
    between = v.seeds - v.interaction
    degrees = v.item_degrees
    if between > 0:
        parts = v.items**2 / v.item_degrees + v.seeds**2 / v.seed_degrees
        parts += v.interaction**2 / (v.item_degrees * v.seed_degrees)
        degrees = max(1.0, (v.items + between) ** 2 / parts)
    quantile = float(special.stdtrit(degrees, (1 + confidence) / 2))
    return quantile * float(np.sqrt(v.items + max(0.0, between)))


def _generalized_half_width(variances: Variances, confidence: float) -> float:
    """Half-width h with P(|T| sqrt(V_items + max(0, V_seeds d / X - V_interaction)) <= h) = confidence.

    T is Student's t of the items, X a chi-squared of the seeds' d degrees of freedom (a generalized
    confidence interval, Weerahandi 1993). X is integrated over 400 of its quantiles.
    """
    v = variances
    chi_squared = special.chdtri(v.seed_degrees, (np.arange(400) + 0.5) / 400)
    stderr = np.sqrt(v.items + np.maximum(0, v.seeds * v.seed_degrees / chi_squared - v.interaction))
    most = 2 * float(stderr.max() * special.stdtrit(v.item_degrees, (1 + confidence) / 2))

    def excess(half_width: float) -> float:
        within = 2 * special.stdtr(v.item_degrees, half_width / stderr) - 1
        return float(within.mean()) - confidence

    return root_between(excess, 0.0, most)


def root_between(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of a function with opposite signs at both ends (Brent)."""
    return float(optimize.brentq(function, low, high, xtol=1e-12))
