"""The bootstrap over items and seeds, as one matrix product, and estimates that may be censored.

A resample of the items is a row of counts: how often each item was drawn. The accuracy of every model on
every resample is then (counts @ correct) / (counts @ scored): one product for all models, which also means
that all models meet the *same* items in each resample, and what they have in common cancels in a difference
or a ratio.

Seeds are few, and `seed_weights` allows for it. Drawing S - 1 of S seeds with replacement gives the right variance
of their mean, where drawing S of them gives (S - 1)/S of it: half, for two seeds (McCarthy and Snowden 1985; Rao and
Wu 1988).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
Censoring = Literal["more than", "less than", "between", "unknown"]

NUM_RESAMPLES = 2000
RANDOM_SEED = 0  # of every bootstrap: recorded in the conclusion
CHUNK_CELLS = 4_000_000  # resamples x items held at once: tens of MB


@dataclass(frozen=True, kw_only=True)
class CensoredEstimate:
    """A number, or where the data end before it is reached, what is known of it.

    `value` is None when censored, and then `lower_bound` and `upper_bound` hold (None: none is known).
    `low` and `high` are the confidence limits; None means that the limit is open: resamples in which the
    number is only known to be "more than" push `high` to infinity, and are not dropped.
    """

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    censored: Censoring | None = None
    lower_bound: float | None = None
    upper_bound: float | None = None
    share_censored: float | None = None
    """Share of the resamples in which only a bound is known."""
    notes: tuple[str, ...] = ()


def bootstrap_accuracies(
    correct: npt.ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    rng: np.random.Generator,
    clusters: Sequence[Any] | npt.NDArray[Any] | None = None,
    item_weights: npt.ArrayLike | None = None,
) -> FloatArray:
    """Accuracy of each model on the data (row 0) and on each resample of the items: (1 + resamples) x models.

    `correct`: models x items, each 0 to 1, NaN where it was not scored. `clusters` are drawn whole.
    With `item_weights` (one an item) means are weighted, and `correct` may be any quality: with nats per byte and the
    items' bytes, a resample's value is the sum of its nats over the sum of its bytes.
    """
    matrix = np.atleast_2d(np.asarray(correct, dtype=np.float64))
    num_items = matrix.shape[1]
    labels = np.arange(num_items) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    if len(labels) != num_items:
        raise ValueError(f"{len(labels)} clusters named for {num_items} items")
    num_clusters = int(labels.max(initial=-1)) + 1

    def drawn() -> Iterator[npt.NDArray[Any]]:
        chunk = max(1, CHUNK_CELLS // max(1, num_items))
        for start in range(0, num_resamples, chunk):
            counts = draw_counts(num_clusters, num_clusters, min(chunk, num_resamples - start), rng)
            yield counts if clusters is None else counts[:, labels]

    return accuracies_on(matrix, drawn(), item_weights)


def accuracies_on(
    matrix: FloatArray, counts: Iterable[npt.NDArray[Any]], item_weights: npt.ArrayLike | None = None
) -> FloatArray:
    """Accuracy of each model (models x items) on the data, then on each resample, given as chunks of counts."""
    num_items = matrix.shape[1]
    is_scored = ~np.isnan(matrix)
    if num_items == 0 or not is_scored.any(axis=1).all():
        raise ValueError("each model needs at least one scored item")
    weight = np.ones(num_items) if item_weights is None else np.asarray(item_weights, dtype=np.float64)
    filled = np.where(is_scored, matrix, 0.0).T
    rows = [((weight @ filled) / (is_scored @ weight))[None]]
    # Counts times flags are whole numbers, which float32 holds exactly up to 2^24, at twice the speed.
    is_whole = item_weights is None and bool(((filled == 0) | (filled == 1)).all()) and num_items < 2**20
    number: Any = np.float32 if is_whole else np.float64
    filled = filled.astype(number)
    scored = None if is_scored.all() else is_scored.T.astype(number)
    for chunk in counts:
        weights = chunk.astype(number) if item_weights is None else chunk * weight
        total = weights.sum(axis=1, keepdims=True) if scored is None else weights @ scored
        with np.errstate(invalid="ignore"):
            rows.append(np.divide(weights @ filled, total, dtype=np.float64))
    return np.concatenate(rows)


def draw_counts(num_units: int, num_drawn: int, num_resamples: int, rng: np.random.Generator) -> FloatArray:
    """How often each unit is drawn, `num_drawn` draws with replacement a resample: resamples x units."""
    drawn = rng.integers(num_units, size=(num_resamples, num_drawn))
    drawn += np.arange(num_resamples)[:, None] * num_units
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_units)
    return counts.reshape(num_resamples, num_units).astype(np.float64)


def seed_weights(num_seeds: int, num_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Weight of each seed on the data (row 0: equal) and on each resample; rows sum to 1.

    Percentiles of a bootstrap are those of a normal distribution, where few seeds ask for Student's t: the weights
    are spread about the mean by t/z at 97.5% for 2 (S - 1) degrees of freedom (two sides of S seeds each), which
    is 2.2 for two seeds and 1.4 for three. A weight may then be negative. Without it the interval of a compute
    ratio covers 89 to 91% with two or three seeds that differ, with it 93 to 98% (and more than 98% where they do
    not differ, as the chance in each seed's answers is then counted with the items and with the seeds).
    """
    equal = np.full((1, num_seeds), 1 / num_seeds)
    if num_seeds == 1:
        return np.ones((num_resamples + 1, 1))
    drawn = draw_counts(num_seeds, num_seeds - 1, num_resamples, rng) / (num_seeds - 1)
    spread = float(special.stdtrit(2 * (num_seeds - 1), 0.975) / special.ndtri(0.975))
    return np.concatenate([equal, equal + spread * (drawn - equal)])


def censored_summary(lowest: FloatArray, highest: FloatArray, confidence: float) -> dict[str, Any]:
    """Fields of a `CensoredEstimate` from what each row says: at least `lowest`, at most `highest`.

    Row 0 is the estimate, the others are resamples. Known exactly where both are the same. Open ends are 0
    and infinity (all quantities here are positive). The limits are percentiles of the bounds, so censoring
    widens them.
    """
    tail = (1 - confidence) / 2
    low = high = share_censored = None
    if len(lowest) > 1:
        low = float(np.quantile(lowest[1:], tail, method="lower"))
        high = float(np.quantile(highest[1:], 1 - tail, method="higher"))
        share_censored = float((lowest[1:] != highest[1:]).mean())
    least, most = float(lowest[0]), float(highest[0])
    is_exact = least == most and 0 < least < np.inf
    has_least, has_most = least > 0, bool(np.isfinite(most))
    censored: Censoring | None
    if is_exact:
        censored = None
    elif has_least and has_most:
        censored = "between"
    elif has_least:
        censored = "more than"
    else:
        censored = "less than" if has_most else "unknown"
    return {
        "value": least if is_exact else None,
        "low": low or None,
        "high": high if high is not None and np.isfinite(high) else None,
        "confidence": confidence,
        "censored": censored,
        "lower_bound": least if has_least and not is_exact else None,
        "upper_bound": most if has_most and not is_exact else None,
        "share_censored": share_censored,
    }


def finite(value: float | None) -> float | None:
    """JSON has no infinity: an open end is None."""
    return None if value is None or not np.isfinite(value) else float(value)
