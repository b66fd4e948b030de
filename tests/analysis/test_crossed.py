"""The interval of a ratio of sums over items and seeds: closed forms, and coverage where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from stillmark.analysis.bootstrap import bootstrap_accuracies, draw_counts
from stillmark.analysis.crossed import ratio_of_sums


def test_equal_sizes_and_one_seed_is_the_mean_with_students_t():
    values = np.random.default_rng(0).normal(3, 1, 40)
    found = ratio_of_sums(values, np.ones(40), is_seeded=False)
    low, high = stats.t.interval(0.95, 39, loc=values.mean(), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.note is None


def test_value_is_sum_over_sum_and_not_the_mean_of_ratios():
    found = ratio_of_sums([1.0, 30.0], [1.0, 10.0])
    assert found.value == pytest.approx(31 / 11)
    assert "one seed" in found.note


def test_one_item_has_no_interval():
    found = ratio_of_sums([[2.0], [4.0]], [4.0])
    assert (found.value, found.low, found.high) == (0.75, None, None)


def test_what_does_not_vary_has_no_width():
    sizes = np.array([3.0, 5.0, 9.0])
    found = ratio_of_sums(np.stack([2 * sizes, 2 * sizes]), sizes)
    assert found.low == found.value == found.high == 2


def test_sizes_of_nothing_are_refused():
    with pytest.raises(ValueError, match="positive"):
        ratio_of_sums([1.0, 2.0], [0.0, 0.0])


@pytest.mark.parametrize(
    ("num_seeds", "item", "seed", "rest"),
    [
        (1, 0.3, 0.0, 0.05),
        (2, 0.2, 0.05, 0.05),
        (3, 0.3, 0.0, 0.05),
        (3, 0.05, 0.05, 0.05),
        (5, 0.02, 0.1, 0.05),
    ],
)
def test_interval_covers_the_truth(num_seeds, item, seed, rest):
    """Effects of items, seeds and both, and sizes that differ; with one seed its own effect is the truth's."""
    rng = np.random.default_rng(num_seeds)
    num_covered, num_trials = 0, 500
    for _ in range(num_trials):
        sizes = rng.integers(100, 600, 24).astype(float)
        effects = rng.normal(0, item, 24) + rng.normal(0, seed, num_seeds)[:, None]
        found = ratio_of_sums(sizes * (1 + effects + rng.normal(0, rest, (num_seeds, 24))), sizes)
        num_covered += found.low <= 1 <= found.high
    assert 0.92 <= num_covered / num_trials <= 0.995


def test_a_weighted_bootstrap_divides_sums_by_sums():
    """Each resample's value is the bits of the drawn items over their bytes, by brute force on the same draws."""
    rng = np.random.default_rng(3)
    bits, sizes = rng.uniform(50, 500, (2, 9)), rng.uniform(20, 200, 9)
    rows = bootstrap_accuracies(
        bits / sizes, num_resamples=50, rng=np.random.default_rng(8), item_weights=sizes
    )
    counts = draw_counts(9, 9, 50, np.random.default_rng(8))
    drawn = [np.repeat(np.arange(9), row.astype(int)) for row in counts]
    assert rows[0] == pytest.approx(bits.sum(axis=1) / sizes.sum())
    for row, items in zip(rows[1:], drawn, strict=True):
        assert row == pytest.approx([side[items].sum() / sizes[items].sum() for side in bits])
