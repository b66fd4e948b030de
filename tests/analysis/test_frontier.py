"""Curves and compute ratios against brute force, closed forms and simulation."""

import math
import time

import numpy as np
import pytest
from scipy import optimize, special, stats

from stillmark.analysis.bootstrap import bootstrap_accuracies, draw_counts, seed_weights
from stillmark.analysis.curves import isotonic
from stillmark.analysis.frontier import (
    Curve,
    CurvePoint,
    accuracy_difference_at,
    compute_ratios,
    compute_to_reach,
    curve_band,
    pareto_frontier,
)
from stillmark.analysis.resample import resampled_arms


def compute_ratio(numerator, denominator, accuracy, **settings):
    return compute_ratios(numerator, denominator, [accuracy], **settings)[0]


def curve(accuracies, flops=None, *, arm="vanilla", seed=0, num_items=100):
    """A curve whose checkpoints have exactly these accuracies, the first items being the easy ones."""
    flops = flops or [10.0 ** (k + 1) for k in range(len(accuracies))]
    points = [
        CurvePoint(flops=f, correct=np.arange(num_items) < round(a * num_items))
        for f, a in zip(flops, accuracies, strict=True)
    ]
    return Curve(arm=arm, seed=seed, points=tuple(points))


def learner(rng, half_way_flops, *, arm, seed, difficulty, num_points=10, skill_spread=0.1, slope=1.2):
    """A logistic learning curve in log compute; the seed shifts its skill."""
    skill = rng.normal(0, skill_spread)
    points = []
    for flops in np.geomspace(1e10, 1e14, num_points):
        logit = slope * math.log(flops / half_way_flops) + skill - difficulty
        points.append(CurvePoint(flops=flops, correct=rng.random(len(difficulty)) < special.expit(logit)))
    return Curve(arm=arm, seed=seed, points=tuple(points))


# --- the Pareto set


def beaten(i, x, y):
    return any(x[j] <= x[i] and y[j] >= y[i] and (x[j] < x[i] or y[j] > y[i]) for j in range(len(x)))


@pytest.mark.parametrize("seed", range(20))
def test_pareto_frontier_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, (2, 25)).tolist()  # many ties
    expected = {i for i in range(25) if not beaten(i, x, y)}
    assert set(pareto_frontier(x, y)) == expected
    mirrored = pareto_frontier([-v for v in x], [-v for v in y], better_x="higher", better_y="lower")
    assert set(mirrored) == expected


def test_pareto_frontier_leaves_out_the_unknown_and_sorts_by_x():
    assert pareto_frontier([3, 1, None, 2, 2], [9, 5, 99, 7, None]) == [1, 3, 0]
    assert pareto_frontier([], []) == []


# --- the fit


def test_isotonic_against_scipy():
    rows = np.random.default_rng(0).random((50, 12))
    expected = np.stack([optimize.isotonic_regression(row).x for row in rows])
    np.testing.assert_allclose(isotonic(rows), expected, atol=1e-12)


def test_bootstrap_is_the_mean_over_drawn_items():
    correct = np.random.default_rng(1).random((3, 40)) < 0.6
    rows = bootstrap_accuracies(correct, num_resamples=500, rng=np.random.default_rng(7))
    counts = draw_counts(40, 40, 500, np.random.default_rng(7))
    assert (counts.sum(axis=1) == 40).all()
    np.testing.assert_allclose(rows[0], correct.mean(axis=1))
    for row, count in zip(rows[1:], counts, strict=True):
        drawn = np.repeat(np.arange(40), count.astype(int))
        np.testing.assert_allclose(row, correct[:, drawn].mean(axis=1))


def test_bootstrap_leaves_out_what_was_not_scored():
    correct = np.array([[1, 0, np.nan, 1], [np.nan, np.nan, 1, 1]])
    rows = bootstrap_accuracies(correct, num_resamples=0, rng=np.random.default_rng(0))
    np.testing.assert_allclose(rows[0], [2 / 3, 1])
    with pytest.raises(ValueError, match="at least one scored item"):
        bootstrap_accuracies([[np.nan]], rng=np.random.default_rng(0))


