"""Paired comparisons against scipy, statsmodels, brute force and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from stillmark.analysis.paired import (
    compare,
    compare_tasks,
    holm,
    mcnemar_exact,
    mcnemar_power,
    paired_bootstrap,
    paired_difference,
    paired_p_value,
    smallest_detectable_difference,
)


def flags(both, first_only, second_only, neither):
    """Answers of two models with these four counts."""
    first = [1] * both + [1] * first_only + [0] * second_only + [0] * neither
    second = [1] * both + [0] * first_only + [1] * second_only + [0] * neither
    return np.array(first), np.array(second)


# --- p-values


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (3, 12), (40, 20), (200, 260)])
def test_mcnemar_is_the_binomial_test(b, c):
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected)


def test_mcnemar_against_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    assert mcnemar_exact(3, 12) == pytest.approx(tables.mcnemar([[50, 3], [12, 35]], exact=True).pvalue)


def test_p_value_of_flags_is_mcnemar_and_of_identical_repeats_too():
    first, second = flags(50, 3, 12, 35)
    assert paired_p_value(first, second) == mcnemar_exact(3, 12)
    repeated = [np.repeat(side[:, None], 4, axis=1) for side in (first, second)]
    assert paired_p_value(*repeated) == mcnemar_exact(3, 12)


def test_p_value_of_repeats_against_all_sign_flips():
    rng = np.random.default_rng(0)
    first, second = rng.random((12, 5)) < 0.7, rng.random((12, 5)) < 0.45
    difference = first.mean(axis=1) - second.mean(axis=1)
    flips = [abs((np.array(signs) * difference).sum()) for signs in itertools.product((-1, 1), repeat=12)]
    exact = np.mean(np.array(flips) >= abs(difference.sum()) - 1e-9)
    assert paired_p_value(first, second) == pytest.approx(exact, abs=0.01)


def test_no_common_item_is_none():
    assert paired_p_value([np.nan, 1], [1, np.nan]) is None
    assert paired_difference([np.nan, 1], [1, np.nan]) is None
    assert paired_bootstrap([], []) is None
    assert compare([np.nan], [1]) is None


def test_holm_by_hand_and_against_statsmodels():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None}) == {"a": 0.03, "b": 0.06, "c": 0.06, "d": None}
    multi = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).random(20) ** 3
    expected = multi.multipletests(p, method="holm")[1]
    np.testing.assert_allclose(list(holm({str(i): v for i, v in enumerate(p)}).values()), expected)


# --- the interval of the difference


def test_bonett_price_in_closed_form():
    first, second = flags(50, 3, 12, 35)
    interval = paired_difference(first, second)
    b, c = 4 / 102, 13 / 102
    half = stats.norm.ppf(0.975) * np.sqrt((b + c - (b - c) ** 2) / 102)
    assert interval.value == pytest.approx(-0.09)
    assert (interval.low, interval.high) == pytest.approx((b - c - half, b - c + half))


def test_models_that_never_disagree_still_have_a_width():
    first, second = flags(60, 0, 0, 40)
    interval = paired_difference(first, second)
    assert interval.value == 0
    assert -0.04 < interval.low < -0.01
    bootstrap = paired_bootstrap(first, second)
    assert (bootstrap.low, bootstrap.high) == (0, 0)  # why it is not the default


def test_bootstrap_agrees_with_the_closed_form_where_both_hold():
    first, second = flags(400, 120, 80, 400)
    closed, drawn = paired_difference(first, second), paired_bootstrap(first, second)
    assert (drawn.low, drawn.high) == pytest.approx((closed.low, closed.high), abs=0.003)


def test_repeated_items_are_no_more_items():
    first, second = flags(50, 3, 12, 35)
    once = paired_difference(first, second)
    many = paired_difference(
        *[np.repeat(side, 4) for side in (first, second)], clusters=np.repeat(range(100), 4)
    )
    assert many.method == "Bonett-Price, clustered"
    assert (many.low, many.high) == pytest.approx((once.low, once.high), abs=0.003)


def simulated_pair(rng, num_items, num_repeats, gap):
    """Two models that share their items' difficulty; the second is better by `gap` on the mean."""
    ease = rng.beta(1, 1, num_items)  # mean 1/2
    first = rng.random((num_items, num_repeats)) < ease[:, None]
    second_ease = ease + gap * 6 * ease * (1 - ease)  # mean 1/2 + gap
    second = rng.random((num_items, num_repeats)) < second_ease[:, None].clip(0, 1)
    return first, second


