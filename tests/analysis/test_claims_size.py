"""The size claim on published pairs, and the standard error against a count of coin flips."""

import math

import pytest

from stillmark.analysis.claims_size import (
    against_own_base,
    are_comparable,
    judge,
    size_claim,
    standard_error,
    tie_limit,
)
from stillmark.published.registry import load_registry
from stillmark.published.settings import Claims

REGISTRY = load_registry()
CLAIMS = Claims()
LLAMA = REGISTRY.model("deepseek-r1-distill-llama-8b")


def row_of(model_id, comparator, benchmark):
    rows = size_claim(REGISTRY, REGISTRY.model(model_id), CLAIMS)
    found = [
        row
        for row in rows
        if row.comparator and (row.comparator.id, row.benchmark.key) == (comparator, benchmark)
    ]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("benchmark", "mine", "theirs", "verdict"),
    [  # peers/paper.md, section 2: "supported on maths and code, a tie on GPQA, false on ..."
        ("aime_2024", 50.4, 18.9, "supported"),
        ("math_500", 89.1, 83.6, "supported"),
        ("gpqa_diamond", 49.0, 49.0, "tie"),
        ("livecodebench_v5_qwen3", 42.5, 30.7, "supported"),
        ("ifeval", 59.0, 84.1, "contradicted"),
        ("mmlu_redux", 66.4, 86.8, "contradicted"),
    ],
)
def test_the_papers_pair_with_qwen_72b(benchmark, mine, theirs, verdict):
    row = row_of("deepseek-r1-distill-llama-8b", "qwen2.5-72b", benchmark)
    assert row.verdict == verdict
    assert theirs in {pair.comparator.value for pair in (row.pair, *row.other_pairs)}
    assert mine in {pair.student.value for pair in (row.pair, *row.other_pairs)}
    assert row.size_multiple == pytest.approx(72.7 / 8.03)
    assert not row.reaches_claim


def test_it_falls_below_its_own_base_on_instructions():
    rows = {row.benchmark.key: row for row in against_own_base(REGISTRY, LLAMA, CLAIMS)}
    assert rows["ifeval"].verdict == "contradicted"
    assert (rows["ifeval"].pair.student.value, rows["ifeval"].pair.comparator.value) == (59.0, 75.0)
    assert rows["aime_2024"].verdict == "supported"


def test_a_maths_verdict_that_depends_on_the_source():
    """MATH-500: 89.1 by DeepSeek is ahead of 83.6 by over two standard errors, 86.9 by Microsoft is not."""
    row = row_of("deepseek-r1-distill-llama-8b", "qwen2.5-72b", "math_500")
    assert (row.pair.student.value, row.depends) == (89.1, True)
    assert {pair.student.value: pair.verdict for pair in row.other_pairs}[86.9] == "tie"


def test_math_is_not_math_500_and_strict_is_not_an_average():
    """Llama-3.3-70B's card has MATH 77.0 and IFEval 92.1: not MATH-500, not prompt-strict."""
    rows = size_claim(REGISTRY, LLAMA, CLAIMS)
    compared = {
        row.benchmark.key for row in rows if row.comparator and row.comparator.id == "llama-3.3-70b-instruct"
    }
    assert compared == {"gpqa_diamond"}


def test_disagreeing_values_stay_and_the_verdict_says_when_it_depends():
    row = row_of("deepseek-r1-distill-llama-8b", "deepseek-v3", "aime_2024")
    assert {pair.student.value for pair in (row.pair, *row.other_pairs)} == {50.4, 43.9, 43.3}
    assert row.pair.student.source.key == row.pair.comparator.source.key == "r1_v1"
    assert row.active_multiple == pytest.approx(37 / 8.03)
    found = [row for model in REGISTRY.of_kind("distilled") for row in size_claim(REGISTRY, model, CLAIMS)]
    depending = [row for row in found if row.depends]
    assert depending
    for row in depending:
        assert len({pair.verdict for pair in (row.pair, *row.other_pairs)}) > 1


def test_every_row_has_its_pair_or_its_reason():
    for model in REGISTRY.of_kind("distilled"):
        for row in size_claim(REGISTRY, model, CLAIMS):
            if row.verdict == "unknown":
                assert row.reason
            else:
                assert row.size_multiple >= CLAIMS.nearest_multiple
                assert row.pair.tie_reason
                assert are_comparable(row.pair.student, row.pair.comparator)


def test_base_checkpoints_are_compared_with_base_checkpoints():
    rows = size_claim(REGISTRY, REGISTRY.model("llama-3.1-minitron-4b-width"), CLAIMS)
    row = next(row for row in rows if row.comparator and row.comparator.id == "llama-3.1-70b")
    assert (row.pair.student.value, row.pair.comparator.value) == (60.5, 79.3)
    assert row.verdict == "contradicted"


def test_standard_error_is_that_of_counting():
    """The standard deviation of the mean of n coin flips, summed over the binomial distribution."""
    n, p = 30, 0.504
    weights = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    variance = sum(weight * (k / n - p) ** 2 for k, weight in enumerate(weights))
    assert standard_error(100 * p, n) == pytest.approx(100 * math.sqrt(variance))


def test_thirty_items_cannot_tell_small_differences():
    mine, theirs = LLAMA.scores_on("aime_2024")[0], REGISTRY.model("deepseek-v3").scores_on("aime_2024")[0]
    limit, reason = tie_limit(mine, theirs, CLAIMS)
    assert 24 < limit < 26
    assert "30 items" in reason
    assert judge(mine, theirs, CLAIMS).verdict == "tie"


def test_unknown_number_of_items_leaves_the_stated_margin():
    mine = LLAMA.scores_on("mmlu_redux")[0]
    limit, reason = tie_limit(mine, mine, CLAIMS)
    assert limit == CLAIMS.tie_margin_points
    assert "not known" in reason


def test_what_differs_is_listed():
    row = row_of("deepseek-r1-distill-llama-8b", "qwen2.5-72b", "aime_2024")
    assert any(line.startswith("responses a query: 64 against not stated") for line in row.pair.differs)
