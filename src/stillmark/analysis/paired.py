"""Two models on the same items: is one better, are they equal within a margin, or can this set not tell?

- p-value: **McNemar's exact test** on the items where the two disagree. With repeats or clusters, its
generalization:
  the sign of each cluster's difference is flipped at random (with one answer an item this *is* McNemar's
  test).
- Interval of the difference: **Bonett and Price (2012)**: one pair in favour of each model is added, which
keeps the
  interval from having no width where the two never disagree. With clusters, one cluster in favour of each,
  and Student's t. The paired bootstrap is offered beside it (`paired_bootstrap`); it is too narrow with few
  disagreements.
- "Tie" is shown and not assumed: two one-sided tests (TOST), the interval at 1 - 2 alpha within the margin.
No
  significant difference and no tie is "underpowered", and the smallest difference that the set could detect
  is given.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from stillmark.analysis.bootstrap import NUM_RESAMPLES, FloatArray, bootstrap_accuracies
from stillmark.analysis.intervals import Interval, cluster_index, item_shares

Verdict = Literal["better", "worse", "tie", "underpowered"]
Clusters = Sequence[Any] | npt.NDArray[Any] | None

DEFAULT_MARGIN = 0.02
NUM_FLIPS = 20_000


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """The first model against the second on the items that both answered."""

    difference: Interval
    """Accuracy of the first less that of the second."""
    num_items: int
    num_first_only: int
    """Items that only the first has right (of repeated items: that it has right more often)."""
    num_second_only: int
    p_value: float
    adjusted_p_value: float
    """After Holm over the tasks compared together; the same as `p_value` for one."""
    margin: float
    smallest_detectable: float | None
    """The least true difference that a set like this one finds with the power asked for (.8)."""
    verdict: Verdict
    num_left_out: int = 0
    """Items that only one of the two has a scored answer for."""


def mcnemar_exact(num_first_only: int, num_second_only: int) -> float:
    """Two-sided exact p-value of McNemar's test: twice the smaller tail of Binomial(b + c, 1/2)."""
    num_discordant = num_first_only + num_second_only
    if num_discordant == 0:
        return 1.0
    smaller = min(num_first_only, num_second_only)
    return min(1.0, 2 * float(special.bdtr(smaller, num_discordant, 0.5)))


def paired_p_value(first: npt.ArrayLike, second: npt.ArrayLike, *, clusters: Clusters = None) -> float | None:
    """Two-sided p-value of "no difference": exact where one answer an item is compared; None for no item.

    With repeats or clusters: sign flips of each cluster's summed difference, 20,000 at random with a fixed
    seed, p = (1 + as extreme)/(1 + flips)."""
    difference, labels, _ = _differences(first, second, clusters)
    if len(difference) == 0:
        return None
    sums = np.bincount(labels, weights=difference)
    sums = sums[np.abs(sums) > 1e-12]
    if len(sums) == 0 or np.ptp(np.abs(sums)) < 1e-12:
        return mcnemar_exact(int((sums > 0).sum()), int((sums < 0).sum()))
    rng = np.random.default_rng(0)
    observed = abs(sums.sum()) - 1e-9
    num_extreme = 0
    chunk = max(1, 4_000_000 // len(sums))
    for start in range(0, NUM_FLIPS, chunk):
        size = min(chunk, NUM_FLIPS - start)
        signs = rng.integers(0, 2, (size, len(sums))) * 2 - 1
        num_extreme += int((np.abs(signs @ sums) >= observed).sum())
    return (1 + num_extreme) / (1 + NUM_FLIPS)


def paired_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, *, clusters: Clusters = None, confidence: float = 0.95
) -> Interval | None:
    """Accuracy of the first less the second's on the items that both answered; None for no such item.

    Flags per item, or items x repeats (averaged by item). Bonett and Price's adjusted interval; see the
    module."""
    difference, labels, _ = _differences(first, second, clusters)
    if len(difference) == 0:
        return None
    value = float(difference.mean())
    centre, stderr, degrees = _adjusted(difference, labels)
    is_simple = bool(np.isin(difference, (-1, 0, 1)).all()) and degrees == len(difference) - 1
    quantile = special.ndtri((1 + confidence) / 2)
    if not is_simple:
        quantile = special.stdtrit(max(degrees, 1), (1 + confidence) / 2)
    return Interval(
        value=value,
        low=max(-1.0, min(value, centre - float(quantile) * stderr)),
        high=min(1.0, max(value, centre + float(quantile) * stderr)),
        confidence=confidence,
        method="Bonett-Price" if is_simple else "Bonett-Price, clustered",
    )


