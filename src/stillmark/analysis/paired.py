"""Two models on the same items: is one better, are they equal within a margin, or can this set not tell?

- p-value: **McNemar's exact test** on the items where the two disagree. With repeats or clusters, what it is
  a case of: the sign of each cluster's difference is flipped at random.
- Interval of the difference: **Bonett and Price (2012)**: one pair in favour of each model is added, so that
  the interval has a width where the two never disagree. With clusters, one cluster in favour of each, and
  Student's t. `paired_bootstrap` is there too; it is too narrow with few disagreements.
- "Tie" is shown and not assumed: two one-sided tests (TOST), the interval at 1 - 2 alpha within the margin.
  No significant difference and no tie is "underpowered", and the smallest difference that the set could
  detect is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from stillmark.analysis.bootstrap import NUM_RESAMPLES, FloatArray, bootstrap_accuracies
from stillmark.analysis.intervals import Interval, cluster_index, item_shares
from stillmark.analysis.mcnemar import holm, mcnemar_exact, smallest_detectable_difference

Verdict = Literal["better", "worse", "tie", "underpowered"]
Clusters = Sequence[Any] | npt.NDArray[Any] | None

DEFAULT_MARGIN = 0.02
NUM_FLIPS = 20_000
MOST_FLIPPED = 1000  # clusters; beyond it the sum of random signs is normal


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


def paired_p_value(first: npt.ArrayLike, second: npt.ArrayLike, *, clusters: Clusters = None) -> float | None:
    """Two-sided p-value of "no difference": exact where one answer an item is compared; None for no item.

    With repeats or clusters: sign flips of each cluster's summed difference, 20,000 at random with a fixed
    seed, p = (1 + as extreme)/(1 + flips); by their normal limit where more than 1,000 clusters differ.
    """
    difference, labels, _ = _differences(first, second, clusters)
    if len(difference) == 0:
        return None
    sums = np.bincount(labels, weights=difference)
    sums = sums[np.abs(sums) > 1e-12]
    if len(sums) == 0 or np.ptp(np.abs(sums)) < 1e-12:
        return mcnemar_exact(int((sums > 0).sum()), int((sums < 0).sum()))
    observed = abs(float(sums.sum()))
    if len(sums) > MOST_FLIPPED:
        return 2 * float(special.ndtr(-observed / np.sqrt((sums**2).sum())))
    signs = np.random.default_rng(0).integers(0, 2, (NUM_FLIPS, len(sums)), dtype=np.int8) * 2 - 1
    num_extreme = int((np.abs(signs.astype(np.float32) @ sums.astype(np.float32)) >= observed - 1e-5).sum())
    return (1 + num_extreme) / (1 + NUM_FLIPS)


def paired_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, *, clusters: Clusters = None, confidence: float = 0.95
) -> Interval | None:
    """Accuracy of the first less the second's on the items that both answered; None for no such item.

    Flags per item, or items x repeats (averaged by item). Bonett and Price's adjusted interval; see the
    module.
    """
    difference, labels, _ = _differences(first, second, clusters)
    if len(difference) == 0:
        return None
    value = float(difference.mean())
    centre, stderr, degrees = _adjusted(difference, labels)
    is_simple = bool(np.isin(difference, (-1, 0, 1)).all()) and int(labels.max()) + 1 == len(difference)
    quantile = special.ndtri((1 + confidence) / 2)
    if not is_simple:
        quantile = special.stdtrit(degrees, (1 + confidence) / 2)
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
            verdict=verdict_of(raw.difference, narrow, adjusted_p_value, margin, alpha),
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
        quantiles = special.stdtrit(degrees, [1 - alpha / 2, power])
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


def verdict_of(
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
    """Per item answered by both: the difference of the shares correct, and its cluster; number left out."""
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


def _adjusted(difference: FloatArray, labels: npt.NDArray[np.intp]) -> tuple[float, float, float]:
    """Mean, standard error and degrees of freedom with one cluster added in favour of each model.

    With one answer an item this is Bonett and Price: mean (b - c)/(n + 2) and variance ((b + c + 2)/(n + 2)
    - mean^2)/(n + 2). The added clusters have the mean size, and differ by as much as those that differ do
    (root mean square); where none does, wholly.
    """
    num_clusters = int(labels.max()) + 1
    size = len(difference) / num_clusters
    sums = np.bincount(labels, weights=difference)
    differing = sums[np.abs(sums) > 1e-12]
    added = float(np.sqrt((differing**2).mean())) if len(differing) else size
    sums = np.concatenate([sums, [added, -added]])
    sizes = np.concatenate([np.bincount(labels), [size, size]])
    centre = float(sums.sum() / sizes.sum())
    variance = float(((sums - centre * sizes) ** 2).sum() / sizes.sum() ** 2)
    squares = np.bincount(labels) ** 2.0
    degrees = max(1.0, float(squares.sum() ** 2 / (squares**2).sum()) - 1)  # few large clusters count as few
    return centre, float(np.sqrt(variance)), degrees