@pytest.mark.parametrize("num_items", [30, 200, 1000])
@pytest.mark.parametrize("num_repeats", [1, 4])
def test_difference_is_covered(num_items, num_repeats):
    rng = np.random.default_rng(4)
    hits = [
        paired_difference(*simulated_pair(rng, num_items, num_repeats, 0.1)).contains(-0.1)
        for _ in range(2000)
    ]
    assert 0.935 - 0.01 <= np.mean(hits) <= 0.965 + 0.01  # two standard errors of 2,000 trials


# --- power


@pytest.mark.parametrize(
    ("num_items", "share", "difference"), [(50, 0.3, 0.2), (200, 0.2, 0.1), (20, 0.5, 0.0)]
)
def test_power_against_brute_force(num_items, share, difference):
    expected = 0.0
    for discordant in range(num_items + 1):
        outcome = np.arange(discordant + 1)
        rejects = [mcnemar_exact(b, discordant - b) <= 0.05 for b in outcome]
        chance = stats.binom.pmf(outcome, discordant, (share + difference) / (2 * share))
        expected += stats.binom.pmf(discordant, num_items, share) * chance[rejects].sum()
    assert mcnemar_power(num_items, share, difference) == pytest.approx(expected, abs=1e-9)


def test_smallest_detectable_difference_has_the_power_and_is_near_the_normal_formula():
    for num_items, share in ((100, 0.3), (1000, 0.2), (5000, 0.1)):
        difference = smallest_detectable_difference(num_items, share)
        assert mcnemar_power(num_items, share, difference) == pytest.approx(0.8, abs=1e-3)
        # Miettinen (1968): (1.96 sqrt(s) + .84 sqrt(s - d^2)) / sqrt(n).
        normal = (1.96 * np.sqrt(share) + 0.8416 * np.sqrt(share - difference**2)) / np.sqrt(num_items)
        assert normal <= difference <= normal * 1.15


def test_a_set_too_small_detects_nothing():
    assert smallest_detectable_difference(5, 0.2) is None  # 5 of 5 has p = .0625
    assert smallest_detectable_difference(0, 0.2) is None
    assert smallest_detectable_difference(100, 0.0) == pytest.approx(0.0787, abs=0.002)


# --- the verdict


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((400, 80, 20, 500), "better"),
        ((400, 20, 80, 500), "worse"),
        ((5000, 20, 25, 4955), "tie"),
        ((20, 3, 2, 25), "underpowered"),
    ],
)
def test_verdicts(counts, verdict):
    result = compare(*flags(*counts))
    assert result.verdict == verdict
    assert result.num_items == sum(counts)
    assert (result.num_first_only, result.num_second_only) == counts[1:3]


def test_significant_but_within_the_margin_is_a_tie():
    result = compare(*flags(10_000, 60, 20, 10_000), margin=0.01)
    assert result.p_value < 0.001
    assert result.verdict == "tie"
    assert compare(*flags(10_000, 60, 20, 10_000), margin=0.0).verdict == "better"


def test_holm_takes_a_verdict_back():
    weak = flags(50, 12, 3, 35)  # p = .035
    assert compare(*weak).verdict == "better"
    nothing = flags(20, 5, 5, 20)
    result = compare_tasks({"weak": weak, "other": nothing, "none": ([np.nan], [1])})
    assert result["weak"].adjusted_p_value == pytest.approx(2 * result["weak"].p_value)
    assert result["weak"].verdict == "underpowered"
    assert result["none"] is None


def test_what_one_model_did_not_answer_is_left_out_and_counted():
    result = compare([1, 0, np.nan, 1], [1, np.nan, np.nan, 0])
    assert (result.num_items, result.num_left_out) == (2, 1)


def test_different_items_are_refused():
    with pytest.raises(ValueError, match="not the same items"):
        compare([1, 0], [1])
    with pytest.raises(ValueError, match="margin"):
        compare([1], [1], margin=-0.1)
    with pytest.raises(ValueError, match="disagree"):
        mcnemar_power(10, 0.1, 0.2)
