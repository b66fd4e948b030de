"""Intervals against exact coverage, scipy's own intervals, closed forms and simulation."""

import numpy as np
import pytest
from scipy import special, stats

from stillmark.analysis.intervals import (
    Interval,
    accuracy_interval,
    accuracy_interval_over_seeds,
    binomial_interval,
)

SIZES = (30, 200, 1000)
ACCURACIES = (0.02, 0.5, 0.98)
NEAREST_ATTAINABLE = 0.9783  # n = 30 at .02: {0, 1} has 88.0%, {0, 1, 2} has 97.8%, and nothing is between


def width(interval):
    return interval.high - interval.low


def exact_coverage(num_samples, accuracy):
    """The chance that the interval holds the truth: summed over all outcomes, so without simulation error."""
    chance = stats.binom.pmf(np.arange(num_samples + 1), num_samples, accuracy)
    intervals = [binomial_interval(k, num_samples) for k in range(num_samples + 1)]
    return sum(p for p, i in zip(chance, intervals, strict=True) if i.contains(accuracy))


def beta_binomial(rng, num_items, num_repeats, accuracy, correlation):
    """Counts correct of repeated items whose difficulty varies: intraclass correlation as given."""
    strength = 1 / correlation - 1
    probability = rng.beta(accuracy * strength, (1 - accuracy) * strength, num_items)
    return rng.binomial(num_repeats, probability)


@pytest.mark.parametrize("num_samples", SIZES)
@pytest.mark.parametrize("accuracy", ACCURACIES)
def test_independent_answers_are_covered_95_percent(num_samples, accuracy):
    coverage = exact_coverage(num_samples, accuracy)
    if num_samples == 30 and accuracy != 0.5:
        assert coverage == pytest.approx(NEAREST_ATTAINABLE, abs=1e-4)
    else:
        assert 0.935 <= coverage <= 0.965


def test_nothing_between_88_and_97_8_percent_is_attainable_at_30():
    sums = np.cumsum(stats.binom.pmf(np.arange(31), 30, 0.02))
    assert sums[1] == pytest.approx(0.8795, abs=1e-3)
    assert sums[2] == pytest.approx(NEAREST_ATTAINABLE, abs=1e-4)


@pytest.mark.parametrize("num_samples", [1, 3, 30, 1000])
def test_ends_at_none_and_all_correct(num_samples):
    none, everything = binomial_interval(0, num_samples), binomial_interval(num_samples, num_samples)
    assert (none.value, none.low) == (0, 0)
    assert (everything.value, everything.high) == (1, 1)
    # The "rule of three": (1 - p)^n / 2 = .025.
    assert none.high == pytest.approx(1 - 0.05 ** (1 / num_samples), abs=1e-9)
    assert everything.low == pytest.approx(0.05 ** (1 / num_samples), abs=1e-9)


@pytest.mark.parametrize(("num_correct", "num_samples"), [(1, 30), (15, 30), (29, 30), (7, 200), (640, 1000)])
def test_lies_within_clopper_pearson(num_correct, num_samples):
    interval = binomial_interval(num_correct, num_samples)
    exact = stats.binomtest(num_correct, num_samples).proportion_ci(method="exact")
    assert exact.low < interval.low < num_correct / num_samples < interval.high < exact.high
    # The definition, with scipy's binomial distribution.
    above = stats.binom.sf(num_correct, num_samples, interval.low)
    assert above + stats.binom.pmf(num_correct, num_samples, interval.low) / 2 == pytest.approx(0.025)


def test_no_data_is_none():
    assert binomial_interval(0, 0) is None
    assert accuracy_interval([]) is None
    assert accuracy_interval([np.nan, np.nan]) is None
    assert accuracy_interval_over_seeds([]) is None
    assert accuracy_interval_over_seeds([[np.nan], [1]]) is None


def test_one_answer_per_item_is_the_binomial_interval():
    assert accuracy_interval([1, 0, 1, np.nan, 1]) == binomial_interval(3, 4)


def test_wilson_where_the_correlation_is_known_to_be_one():
    # 50 items asked four times, each time the same: 50 answers, and Student's t for 49 degrees of freedom.
    flags = np.repeat(np.arange(50) < 20, 4).reshape(50, 4)
    interval = accuracy_interval(flags)
    # One of 21 parts of the correlation is the prior 1/2.
    correlation = (20 * min(1, 50 / 49) + 0.5) / 21
    inverse = (1 - correlation) / 200 + correlation / 50
    quantile = stats.t.ppf(0.975, 49)
    squared = quantile**2 * inverse
    centre = (0.4 + squared / 2) / (1 + squared)
    half = np.sqrt(squared * 0.24 + squared**2 / 4) / (1 + squared)
    assert interval.value == pytest.approx(0.4)
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half))


def test_forms_of_the_same_data_agree():
    flags = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    by_matrix = accuracy_interval(flags)
    by_count = accuracy_interval(flags.sum(axis=1), num_repeats=3)
    by_cluster = accuracy_interval(flags.ravel(), clusters=np.repeat(["a", "b", "c", "d"], 3))
    for other in (by_count, by_cluster):
        assert (other.value, other.low, other.high) == pytest.approx(
            (by_matrix.value, by_matrix.low, by_matrix.high)
        )


