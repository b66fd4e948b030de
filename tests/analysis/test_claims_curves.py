"""The points of the performance-to-compute curves, against arithmetic on the published figures."""

import pytest

from stillmark.analysis.claims_compute import BOUNDARIES
from stillmark.analysis.claims_curves import answer_points, training_compute, training_points
from stillmark.published.registry import load_registry
from stillmark.published.settings import PublishedSettings

REGISTRY = load_registry()
SETTINGS = PublishedSettings()


def compute_of(model_id, boundary):
    return training_compute(REGISTRY, REGISTRY.model(model_id), SETTINGS, boundary)


def test_a_vanilla_model_costs_the_same_under_every_boundary():
    for boundary in BOUNDARIES:
        assert compute_of("llama-3.1-8b", boundary).low == pytest.approx(7.227e23)


def test_a_distilled_model_costs_what_the_boundary_counts():
    student = compute_of("deepseek-r1-distill-llama-8b", "student")
    epoch = 6 * 8.03e9 * 804_745 * 5355.3
    assert (student.low, student.high) == pytest.approx((2 * epoch, 3 * epoch))
    previous = student
    for boundary in ("generation", "teacher_post", "teacher", "everything"):
        compute = compute_of("deepseek-r1-distill-llama-8b", boundary)
        assert compute.low > previous.low
        previous = compute


def test_what_the_teacher_took_is_a_floor_where_it_is_not_published():
    assert not compute_of("phi-4-reasoning", "student").is_floor
    assert compute_of("phi-4-reasoning", "generation").is_floor
    assert compute_of("gemma-3-4b", "teacher").is_floor


def test_a_proprietary_model_is_estimated_or_absent():
    assert compute_of("gpt-4o-2024-05-13", "student").method == "estimated"
    assert compute_of("o1-mini", "student") is None


def test_every_point_links_to_evidence():
    for boundary in BOUNDARIES:
        points = training_points(REGISTRY, SETTINGS, boundary)
        assert {point.model.kind for point in points} >= {"distilled", "vanilla", "proprietary"}
        for point in points:
            assert point.evidence
            assert 0 < point.train_flops_low <= point.train_flops_high
            assert point.score.checkpoint is None


def test_one_answer_is_two_flops_a_parameter_and_token():
    points = {(p.model.id, p.length.benchmark.key, p.length.thinking): p for p in answer_points(REGISTRY)}
    assert points["deepseek-r1", "aime_2025", True].flops_per_answer == pytest.approx(2 * 37e9 * 12_000)
    thinking = points["qwen3-32b", "aime_2025", True]
    plain = points["qwen3-32b", "aime_2025", False]
    assert thinking.flops_per_answer / plain.flops_per_answer == pytest.approx(14_700 / 1933.3)
