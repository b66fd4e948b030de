"""What rounding the weights does: a quantised arm less the arm that it was made from, on the same items and seeds.

Both sides are one model and differ in its number format and in the engine that runs it (llama.cpp, transformers): the
format F32 rounds nothing and shows the engines alone. A seed is one training run, whose two models are held against one
another, so that what differs between runs alike for both is not in the interval. Items crossed with seeds as in
`crossed.py`; of accuracy the interval is the wider of that and Bonett and Price's over items (`paired.py`), as the
first is too narrow where the two sides hardly ever disagree.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from stillmark.analysis.bootstrap import FloatArray
from stillmark.analysis.crossed import ratio_of_sums
from stillmark.analysis.curves import Curve
from stillmark.analysis.differences import items_by_seed
from stillmark.analysis.intervals import Interval
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.paired import paired_difference
from stillmark.analysis.text_pairs import difference
from stillmark.analysis.text_scores import TextResult, estimate_row
from stillmark.study import Study
from stillmark.study.schema import QuantisedArm


def quantised_rows(study: Study, curves: Mapping[str, list[Curve]]) -> list[dict[str, Any]]:
    """One row a quantised arm of a question study: accuracy less its parent's, with a 95% interval."""
    rows = []
    for named in quantised_arms(study, curves):
        arm, parent = (items_by_seed(curves[named[side]]) for side in ("arm", "parent"))
        found = accuracy_difference(arm, parent)
        rows.append({**named, "accuracy": None if found is None else asdict(found)})
    return rows


def accuracy_difference(first: FloatArray, second: FloatArray, confidence: float = 0.95) -> Interval | None:
    """Accuracy of the first less the second's, both items x seeds, seed by seed on the items that all answered."""
    answered = np.isfinite(first + second).all(axis=1)
    if not answered.any():
        return None
    one, other = first[answered], second[answered]
    crossed = ratio_of_sums((one - other).T, np.ones(len(one)), confidence=confidence)
    over_items = paired_difference(one, other, confidence=confidence)
    assert over_items is not None, "some items were answered"
    return Interval(
        value=crossed.value,
        low=over_items.low if crossed.low is None else max(-1.0, min(crossed.low, over_items.low)),
        high=over_items.high if crossed.high is None else min(1.0, max(crossed.high, over_items.high)),
        confidence=confidence,
        method="wider of items crossed with seeds, and Bonett-Price over items",
        note=crossed.note,
    )


def quantised_text_rows(lineage: Lineage, results: Mapping[str, TextResult]) -> list[dict[str, Any]]:
    """One row a quantised arm of a text study: bits per byte less its parent's, with a 95% interval."""
    rows = []
    for named in quantised_arms(lineage.study, results):
        found = difference(results[named["arm"]], results[named["parent"]], "bits_per_byte")
        rows.append({**named, "bits_per_byte": estimate_row(found)})
    return rows


def quantised_arms(study: Study, recorded: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that are recorded whole, as their parents are."""
    for name, arm in study.arms.items():
        if isinstance(arm, QuantisedArm) and name in recorded and arm.parent in recorded:
            yield {"arm": name, "parent": arm.parent, "format": arm.format}


def quantised_part(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The conclusion's part; a study without quantised arms has none."""
    return {"quantised": rows} if rows else {}
