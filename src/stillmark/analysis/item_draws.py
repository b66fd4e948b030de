"""Resamples of the items that many estimates share: drawn once, and each model's accuracy on them worked out once.

Resamples depend on the random seed and the number of items alone. A report asks for the same ones under every
boundary, for every student and every difference; drawing them is most of the work of a large study. Counts times
flags are whole numbers, so that a model's accuracies are the same to the digit, alone or beside others.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.bootstrap import CHUNK_CELLS, FloatArray, accuracies_on, draw_counts

KEPT_DRAWS = 4  # numbers of items whose resamples are held at once, one byte an item and resample
MOST_COLUMN_CELLS = 20_000_000  # accuracies held before all are forgotten: 160 MB


class ItemDraws:
    """How often each item is drawn in each resample, and the accuracies on them that were asked for."""

    def __init__(self, num_items: int, num_resamples: int, random_seed: int) -> None:
        rng = np.random.default_rng(random_seed)
        self.num_resamples = num_resamples
        parts: list[npt.NDArray[Any]] = []
        chunk = max(1, CHUNK_CELLS // num_items)
        for start in range(0, num_resamples, chunk):
            counts = draw_counts(num_items, num_items, min(chunk, num_resamples - start), rng)
            is_small = counts.max(initial=0) < 256
            parts.append(counts.astype(np.uint8 if is_small else np.uint32))
        self.parts = parts
        self.state_after = rng.bit_generator.state
        self._columns: dict[tuple[bytes, bytes], FloatArray] = {}

    def rng(self) -> np.random.Generator:
        """The random stream as it is after the items were drawn: what comes next draws the seeds."""
        rng = np.random.default_rng()
        rng.bit_generator.state = self.state_after
        return rng

    def accuracies(
        self, correct: Sequence[npt.ArrayLike], item_weights: npt.ArrayLike | None = None
    ) -> FloatArray:
        """As `bootstrap_accuracies`: (1 + resamples) x models. Looked up by the answers and weights themselves."""
        arrays = [np.asarray(row, dtype=np.float64) for row in correct]
        mark = b"" if item_weights is None else np.asarray(item_weights, dtype=np.float64).tobytes()
        keys = [(array.tobytes(), mark) for array in arrays]
        if (len(self._columns) + len(keys)) * (self.num_resamples + 1) > MOST_COLUMN_CELLS:
            self._columns.clear()
        missing = {key: array for key, array in zip(keys, arrays, strict=True) if key not in self._columns}
        if missing:
            found = accuracies_on(np.stack(list(missing.values())), self.parts, item_weights)
            self._columns.update(zip(missing, np.ascontiguousarray(found.T), strict=True))
        return np.stack([self._columns[key] for key in keys], axis=1)


@lru_cache(maxsize=KEPT_DRAWS)
def item_draws(num_items: int, num_resamples: int, random_seed: int) -> ItemDraws:
    """The resamples of so many items; the last few are held."""
    return ItemDraws(num_items, num_resamples, random_seed)
