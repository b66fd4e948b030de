"""A quantised arm less its parent: against scipy's paired t where one seed is, and no wider for what both sides share."""

import numpy as np
from scipy import stats

from stillmark.analysis.paired import paired_difference
from stillmark.analysis.quantised import accuracy_difference


def answers(*shape: int, share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < share).astype(float)


def test_one_seed_is_the_wider_of_the_paired_t_and_bonett_price():
    one, other = answers(1, 40, share=0.5, seed=1), answers(1, 40, share=0.6, seed=2)
    found = accuracy_difference(one.T, other.T)
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
    found = accuracy_difference(runs.T, runs.T)
    assert found.value == 0
    assert found.low < 0 < found.high
    assert found.high - found.low < 0.05


def test_items_where_the_harness_failed_are_left_out():
    one, other = answers(2, 30, share=0.5, seed=1), answers(2, 30, share=0.5, seed=2)
    holed = one.copy()
    holed[1, :3] = np.nan
    found = accuracy_difference(holed.T, other.T)
    assert found == accuracy_difference(one[:, 3:].T, other[:, 3:].T)
    assert accuracy_difference(np.full((1, 3), np.nan).T, np.ones((1, 3)).T) is None
