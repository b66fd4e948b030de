"""Equivalent size and size claims against families whose law is known."""

import math

import numpy as np
import pytest

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
