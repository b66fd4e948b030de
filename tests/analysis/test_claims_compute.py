"""The headline claim under every accounting, held to the digit to the notes' own arithmetic.

Expected figures: shared/peers/paper.md, section 3, rounded as printed there. Every one is worked out from the
registry's figures.
"""

import itertools
import random

import pytest

from stillmark.analysis.claims_compute import (
    BOUNDARIES,
    RISES_WITH,
    ratio_at,
    ratio_range,
    stage_flops,
    tokens_at_claim,
)
from stillmark.analysis.claims_hours import (
    hours_ratios,
    implied_mfu,
    logit_ratios,
    mixed_ratios,
    rl_ratios,
    student_hours,
)
from stillmark.analysis.claims_inputs import NotComputable, RatioInputs, gather
from stillmark.analysis.claims_ratios import Side, ratio_of
from stillmark.errors import UserError
from stillmark.published.registry import load_registry
from stillmark.published.settings import PublishedSettings

REGISTRY = load_registry()
SETTINGS = PublishedSettings()


def inputs_of(model_id):
    inputs = gather(REGISTRY, REGISTRY.model(model_id), SETTINGS)
    assert isinstance(inputs, RatioInputs)
    return inputs


LLAMA = inputs_of("deepseek-r1-distill-llama-8b")
ONE_STUDENT = {"generated_per_kept": 1, "students_sharing_traces": 1, "students_sharing_teacher": 6}


@pytest.mark.parametrize(("epochs", "ratio"), [(1, "3,481"), (2, "1,740"), (3, "1,160")])
def test_the_students_training_alone(epochs, ratio):
    assert f"{ratio_at(LLAMA, 'student', epochs=epochs):,.0f}" == ratio


@pytest.mark.parametrize(
    ("boundary", "changes", "two_epochs", "three_epochs"),
    [
        ("generation", {}, "984", "767"),
        ("generation", {"students_sharing_traces": 6}, "1,543", "1,069"),
        ("generation", {"generated_per_kept": 4}, "427", "381"),
        ("generation", {"generated_per_kept": 8}, "244", "228"),
        ("generation", {"generated_per_kept": 16}, "131", "126"),
        ("teacher_post", {}, "7.06", "7.04"),
        ("teacher", {}, "1.11", "1.11"),
        ("base", {}, "0.999", "0.999"),
        ("everything", {}, "0.53", "0.53"),
    ],
)
def test_the_boundary_changes_the_ratio(boundary, changes, two_epochs, three_epochs):
    for epochs, expected in ((2, two_epochs), (3, three_epochs)):
        ratio = ratio_at(LLAMA, boundary, **ONE_STUDENT | {"epochs": epochs} | changes)
        decimals = len(expected.partition(".")[2])
        assert f"{ratio:,.{decimals}f}" == expected


def test_with_the_base_counted_the_distilled_model_is_the_dearer():
    assert ratio_at(LLAMA, "base", **ONE_STUDENT) < 1
    assert ratio_range(LLAMA, "base", 2000).high < 1


@pytest.mark.parametrize(
    ("tokens_per_sample", "ratios"),
    [
        (2500, (7500, 3750, 2500)),
        (3000, (6250, 3125, 2083)),
        (4000, (4688, 2344, 1562)),
        (4096, (4578, 2289, 1526)),
        (4500, (4167, 2083, 1389)),
        (8192, (2289, 1144, 763)),
        (16384, (1144, 572, 381)),
    ],
)
def test_the_table_over_tokens_a_sample(tokens_per_sample, ratios):
    """The notes' table takes 800k samples, as version 1 of the R1 report prints."""
    for epochs, expected in zip((1, 2, 3), ratios, strict=True):
        changes = {"samples": 800_000, "tokens_per_sample": tokens_per_sample, "epochs": epochs}
        assert abs(ratio_at(LLAMA, "student", **changes) - expected) < 0.5001


