"""Equivalent size and size claims against families whose law is known."""

import math

import numpy as np
import pytest

from stillmark.analysis.curves import Curve, CurvePoint
from stillmark.analysis.differences import final_difference
from stillmark.analysis.paired import compare
from stillmark.analysis.size import SizedResult, equivalent_size, size_claims


def result(params, accuracy, *, seed=0, num_items=1000):
    """A model with exactly this accuracy, right on the easy items."""
    return SizedResult(params=params, seed=seed, correct=np.arange(num_items) < round(accuracy * num_items))


FAMILY = [result(1e6, 0.2), result(1e7, 0.4), result(1e8, 0.6)]


def test_size_is_interpolated_in_log_parameters():
    size = equivalent_size([result(1e6, 0.5)], FAMILY)
    assert size.value == pytest.approx(10**7.5)
    assert size.density.value == pytest.approx(10**1.5)
    assert size.low < size.value < size.high
    assert size.density.low == pytest.approx(size.low / 1e6)


def test_a_family_member_is_worth_itself():
    size = equivalent_size([result(1e7, 0.4)], FAMILY)
    assert size.value == pytest.approx(1e7)
    assert size.density.value == pytest.approx(1)


def test_beyond_the_family_is_censored():
    above = equivalent_size([result(1e6, 0.8)], FAMILY)
    assert (above.value, above.censored, above.high) == (None, "more than", None)
    assert above.lower_bound == pytest.approx(1e8)
    assert above.density.lower_bound == pytest.approx(100)
    below = equivalent_size([result(1e6, 0.1)], FAMILY)
    assert (below.value, below.censored, below.low) == (None, "less than", None)
    assert below.upper_bound == pytest.approx(1e6)


def test_a_family_that_is_not_monotone_is_made_so():
    family = [result(1e6, 0.2), result(1e7, 0.6), result(1e8, 0.4), result(1e9, 0.8)]  # .2, .5, .5, .8
    assert equivalent_size([result(1e6, 0.5)], family).value == pytest.approx(1e7)
    assert equivalent_size([result(1e6, 0.65)], family).value == pytest.approx(10**8.5)


def test_seeds_are_averaged():
    family = [result(p, a + d, seed=s) for p, a in ((1e6, 0.2), (1e8, 0.6)) for s, d in ((0, -0.1), (1, 0.1))]
    student = [result(1e6, 0.3, seed=0), result(1e6, 0.5, seed=1)]
    size = equivalent_size(student, family)
    assert size.value == pytest.approx(1e7)
    assert size.student_accuracy == pytest.approx(0.4)
    assert any("two seeds" in note for note in size.notes)


def test_interval_covers_the_true_size():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(200):
        difficulty = rng.normal(0, 1, 400)

        def trained(params, worth, seed, difficulty=difficulty):
            logit = 0.8 * math.log(worth / 1e7) + rng.normal(0, 0.1) - difficulty
            return SizedResult(params=params, seed=seed, correct=rng.random(400) < 1 / (1 + np.exp(-logit)))

        family = [trained(p, p, s) for p in (1e6, 4e6, 1.6e7, 6.4e7) for s in range(4)]
        student = [trained(1e6, 1e7, s) for s in range(4)]
        size = equivalent_size(student, family, num_resamples=300)
        hits.append((size.low or 0) <= 1e7 <= (size.high or math.inf))
    # The truth lies between two sizes, where interpolation itself adds a little.
    assert 0.87 <= np.mean(hits) <= 0.99


def test_ill_families_are_refused():
    with pytest.raises(ValueError, match="one size"):
        equivalent_size([result(1e6, 0.5), result(1e7, 0.5)], FAMILY)
    with pytest.raises(ValueError, match="same size and seed"):
        equivalent_size([result(1e6, 0.5)], [*FAMILY, result(1e6, 0.3)])


