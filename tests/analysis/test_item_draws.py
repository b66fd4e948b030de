"""Shared resamples are those that each would have drawn alone."""

import numpy as np
import pytest

from stillmark.analysis.bootstrap import bootstrap_accuracies
from stillmark.analysis.item_draws import ItemDraws


@pytest.mark.parametrize(("num_items", "num_resamples"), [(37, 500), (9000, 600)])  # one chunk, two chunks
def test_shared_draws_are_those_of_a_bootstrap_alone(num_items, num_resamples):
    rng = np.random.default_rng(5)
    correct = (rng.random((6, num_items)) < 0.4).astype(float)
    correct[2, rng.random(num_items) < 0.1] = np.nan
    alone = np.random.default_rng(0)
    expected = bootstrap_accuracies(correct, num_resamples=num_resamples, rng=alone)
    draws = ItemDraws(num_items, num_resamples, 0)
    draws.accuracies(correct[:3])  # some are known already, in another company
    np.testing.assert_array_equal(draws.accuracies(correct[::-1]), expected[:, ::-1])
    assert draws.rng().random() == alone.random()  # what comes next is the same too


def test_answers_changed_in_place_are_worked_out_again():
    correct = np.zeros((1, 20))
    draws = ItemDraws(20, 10, 0)
    assert draws.accuracies(correct).max() == 0
    correct[:] = 1
    assert draws.accuracies(correct).min() == 1


def test_weighted_items_are_kept_apart_from_plain_ones():
    rng = np.random.default_rng(3)
    values, sizes = rng.random((2, 30)), rng.integers(1, 50, 30)
    draws = ItemDraws(30, 100, 0)
    plain, weighted = draws.accuracies(values), draws.accuracies(values, sizes)
    np.testing.assert_allclose(weighted[0], (values * sizes).sum(axis=1) / sizes.sum())
    expected = bootstrap_accuracies(
        values, num_resamples=100, rng=np.random.default_rng(0), item_weights=sizes
    )
    np.testing.assert_allclose(weighted, expected, rtol=1e-12)
    assert np.abs(plain - weighted).max() > 1e-3