def test_the_claim_flips_at_seven_and_a_half_billion_tokens():
    assert tokens_at_claim(LLAMA, 2000) == pytest.approx(7.5e9)
    by_name = {threshold.name: threshold for threshold in ratio_range(LLAMA, "student", 2000).thresholds}
    epochs = by_name["epochs"]
    assert (epochs.holds, round(epochs.low, 3)) == ("at most", 1.740)
    assert epochs.low == pytest.approx(epochs.high)
    assert by_name["tokens_per_sample"].high == pytest.approx(7.5e9 / (804_745 * 2))
    assert by_name["tokens_per_sample"].low == pytest.approx(7.5e9 / (804_745 * 3))


COMPUTABLE = [
    inputs
    for inputs in (gather(REGISTRY, model, SETTINGS) for model in REGISTRY.of_kind("distilled"))
    if isinstance(inputs, RatioInputs)
]


def test_every_threshold_is_where_the_ratio_passes_through_the_claim():
    """Brute force: just inside the claim holds, just outside it does not."""
    checked = 0
    for inputs, boundary in itertools.product(COMPUTABLE, BOUNDARIES):
        span = ratio_range(inputs, boundary, 500)
        for threshold in span.thresholds:
            if threshold.high is None:
                continue
            best = best_corner(inputs, boundary, threshold.name)
            inside, outside = (0.999, 1.001) if threshold.holds == "at most" else (1.001, 0.999)
            within, beyond = (
                ratio_at(inputs, boundary, **best | {threshold.name: threshold.high * factor})
                for factor in (inside, outside)
            )
            assert within > 500 > beyond, (inputs.model.id, boundary, threshold)
            checked += 1
    assert checked > 50


def best_corner(inputs, boundary, without):
    return {
        item.name: item.high if item.name in RISES_WITH else item.low
        for item in inputs.inputs.values()
        if item.is_range and item.name != without
    }


def test_no_point_inside_the_ranges_lies_outside_the_ratio_range():
    generator = random.Random(0)
    for inputs, boundary in itertools.product(COMPUTABLE, BOUNDARIES):
        span = ratio_range(inputs, boundary, 2000)
        for _ in range(20):
            point = {
                item.name: generator.uniform(item.low, item.high)
                for item in inputs.inputs.values()
                if item.is_range
            }
            ratio = ratio_at(inputs, boundary, **point)
            if span.low is None:
                assert ratio is None or ratio <= span.high * (1 + 1e-12)
            else:
                assert span.low * (1 - 1e-12) <= ratio <= span.high * (1 + 1e-12)


@pytest.mark.parametrize(
    ("model_id", "ratio"),
    [
        ("phi-4-mini-reasoning", 33),
        ("phi-4-reasoning", 612),
        ("llama-3.1-minitron-4b-width", 285),
        ("llama-3.1-minitron-4b-depth", 285),
    ],
)
def test_the_headline_does_not_carry_to_other_distillations(model_id, ratio):
    span = ratio_range(inputs_of(model_id), "student", 2000)
    assert span.low == span.high
    assert int(span.low) == ratio or round(span.low) == ratio
    assert span.verdict == "fails"


def test_a_teacher_behind_an_api_leaves_a_ceiling_only():
    span = ratio_range(inputs_of("phi-4-reasoning"), "generation", 2000)
    assert span.low is None
    assert span.high == pytest.approx(612.5)
    assert span.verdict == "fails"
    assert "o3-mini" in span.missing[0]


def test_what_cannot_be_computed_says_why():
    for model_id, word in (
        ("mn-minitron-8b", "mistral-nemo-12b"),
        ("openreasoning-nemotron-7b", "samples"),
        ("gemma-2-9b", "pretrained"),
    ):
        reason = gather(REGISTRY, REGISTRY.model(model_id), SETTINGS)
        assert isinstance(reason, NotComputable)
        assert word in reason.reason


def test_parameters_cancel_where_the_architecture_is_kept():
    """R1-Distill-Qwen-7B is printed as 7B, its base as 7.61B; the ratio is one of tokens."""
    inputs = inputs_of("deepseek-r1-distill-qwen-7b")
    assert inputs.inputs["student_params"].low == inputs.inputs["base_params"].low == 7.61e9
    assert ratio_at(inputs, "student", epochs=2) == pytest.approx(18e12 / (804_745 * 5355.3 * 2))


