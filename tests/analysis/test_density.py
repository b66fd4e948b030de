"""Capability density against numpy's fit, a simulation of its interval, and a family's own sizes."""

import math
from dataclasses import replace

import numpy as np
import pytest

from stillmark.analysis.density import density_rows, fit_line, inverse_interval, reference_fit
from stillmark.published.registry import load_registry
from stillmark.published.settings import Density

REGISTRY = load_registry()
RULES = Density()
LLAMA = REGISTRY.model("deepseek-r1-distill-llama-8b")


def rows_of(model_id):
    return density_rows(REGISTRY, REGISTRY.model(model_id), "qwen2.5", RULES)


def row_of(model_id, benchmark):
    return next(row for row in rows_of(model_id) if row.score.benchmark.key == benchmark)


def test_the_line_is_numpys():
    fit = row_of("deepseek-r1-distill-llama-8b", "mmlu_redux").fit
    xs = np.log10([params for _, params, _ in fit.points])
    fractions = (np.array([score.value for _, _, score in fit.points]) - 25) / 75
    slope, intercept = np.polyfit(xs, np.log(fractions / (1 - fractions)), 1)
    assert (fit.slope, fit.intercept) == pytest.approx((slope, intercept))
    assert [model_id for model_id, _, _ in fit.points] == [
        f"qwen2.5-{size}" for size in ("1.5b", "7b", "14b", "32b", "72b", "3b")
    ]


def test_a_model_of_the_family_has_about_its_own_size():
    for size in ("3b", "7b", "14b"):
        row = row_of(f"qwen2.5-{size}", "mmlu_redux")
        assert 0.6 < row.density < 1.6
        assert row.density_low < 1 < row.density_high


def test_distillation_on_reasoning_did_not_make_knowledge_denser():
    """MMLU-Redux 66.4 lies between Qwen2.5-3B (64.4) and 7B (75.4); IFEval 59.0 just above 3B (58.2)."""
    for benchmark in ("mmlu_redux", "ifeval"):
        row = row_of("deepseek-r1-distill-llama-8b", benchmark)
        assert row.status == "value"
        assert 2e9 < row.effective_params < 7e9
        assert row.density < 1


def test_beyond_the_reference_there_is_a_bound_and_no_number():
    row = row_of("deepseek-r1-distill-llama-8b", "aime_2024")
    assert (row.status, row.effective_params) == ("at_least", 72.7e9)
    assert row.density == pytest.approx(72.7 / 8.03)
    assert (row.density_low, row.density_high, row.fit) == (None, None, None)
    assert "too weak" in row.reason
    fitted = row_of("deepseek-r1-distill-llama-8b", "livecodebench_v5_qwen3")
    assert (fitted.status, fitted.effective_params) == ("at_least", 72.7e9)
    assert fitted.fit is not None


def test_a_test_set_that_the_family_has_no_scores_on_is_refused():
    row = row_of("deepseek-r1-distill-llama-8b", "livecodebench_r1")
    assert (row.status, row.density) == ("refused", None)
    assert "0 models" in row.reason


def test_a_weak_fit_is_refused():
    score = LLAMA.scores_on("gpqa_diamond")[0]
    fit, reason = reference_fit(
        REGISTRY, "qwen2.5", score, RULES.model_copy(update={"least_r_squared": 0.999})
    )
    assert fit is None
    assert "too weak" in reason


def test_the_intervals_coverage_by_simulation():
    """Families drawn about a known line, a new score from it: 95% of intervals hold the new model's size."""
    generator = np.random.default_rng(0)
    template = LLAMA.scores_on("aime_2024")[0]
    sizes = [0.5e9, 1.5e9, 3e9, 7e9, 14e9, 32e9, 72e9]
    held, trials = 0, 600
    for _ in range(trials):
        logits = [-12 + 1.2 * math.log10(size) + generator.normal(0, 0.15) for size in sizes]
        points = [
            (str(size), size, replace(template, value=100 / (1 + math.exp(-logit))))
            for size, logit in zip(sizes, logits, strict=True)
        ]
        truth = generator.uniform(9, 10.5)
        new = -12 + 1.2 * truth + generator.normal(0, 0.15)
        interval = inverse_interval(fit_line("simulated", template, points), new, 0.95)
        held += interval is None or interval[0] <= truth <= interval[1]
    assert 0.92 < held / trials < 0.98


def test_no_score_is_read_from_majority_votes_or_other_variants():
    for row in rows_of("deepseek-r1-distill-llama-8b"):
        assert row.score.metric != "majority@64"
        if row.fit:
            assert all(score.variant == row.score.variant for _, _, score in row.fit.points)