def test_clusters_widen_and_identical_repeats_add_nothing_much():
    rng = np.random.default_rng(0)
    flags = rng.random(200) < 0.4
    alone = accuracy_interval(flags)
    repeated = accuracy_interval(np.repeat(flags[:, None], 5, axis=1))
    pretended = accuracy_interval(np.repeat(flags, 5))
    assert width(repeated) == pytest.approx(width(alone), rel=0.03)
    assert width(pretended) < width(alone) / 2


def test_one_cluster_says_nothing():
    interval = accuracy_interval([1, 0, 1], clusters=["text"] * 3)
    assert (interval.low, interval.high) == (0, 1)
    assert "one item or cluster" in interval.note


def coverage_by_simulation(num_items, num_repeats, accuracy, correlation, num_trials, seed=0):
    rng = np.random.default_rng(seed)
    hits = [
        accuracy_interval(
            beta_binomial(rng, num_items, num_repeats, accuracy, correlation), num_repeats=num_repeats
        ).contains(accuracy)
        for _ in range(num_trials)
    ]
    return np.mean(hits)


@pytest.mark.parametrize("accuracy", ACCURACIES)
def test_repeated_items_are_covered_fast(accuracy):
    coverage = coverage_by_simulation(200, 4, accuracy, 0.3, 1500)
    assert 0.935 - 0.013 <= coverage <= 0.965 + 0.013  # two standard errors of 1,500 trials


@pytest.mark.slow
@pytest.mark.parametrize("num_items", SIZES)
@pytest.mark.parametrize("accuracy", ACCURACIES)
@pytest.mark.parametrize("correlation", [0.1, 0.3, 0.7])
def test_repeated_items_are_covered(num_items, accuracy, correlation):
    coverage = coverage_by_simulation(num_items, 4, accuracy, correlation, 10_000)
    # At 30 items and .02 most sets hold 0 to 3 items with a correct answer: too discrete for less than 98.5%.
    most = 0.965 if num_items > 30 or accuracy == 0.5 else 0.985
    assert 0.935 - 0.003 <= coverage <= most + 0.003


def crossed(rng, num_seeds, num_items, centre, seed_spread):
    """Items of varying difficulty, seeds of varying skill, in logits."""
    item = rng.normal(0, 1.5, num_items)
    skill = rng.normal(0, seed_spread, num_seeds)
    return rng.random((num_seeds, num_items)) < special.expit(centre + skill[:, None] + item)


def coverage_over_seeds(num_seeds, num_items, centre, seed_spread, num_trials):
    """The truth is the mean over all items and all seeds: the logit's spread adds up."""
    rng = np.random.default_rng(2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    truth = (special.expit(centre + nodes * np.hypot(1.5, seed_spread)) * weights).sum() / weights.sum()
    hits = [
        accuracy_interval_over_seeds(crossed(rng, num_seeds, num_items, centre, seed_spread)).contains(truth)
        for _ in range(num_trials)
    ]
    return np.mean(hits)


def test_seeds_are_covered_fast():
    assert 0.93 <= coverage_over_seeds(3, 200, 0.0, 0.3, 800) <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_seeds", "least", "most"), [(2, 0.915, 0.995), (3, 0.925, 0.985), (5, 0.925, 0.98)]
)
@pytest.mark.parametrize("seed_spread", [0, 0.1, 0.4, 1])
@pytest.mark.parametrize("centre", [0, -2])
def test_seeds_are_covered(num_seeds, least, most, seed_spread, centre):
    assert least <= coverage_over_seeds(num_seeds, 500, centre, seed_spread, 3000) <= most


def test_one_seed_is_said():
    interval = accuracy_interval_over_seeds([[1, 0, 1]])
    assert "one seed" in interval.note
    assert interval.low == accuracy_interval([1, 0, 1]).low


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(1)
    flags = rng.random(400) < 0.5
    same = accuracy_interval_over_seeds([flags, flags, flags])
    apart = accuracy_interval_over_seeds([flags, flags & (rng.random(400) < 0.5), flags])
    assert width(apart) > 3 * width(same)


def test_items_missing_at_a_seed_are_left_out_and_counted():
    interval = accuracy_interval_over_seeds([[1, 0, 1, np.nan], [1, 0, 0, 1]])
    assert interval.value == pytest.approx(0.5)
    assert interval.note.startswith("1 items not scored")


@pytest.mark.parametrize("bad", [[0.5, 1], [2, 0], [[[1]]]])
def test_what_is_not_a_flag_is_refused(bad):
    with pytest.raises(ValueError, match="correct must"):
        accuracy_interval(bad)


def test_counts_beyond_the_repeats_are_refused():
    with pytest.raises(ValueError, match="count from 0 to num_repeats"):
        accuracy_interval([3], num_repeats=2)
    with pytest.raises(ValueError, match="num_correct must be"):
        binomial_interval(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        binomial_interval(1, 2, confidence=95)


def test_interval_is_keyword_only_and_frozen():
    with pytest.raises(AttributeError):
        Interval(value=0, low=0, high=1, confidence=0.95, method="x").value = 1