def test_published_goes_before_assumed():
    assert {name: item.status for name, item in LLAMA.inputs.items()} == {
        "student_params": "published",
        "base_params": "published",
        "base_tokens": "published",
        "samples": "published",
        "tokens_per_sample": "published",
        "epochs": "published",
        "teacher_params": "published",
        "generated_per_kept": "assumed",
        "students_sharing_traces": "assumed",
        "teacher_post_training_flops": "estimated",
        "teacher_pretraining_flops": "derived",
        "students_sharing_teacher": "assumed",
    }
    for item in LLAMA.inputs.values():
        assert item.basis
        assert item.evidence or item.status == "assumed"


def test_hours_of_the_student_at_a_stated_mfu():
    assert round(student_hours(REGISTRY, LLAMA, SETTINGS.hours, epochs=2)) in (291, 292)
    assert round(student_hours(REGISTRY, LLAMA, SETTINGS.hours, epochs=3)) == 437


def test_ratios_of_hours():
    printed = [f"{row.ratio:,.4g}" for row in hours_ratios(REGISTRY, LLAMA, SETTINGS)]
    rounded = [float(value.replace(",", "")) for value in printed]
    data, shared, post, post_shared = (rounded[start : start + 2] for start in (0, 2, 4, 6))
    assert [round(value) for value in data] == [276, 269] or data == pytest.approx([276, 269], abs=0.6)
    assert [round(value) for value in shared] == [1298, 1149]
    assert round(post[0], 1) == 9.9
    assert round(post_shared[0]) == 59


def test_ratios_across_methods_are_refused_unless_asked_for():
    with pytest.raises(UserError, match="counted in different ways: hours x peak x MFU over 6ND"):
        mixed_ratios(REGISTRY, LLAMA, SETTINGS)
    rows = mixed_ratios(REGISTRY, LLAMA, SETTINGS.model_copy(update={"allow_mixed_methods": True}))
    assert all(row.is_mixed for row in rows)
    assert [round(row.ratio) for row in rows] == [9517, 10769, 4759, 5385, 3172, 3590]
    assert "imply 13.9%" in rows[0].note


def test_on_policy_distillation_against_reinforcement_learning():
    """Qwen3 report, Table 21: 17,920 against 1,800 GPU-hours from one checkpoint."""
    (row,) = rl_ratios(REGISTRY)
    assert row.ratio == pytest.approx(17_920 / 1_800)


def test_the_only_published_hours_of_a_teachers_logits():
    """Llama 3.2 card: 370K and 460K hours of training, 86K of logits for both."""
    (row,) = logit_ratios(REGISTRY)
    assert row.ratio == pytest.approx(830 / 916)


def test_different_units_are_no_ratio():
    with pytest.raises(UserError, match="is not a ratio"):
        ratio_of(
            "x",
            Side(amount=1, unit="FLOP", method="6ND"),
            Side(amount=1, unit="device-hours", method="6ND"),
            allow_mixed=True,
        )


@pytest.mark.parametrize(
    ("model_id", "percent"),
    [("llama-3.1-8b", 13.9), ("llama-3.1-70b", 25.3), ("llama-3.1-405b", 33.2), ("deepseek-v3", 22.6)],
)
def test_implied_mfu(model_id, percent):
    """The Llama values are the registry's own; DeepSeek-V3's is Epoch's 22.4% on pretraining alone."""
    assert round(100 * implied_mfu(REGISTRY, REGISTRY.model(model_id)).mfu, 1) == percent


def test_generation_is_one_and_a_half_student_epochs():
    stages = stage_flops(LLAMA, LLAMA.values(epochs=1, **ONE_STUDENT))
    assert round(stages["generation"] / stages["student"], 2) == 1.54
    assert f"{stages['generation']:.2e}" == "3.19e+20"