def test_clusters_are_drawn_whole():
    correct = np.repeat([0, 1, 0, 1], 25)
    rows = bootstrap_accuracies(
        correct, num_resamples=2000, rng=np.random.default_rng(0), clusters=np.repeat(list("abcd"), 25)
    )
    assert set(np.round(rows[1:, 0], 6)) <= {0, 0.25, 0.5, 0.75, 1}


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_seed_draws_have_the_variance_of_a_mean_and_students_spread(num_seeds):
    values = np.arange(num_seeds) ** 2.0
    weights = seed_weights(num_seeds, 200_000, np.random.default_rng(0))
    np.testing.assert_allclose(weights[0], 1 / num_seeds)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    spread = stats.t.ppf(0.975, 2 * (num_seeds - 1)) / stats.norm.ppf(0.975)
    expected = values.var(ddof=1) / num_seeds * spread**2
    assert (weights[1:] @ values).var() == pytest.approx(expected, rel=0.02)


# --- reaching an accuracy


def test_reach_is_linear_in_log_compute():
    reach = compute_to_reach(curve([0.2, 0.4, 0.8]), 0.5)
    assert reach.value == pytest.approx(10**2.25)
    assert reach.reached_by == "vanilla"
    assert compute_to_reach(curve([0.2, 0.4, 0.8]), 0.4).value == pytest.approx(100)


def test_reach_on_a_curve_that_falls():
    falling = curve([0.2, 0.6, 0.4, 0.5])  # isotonic: .2, .5, .5, .5
    assert compute_to_reach(falling, 0.5).value == pytest.approx(100)
    assert compute_to_reach(falling, 0.55).censored == "more than"
    assert compute_to_reach(falling, 0.55, monotone="running_best").value == pytest.approx(10**1.875)


def test_reach_is_censored_at_both_ends():
    never = compute_to_reach(curve([0.2, 0.4]), 0.5)
    assert (never.value, never.censored, never.upper_bound) == (None, "more than", None)
    assert never.lower_bound == pytest.approx(100)
    assert never.reached_by is None
    already = compute_to_reach(curve([0.6, 0.7]), 0.5)
    assert (already.value, already.censored, already.lower_bound) == (None, "less than", None)
    assert already.upper_bound == pytest.approx(10)
    fixed = compute_to_reach(curve([0.6, 0.7]), 0.5, extra_flops=90.0)
    assert (fixed.censored, fixed.lower_bound, fixed.upper_bound) == ("between", 90, pytest.approx(100))


def test_at_or_below_chance_is_unknown():
    reach = compute_to_reach(curve([0.1, 0.4]), 0.25, chance=0.25)
    assert (reach.value, reach.censored) == (None, "unknown")
    assert "chance" in reach.notes[0]


def test_seeds_are_averaged_at_equal_compute():
    first = curve([0.2, 0.4, 0.6], [10, 100, 1000])
    second = curve([0.4, 0.8], [10, 1000], seed=1)  # .6 at 100
    arm = resampled_arms([first, second], num_resamples=0)[0]
    np.testing.assert_allclose(np.exp(arm.log_flops), [10, 100, 1000])
    np.testing.assert_allclose(arm.accuracy[0], [0.3, 0.5, 0.7])


def test_seeds_are_averaged_where_all_have_checkpoints():
    arm = resampled_arms(
        [curve([0.2, 0.6], [10, 1000]), curve([0.4, 0.8], [100, 10000], seed=1)], num_resamples=0
    )
    np.testing.assert_allclose(np.exp(arm[0].log_flops), [100, 1000])
    np.testing.assert_allclose(arm[0].accuracy[0], [0.4, 0.6])
    with pytest.raises(ValueError, match="no compute in common"):
        resampled_arms([curve([0.2], [10]), curve([0.4], [100], seed=1)])


# --- the ratio


def test_ratio_of_shifted_curves_is_the_shift():
    slow = curve([0.1, 0.3, 0.5, 0.7], [1e3, 1e4, 1e5, 1e6])
    fast = curve([0.1, 0.3, 0.5, 0.7], [1e1, 1e2, 1e3, 1e4], arm="distilled")
    for accuracy in (0.25, 0.3, 0.45):
        ratio = compute_ratio([slow], [fast], accuracy)
        assert ratio.value == pytest.approx(100)
        # The same items for both sides, and the same accuracies: nothing is left to vary.
        assert ratio.low == pytest.approx(100)


