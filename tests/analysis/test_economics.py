"""Costs by hand, with unknowns passed on, and published examples of the metrics."""

import math

import numpy as np
import pytest

from stillmark.analysis.economics import (
    Way,
    break_even,
    correct_per_joule,
    cost_per_correct,
    cost_per_correct_interval,
    dcm,
    intelligence_per_watt,
    lifetime_flops,
    rcs,
    tes,
    total_cost,
)

DISTILLED = Way(name="distilled", fixed_cost=1000.0, cost_per_query=1.0)
VANILLA = Way(name="vanilla", fixed_cost=200.0, cost_per_query=5.0)


def test_break_even_is_where_both_cost_the_same():
    result = break_even(DISTILLED, VANILLA)
    assert result.queries == 200
    assert total_cost(DISTILLED, 200) == total_cost(VANILLA, 200)
    assert (result.cheaper_before, result.cheaper_after) == ("vanilla", "distilled")
    assert break_even(VANILLA, DISTILLED) == result


def test_no_break_even_where_one_is_always_cheaper():
    dear = Way(name="dear", fixed_cost=2000.0, cost_per_query=6.0)
    result = break_even(DISTILLED, dear)
    assert result.queries is None
    assert result.is_known
    assert result.cheaper_before == result.cheaper_after == "distilled"
    same_price = Way(name="same", fixed_cost=1500.0, cost_per_query=1.0)
    assert break_even(DISTILLED, same_price).cheaper_after == "distilled"
    same_fixed = Way(name="same", fixed_cost=1000.0, cost_per_query=0.5)
    assert break_even(DISTILLED, same_fixed).cheaper_before == "same"
    twin = Way(name="twin", fixed_cost=1000.0, cost_per_query=1.0)
    assert break_even(DISTILLED, twin).cheaper_after is None


@pytest.mark.parametrize("missing", ["fixed_cost", "cost_per_query"])
def test_unknown_costs_stay_unknown(missing):
    costs = {"fixed_cost": 1.0, "cost_per_query": 1.0, missing: None}
    way = Way(name="api", **costs)
    assert total_cost(way, 10) is None
    result = break_even(way, VANILLA)
    assert (result.queries, result.cheaper_after, result.is_known) == (None, None, False)


def test_unknown_is_passed_on_everywhere():
    assert cost_per_correct(None, 3) is None
    assert cost_per_correct(5.0, 0) is None
    assert cost_per_correct_interval(None, [1]) is None
    assert cost_per_correct_interval([np.nan], [1]) is None
    assert lifetime_flops(1, None, 1) is None
    assert tes(0.5, 0.4, None, 10) is None
    assert tes(0.5, 0.4, 100, 0) is None
    assert rcs(None, 10) is None
    assert rcs(1, 0) is None
    assert dcm(1, None) is None
    assert correct_per_joule(3, None) is None
    assert intelligence_per_watt(0.5, 0) is None


def test_metrics_by_hand():
    assert cost_per_correct(100.0, 40) == 2.5
    assert lifetime_flops(8.03e9, 15e12, 2e12) == pytest.approx(7.227e23 + 3.212e22)
    # Six times the tokens for 44.1 points (R1-Distill-Llama-8B on AIME 24: 50.4 against 6.3).
    assert tes(0.504, 0.063, 6000, 1000) == pytest.approx(7.35)
    assert tes(0.590, 0.750, 6000, 1000) < 0
    assert rcs(94.6, 100.0) == pytest.approx(94.6)
    assert dcm(2.0, 0.11) == pytest.approx(18.18, abs=0.01)
    assert correct_per_joule(50, 200.0) == 0.25
    assert intelligence_per_watt(0.8, 40.0) == pytest.approx(0.02)


def test_interval_of_cost_per_correct():
    flags = np.arange(200) < 80
    estimate = cost_per_correct_interval(np.full(200, 3.0), flags)
    assert estimate.value == pytest.approx(7.5)
    # Equal costs: the interval is that of 1/accuracy, here by the delta method.
    stderr = 7.5 * math.sqrt(0.6 / (0.4 * 200))
    assert (estimate.low, estimate.high) == pytest.approx(
        (7.5 - 1.96 * stderr, 7.5 + 1.96 * stderr), rel=0.08
    )


def test_cost_per_correct_with_none_or_few_correct_is_open_above():
    none = cost_per_correct_interval(np.full(50, 2.0), np.zeros(50))
    assert (none.value, none.censored, none.lower_bound, none.high) == (None, "more than", 100, None)
    few = cost_per_correct_interval(np.full(50, 2.0), np.arange(50) < 1)
    assert few.value == pytest.approx(100)
    assert few.high is None


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="not negative"):
        Way(name="free money", fixed_cost=-1.0, cost_per_query=0.0)
    with pytest.raises(ValueError, match="one cost and one flag"):
        cost_per_correct_interval([1.0], [1, 0])