def paired_bootstrap(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    clusters: Clusters = None,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap of the difference, items (or clusters) drawn jointly for both models."""
    difference, labels, _ = _differences(first, second, clusters)
    if len(difference) == 0:
        return None
    rows = bootstrap_accuracies(
        difference, num_resamples=num_resamples, rng=np.random.default_rng(random_seed), clusters=labels
    )[:, 0]
    low, high = np.quantile(rows[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(
        value=float(rows[0]),
        low=float(low),
        high=float(high),
        confidence=confidence,
        method="paired bootstrap",
    )


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's (1979) step-down adjusted p-values; an unknown one is not counted and stays unknown."""
    known = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    running = 0.0
    for rank, (p, name) in enumerate(known):
        running = max(running, min(1.0, (len(known) - rank) * p))
        adjusted[name] = running
    return adjusted


def mcnemar_power(num_items: int, discordant_share: float, difference: float, alpha: float = 0.05) -> float:
    """Chance that McNemar's exact test finds a true difference, summed over all outcomes.

    `discordant_share`: how often the two disagree; at least |difference|.
    """
    if not abs(difference) <= discordant_share <= 1:
        raise ValueError(
            f"models that differ by {difference} disagree at least so often, not {discordant_share}"
        )
    if discordant_share == 0:
        return 0.0
    # Counts further than eight standard deviations from the mean have no weight that could be seen.
    mean = num_items * discordant_share
    reach = 8 * math.sqrt(mean * (1 - discordant_share)) + 8
    discordant = np.arange(max(1, math.floor(mean - reach)), min(num_items, math.ceil(mean + reach)) + 1)
    log_chance = (
        special.gammaln(num_items + 1)
        - special.gammaln(discordant + 1)
        - special.gammaln(num_items - discordant + 1)
        + special.xlogy(discordant, discordant_share)
        + special.xlog1py(num_items - discordant, -discordant_share)
    )
    # The largest smaller count at which the test rejects; -1 where it never does.
    critical = np.ceil(special.bdtrik(alpha / 2, discordant, 0.5)).clip(0)
    critical = np.where(2 * special.bdtr(critical, discordant, 0.5) <= alpha, critical, critical - 1)
    in_favour = (discordant_share + difference) / (2 * discordant_share)
    rejects = special.bdtr(np.maximum(critical, 0), discordant, in_favour)
    rejects = rejects + special.bdtr(np.maximum(critical, 0), discordant, 1 - in_favour)
    return float((np.exp(log_chance) * np.where(critical >= 0, rejects, 0)).sum())


def smallest_detectable_difference(
    num_items: int, discordant_share: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The least true difference that McNemar's exact test finds with this power; None where it finds none.

    Models that differ by more than `discordant_share` are taken to disagree in that direction alone.
    """

    def shortfall(difference: float) -> float:
        return mcnemar_power(num_items, max(discordant_share, difference), difference, alpha) - power

    if num_items == 0 or shortfall(1.0) < 0:
        return None
    return float(optimize.brentq(shortfall, 0.0, 1.0, xtol=1e-6))


def compare(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    clusters: Clusters = None,
    margin: float = DEFAULT_MARGIN,
    alpha: float = 0.05,
    power: float = 0.8,
) -> PairedComparison | None:
    """The whole comparison of two models on one task; None where no item was answered by both."""
    return compare_tasks(
        {"task": (first, second)}, clusters={"task": clusters}, margin=margin, alpha=alpha, power=power
    )["task"]


def compare_tasks(
    results: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    clusters: Mapping[str, Clusters] | None = None,
    margin: float = DEFAULT_MARGIN,
    alpha: float = 0.05,
    power: float = 0.8,
) -> dict[str, PairedComparison | None]:
    """`compare` for each task, "better" and "worse" after Holm over the tasks."""
    if margin < 0:
        raise ValueError(f"margin must not be negative, got {margin}")
    groups = clusters or {}
    p_values = {
        task: paired_p_value(first, second, clusters=groups.get(task))
        for task, (first, second) in results.items()
    }
    adjusted = holm(p_values)
    compared: dict[str, PairedComparison | None] = {}
    for task, (first, second) in results.items():
        p_value, adjusted_p_value = p_values[task], adjusted[task]
        if p_value is None or adjusted_p_value is None:
            compared[task] = None
            continue
        raw = _compare(first, second, groups.get(task), margin, alpha, power, p_value)
        narrow = paired_difference(first, second, clusters=groups.get(task), confidence=1 - 2 * alpha)
        compared[task] = replace(
            raw,
            adjusted_p_value=adjusted_p_value,
            verdict=_verdict(raw.difference, narrow, adjusted_p_value, margin, alpha),
        )
    return compared


def _compare(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    clusters: Clusters,
    margin: float,
    alpha: float,
    power: float,
    p_value: float,
) -> PairedComparison:
    difference, labels, num_left_out = _differences(first, second, clusters)
    interval = paired_difference(first, second, clusters=clusters, confidence=1 - alpha)
    assert interval is not None, "a p-value exists, so an item does"
    first_only, second_only = int((difference > 0).sum()), int((difference < 0).sum())
    detectable: float | None
    if interval.method == "Bonett-Price":
        share = (first_only + second_only) / len(difference)
        detectable = smallest_detectable_difference(len(difference), share, alpha=alpha, power=power)
    else:
        _, stderr, degrees = _adjusted(difference, labels)
        quantiles = special.stdtrit(max(degrees, 1), [1 - alpha / 2, power])
        detectable = min(1.0, float(quantiles.sum()) * stderr)
    return PairedComparison(
        difference=interval,
        num_items=len(difference),
        num_first_only=first_only,
        num_second_only=second_only,
        p_value=p_value,
        adjusted_p_value=p_value,
        margin=margin,
        smallest_detectable=detectable,
        verdict="underpowered",
        num_left_out=num_left_out,
    )


def _verdict(
    difference: Interval, narrow: Interval | None, p_value: float, margin: float, alpha: float
) -> Verdict:
    """A tie first: a difference that is surely within the margin does not matter, significant or not."""
    if narrow is not None and -margin < narrow.low and narrow.high < margin:
        return "tie"
    if p_value <= alpha and difference.value != 0:
        return "better" if difference.value > 0 else "worse"
    return "underpowered"


def _differences(
    first: npt.ArrayLike, second: npt.ArrayLike, clusters: Clusters
) -> tuple[FloatArray, npt.NDArray[np.intp], int]:
    """Per item answered by both: share correct of the first less the second's; its cluster; items left
    out."""
    first_share, first_count = item_shares(first, None)
    second_share, second_count = item_shares(second, None)
    if len(first_share) != len(second_share):
        raise ValueError(f"not the same items: {len(first_share)} and {len(second_share)}")
    labels = cluster_index(clusters, len(first_share))
    is_in_both = (first_count > 0) & (second_count > 0)
    num_left_out = int(((first_count > 0) != (second_count > 0)).sum())
    if not is_in_both.any():
        return np.empty(0), np.empty(0, dtype=np.intp), num_left_out
    kept = np.unique(labels[is_in_both], return_inverse=True)[1].reshape(-1)
    return (first_share - second_share)[is_in_both], kept, num_left_out


def _adjusted(difference: FloatArray, labels: npt.NDArray[np.intp]) -> tuple[float, float, int]:
    """Mean, standard error and degrees of freedom with one cluster added in favour of each model.

    With one answer an item this is Bonett and Price: mean (b - c)/(n + 2) and variance ((b + c + 2)/(n + 2)
    - mean^2)/(n + 2). The added clusters have the mean size, and differ by as much as those that differ do
    (root mean square); where none does, wholly."""
    num_clusters = int(labels.max()) + 1
    size = len(difference) / num_clusters
    sums = np.bincount(labels, weights=difference)
    differing = sums[np.abs(sums) > 1e-12]
    added = float(np.sqrt((differing**2).mean())) if len(differing) else size
    sums = np.concatenate([sums, [added, -added]])
    sizes = np.concatenate([np.bincount(labels), [size, size]])
    centre = float(sums.sum() / sizes.sum())
    variance = float(((sums - centre * sizes) ** 2).sum() / sizes.sum() ** 2)
    return centre, float(np.sqrt(variance)), num_clusters - 1