def test_extra_flops_are_added_at_the_same_checkpoint():
    slow = curve([0.1, 0.5], [1e3, 1e5])
    fast = curve([0.1, 0.5], [1e1, 1e3], arm="distilled")
    student = compute_ratio([slow], [fast], 0.3)
    assert student.value == pytest.approx(1e4 / 1e2)
    fixed = compute_ratio([slow], [fast], 0.3, denominator_extra_flops=9900.0)
    assert fixed.value == pytest.approx(1e4 / (1e2 + 9900))
    # Generation that costs ten times the training so far: halfway between 100 and 10,000.
    generation = compute_ratio([slow], [fast], 0.3, denominator_extra_flops=lambda _, point: 10 * point.flops)
    assert generation.value == pytest.approx(1e4 / (1e2 + (100 + 10_000) / 2))


def test_ratio_is_censored_and_never_extrapolated():
    slow = curve([0.1, 0.3], [1e3, 1e5])
    fast = curve([0.1, 0.5], [1e1, 1e3], arm="distilled")
    more = compute_ratio([slow], [fast], 0.4)
    reached = math.exp(math.log(10) + 0.75 * math.log(100))
    assert (more.value, more.censored, more.high) == (None, "more than", None)
    assert more.lower_bound == pytest.approx(1e5 / reached)
    assert str(more).startswith("more than")
    less = compute_ratio([fast], [slow], 0.4)
    assert (less.value, less.censored, less.low) == (None, "less than", None)
    assert less.upper_bound == pytest.approx(reached / 1e5)
    assert compute_ratio([slow], [fast], 0.9).censored == "unknown"


def test_ratio_with_a_first_checkpoint_that_is_there_already():
    slow = curve([0.1, 0.3, 0.7], [1e3, 1e4, 1e5])
    early = curve([0.6, 0.7], [10, 100], arm="distilled")
    at_least = compute_ratio([slow], [early], 0.5)
    assert (at_least.value, at_least.censored) == (None, "more than")
    assert at_least.lower_bound == pytest.approx(10**4.5 / 10)
    between = compute_ratio([slow], [early], 0.5, denominator_extra_flops=10.0)
    assert between.censored == "between"
    assert (between.lower_bound, between.upper_bound) == pytest.approx((10**4.5 / 20, 10**4.5 / 10))
    assert str(between).startswith("1.58e+03x to 3.16e+03x")


def test_the_cheapest_arm_of_a_side_counts():
    small = curve([0.2, 0.4], [10, 100], arm="small")
    large = curve([0.3, 0.8], [1000, 10000], arm="large")
    student = curve([0.1, 0.9], [1, 10], arm="distilled")
    ratio = compute_ratio([small, large], [student], 0.35)
    assert ratio.numerator.reached_by == "small"
    ratio = compute_ratio([small, large], [student], 0.5)
    assert ratio.numerator.reached_by == "large"
    assert compute_ratio([small, large], [student], 0.85).numerator.lower_bound == pytest.approx(100)


def test_one_seed_is_said_in_the_notes():
    ratio = compute_ratio([curve([0.1, 0.9])], [curve([0.1, 0.9], arm="distilled")], 0.5)
    assert any("one seed" in note for note in ratio.notes)


def test_ratio_against_a_loop_over_resamples():
    rng = np.random.default_rng(5)
    difficulty = rng.normal(0, 1, 80)
    slow = learner(rng, 1e12, arm="vanilla", seed=0, difficulty=difficulty)
    fast = learner(rng, 1e11, arm="distilled", seed=0, difficulty=difficulty)
    ratio = compute_ratio([slow], [fast], 0.5, num_resamples=300, random_seed=3)
    counts = draw_counts(80, 80, 300, np.random.default_rng(3))

    def reached(side, count):
        accuracies = [(point.correct * count).sum() / 80 for point in side.points]
        fit = optimize.isotonic_regression(accuracies).x
        k = int(np.argmax(fit >= 0.5 - 1e-12))
        logs = np.log([point.flops for point in side.points])
        step = (0.5 - fit[k - 1]) / (fit[k] - fit[k - 1])
        return math.exp(logs[k - 1] + step * (logs[k] - logs[k - 1]))

    expected = sorted(reached(slow, count) / reached(fast, count) for count in counts)
    assert ratio.low == pytest.approx(np.quantile(expected, 0.025, method="lower"))
    assert ratio.high == pytest.approx(np.quantile(expected, 0.975, method="higher"))


