"""A quantised arm less its parent: against scipy's paired t where one seed is, and no wider for what both sides share."""

import numpy as np
from scipy import stats

from stillmark.analysis.curves import Curve, CurvePoint
from stillmark.analysis.paired import paired_difference
from stillmark.analysis.quantised import accuracy_difference


def curves(arm: str, by_seed: np.ndarray) -> list[Curve]:
    return [
        Curve(arm=arm, seed=seed, points=(CurvePoint(flops=1.0 + seed, correct=row),))
        for seed, row in enumerate(by_seed)
    ]


def answers(*shape: int, share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < share).astype(float)


def test_one_seed_is_the_wider_of_the_paired_t_and_bonett_price():
    one, other = answers(1, 40, share=0.5, seed=1), answers(1, 40, share=0.6, seed=2)
    found = accuracy_difference(curves("a", one), curves("b", other))
    apart = (one - other)[0]
    low, high = stats.t.interval(0.95, 39, loc=apart.mean(), scale=stats.sem(apart))
    paired = paired_difference(one[0], other[0])
    assert np.isclose(found.value, apart.mean())
    assert np.isclose(found.low, min(low, paired.low))
    assert np.isclose(found.high, max(high, paired.high))
    assert "one seed" in found.note


def test_what_seeds_share_is_not_in_the_interval():
    """Two training runs that ended far apart, each rounded without a loss."""
    runs = np.stack([answers(200, share=0.2, seed=1), answers(200, share=0.9, seed=2)])
    found = accuracy_difference(curves("a", runs), curves("b", runs))
    assert found.value == 0
    assert found.low < 0 < found.high
    assert found.high - found.low < 0.05


def test_items_where_the_harness_failed_are_left_out():
    one, other = answers(2, 30, share=0.5, seed=1), answers(2, 30, share=0.5, seed=2)
    holed = one.copy()
    holed[1, :3] = np.nan
    found = accuracy_difference(curves("a", holed), curves("b", other))
    assert found == accuracy_difference(curves("a", one[:, 3:]), curves("b", other[:, 3:]))
    assert accuracy_difference(curves("a", np.full((1, 3), np.nan)), curves("b", np.ones((1, 3)))) is None
