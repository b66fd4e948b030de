"""Medians with intervals and percentiles that do not promise more than the samples hold.

No distribution is assumed: timings are skewed and have outliers, which are kept. Both bounds are order
statistics (Hahn and Meeker, Statistical Intervals, 1991, sections 5.2 and 5.3).
"""

import math
from collections.abc import Sequence

from scipy import special

from stillmark.analysis.intervals import Interval

MIN_SAMPLES_FOR_INTERVAL = 6  # of a median at 95%: with 5, lowest to highest covers 93.75%
OUTLIER_DEVIATIONS = 5.0


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which `share` of the sample lies (linear between neighbours); None for no sample."""
    if not values:
        return None
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def median(values: Sequence[float]) -> float | None:
    return quantile(values, 0.5)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """The narrowest symmetric pair of order statistics that covers the median; None for no sample.

    Coverage of [x(k), x(n+1-k)] is 1 - 2·P(Binomial(n, 1/2) < k). With fewer than six samples even the
    extremes cover less than 95%: `confidence` then says what they do cover.
    """
    middle = median(values)
    if middle is None:
        return None
    ordered = sorted(values)
    n = len(ordered)
    rank = 1
    while rank + 1 <= (n + 1) // 2 and _coverage(n, rank + 1) >= confidence:
        rank += 1
    covered = _coverage(n, rank)
    return Interval(
        value=middle,
        low=ordered[rank - 1],
        high=ordered[n - rank],
        confidence=min(confidence, covered) if covered < confidence else confidence,
        method="order statistics",
        note=None if covered >= confidence else f"{n} samples: lowest to highest covers {covered:.0%}",
    )


def upper_bound(values: Sequence[float], share: float, confidence: float = 0.99) -> float | None:
    """An order statistic at or above the `share` quantile with that confidence; None with too few samples.

    MLPerf LoadGen's early stopping does the same: a percentile from few samples is stated pessimistically,
    and a 99th percentile needs 459 samples or more (the highest one then bounds it).
    """
    n = len(values)
    ordered = sorted(values)
    # x(k) bounds the quantile with confidence P(Binomial(n, share) <= k - 1).
    for rank in range(max(1, math.ceil(n * share)), n + 1):
        if float(special.bdtr(rank - 1, n, share)) >= confidence:
            return ordered[rank - 1]
    return None


def outliers(values: Sequence[float], deviations: float = OUTLIER_DEVIATIONS) -> list[int]:
    """Indices of values far from the median, in median absolute deviations. They are shown, never removed."""
    middle = median(values)
    if middle is None:
        return []
    spread = median([abs(value - middle) for value in values])
    if not spread:
        return []
    return [i for i, value in enumerate(values) if abs(value - middle) > deviations * 1.4826 * spread]


def _coverage(n: int, rank: int) -> float:
    return 1 - 2 * float(special.bdtr(rank - 1, n, 0.5))