def answers(both, first_only, second_only, neither):
    first = [1] * (both + first_only) + [0] * (second_only + neither)
    second = [1] * both + [0] * first_only + [1] * second_only + [0] * neither
    return first, second


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((400, 80, 20, 500), "supported"),
        ((500, 50, 40, 410), "supported"),  # not worse by more than the margin, perhaps better
        ((5000, 20, 25, 4955), "tie"),
        ((400, 20, 80, 500), "contradicted"),
        ((20, 3, 4, 25), "underpowered"),
    ],
)
def test_size_claim_verdicts(counts, verdict):
    claims = size_claims({"task": answers(*counts)}, student_params=1e6, vanilla_params=1.2e7)
    assert claims["task"].verdict == verdict
    assert claims["task"].size_factor == pytest.approx(12)


def test_a_model_that_is_not_ten_times_as_large_tests_nothing():
    claim = size_claims({"task": answers(9, 1, 0, 0)}, student_params=1e6, vanilla_params=9e6)["task"]
    assert claim.verdict is None
    assert "not tested" in claim.note
    empty = size_claims({"task": ([np.nan], [1])}, student_params=1e6, vanilla_params=1e7)["task"]
    assert empty.verdict is None
    assert "no item" in empty.note


def trained(rng, num_items, seed_effects, difficulty):
    """Answers of one model by training seed, items x seeds: logit = effect of the seed - difficulty of the item."""
    return np.stack(
        [rng.random(num_items) < 1 / (1 + np.exp(difficulty - effect)) for effect in seed_effects], axis=1
    )


def claim_of(student, vanilla):
    return size_claims({"task": (student, vanilla)}, student_params=1e6, vanilla_params=1e7)["task"]


def test_a_claim_over_seeds_has_the_interval_of_any_two_arms():
    rng = np.random.default_rng(4)
    difficulty = rng.normal(0, 1, 150)
    student, vanilla = (
        trained(rng, 150, (0.2, 0.5), difficulty),
        trained(rng, 150, (0.0, 0.3, 0.4), difficulty),
    )
    first, second = (
        [Curve(arm=name, seed=seed, points=(CurvePoint(flops=1.0, correct=column.astype(float)),))
         for seed, column in enumerate(side.T)]
        for name, side in (("a", student), ("b", vanilla))
    )  # fmt: skip
    assert claim_of(student, vanilla).comparison.difference == final_difference(first, second)


def test_seeds_that_differ_take_the_verdict_away():
    """Each item says the same, and one student in two is bad: items alone would call that a contradiction."""
    rng = np.random.default_rng(5)
    difficulty = rng.normal(0, 1, 2000)
    student, vanilla = (
        trained(rng, 2000, (-1.2, 1.0), difficulty),
        trained(rng, 2000, (0.3, 0.35), difficulty),
    )
    assert compare(student, vanilla).verdict == "worse"
    claim = claim_of(student, vanilla)
    assert claim.verdict == "underpowered"
    assert claim.comparison.p_value > 0.05
    assert claim.comparison.smallest_detectable > 0.2
    alike = claim_of(trained(rng, 2000, (-1.2, -1.2), difficulty), vanilla)
    assert alike.verdict == "contradicted"


def test_the_claims_interval_covers_when_items_and_seeds_are_drawn_anew():
    """Two models of equal worth whose seeds differ: 95% intervals over items and seeds; over items alone far fewer."""
    rng = np.random.default_rng(6)
    over_both, over_items, contradicted = [], [], []
    for _ in range(200):
        difficulty = rng.normal(0, 1, 200)
        student, vanilla = (trained(rng, 200, rng.normal(0, 0.4, 3), difficulty) for _ in range(2))
        claim = claim_of(student, vanilla)
        over_both.append(claim.comparison.difference.contains(0.0))
        over_items.append(compare(student, vanilla).difference.contains(0.0))
        contradicted.append(claim.verdict == "contradicted")
    assert 0.92 <= np.mean(over_both) <= 0.99
    assert np.mean(over_items) < 0.8
    assert np.mean(contradicted) <= 0.05