def test_the_whole_bootstrap_is_quick():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 1, 500)
    sides = [
        [
            learner(rng, half, arm=f"{name}{a}", seed=s, difficulty=difficulty)
            for a in range(5)
            for s in range(3)
        ]
        for name, half in (("v", 1e12), ("d", 1e11))
    ]
    start = time.process_time()
    compute_ratio(sides[0], sides[1], 0.5)
    seconds = time.process_time() - start
    print(f"2,000 resamples, 10 arms x 3 seeds x 10 checkpoints x 500 items: {seconds:.2f} s")


def coverage_of_ratio(num_studies, num_seeds, num_items=300):
    """How often the interval holds the true ratio 10: same curve, shifted by a factor of ten in compute."""
    rng = np.random.default_rng(11)
    hits = []
    for _ in range(num_studies):
        difficulty = rng.normal(0, 1, num_items)
        sides = [
            [
                learner(rng, half, arm=arm, seed=s, difficulty=difficulty, skill_spread=0.3)
                for s in range(num_seeds)
            ]
            for arm, half in (("vanilla", 1e12), ("distilled", 1e11))
        ]
        ratio = compute_ratio(*sides, 0.5, num_resamples=400)
        hits.append((ratio.low or 0) <= 10 <= (ratio.high or math.inf))
    return np.mean(hits)


def test_ratio_covers_the_truth_fast():
    assert coverage_of_ratio(150, 4) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("num_seeds", "least"), [(2, 0.93), (3, 0.92), (5, 0.93)])
def test_ratio_covers_the_truth(num_seeds, least):
    assert least <= coverage_of_ratio(500, num_seeds) <= 0.995


# --- helpers of the report


def test_difference_at_equal_compute():
    low = curve([0.1, 0.5], [10, 1000])
    high = curve([0.3, 0.9], [10, 1000], arm="distilled")
    difference = accuracy_difference_at([high], [low], 100)
    assert difference.value == pytest.approx(0.3)
    assert difference.low < 0.3 < difference.high
    assert accuracy_difference_at([high], [low], 1e5) is None
    # With 90 more for the student, its curve spans 100 to 1,090.
    shifted = accuracy_difference_at([high], [low], 100, first_extra_flops=90.0)
    assert shifted.value == pytest.approx(0.3 - 0.3)


def test_band_holds_the_measured_means():
    bands = curve_band([curve([0.2, 0.6]), curve([0.4, 0.8], seed=1)], extra_flops=5.0)
    np.testing.assert_allclose(bands[0].flops, [15, 105])
    np.testing.assert_allclose(bands[0].accuracy, [0.3, 0.7])
    assert (bands[0].low < bands[0].accuracy).all()


def test_ratios_at_many_accuracies_are_those_at_each():
    sides = [curve([0.1, 0.5, 0.7])], [curve([0.2, 0.6, 0.9], arm="distilled")]
    assert compute_ratios(*sides, [0.3, 0.6])[1] == compute_ratio(*sides, 0.6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: curve([0.1, 0.2], [10, 10]), "must increase"),
        (lambda: curve([0.1], [0]), "positive"),
        (lambda: Curve(arm="a", seed=0, points=()), "no point"),
        (lambda: CurvePoint(flops=1, correct=np.array([2])), "from 0 to 1"),
        (lambda: compute_ratio([curve([0.1])], [curve([0.2])], 0.1), "both sides"),
        (lambda: compute_ratio([], [curve([0.2])], 0.1), "needs a curve"),
        (lambda: compute_ratio([curve([0.1])], [curve([0.1], arm="b", num_items=9)], 0.1), "same items"),
        (lambda: compute_to_reach(curve([0.1]), 0.1, extra_flops=-1.0), "negative"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
