"""The registry holds what was collected, to the digit, and what is derived in it can be derived again."""

import math

import pytest
import yaml
from tests.paths import SHARED

from stillmark.errors import UserError
from stillmark.published.registry import load_registry

REGISTRY = load_registry()


def test_counts_of_the_collection():
    assert (len(REGISTRY.models), REGISTRY.num_figures, REGISTRY.num_scores) == (77, 239, 620)


@pytest.mark.skipif(SHARED is None, reason="the collection beside the repository is not here")
def test_nothing_of_the_collection_is_lost():
    collected = yaml.load((SHARED / "published/models.yaml").read_text(), Loader=yaml.CSafeLoader)
    assert set(collected["sources"]) <= set(REGISTRY.sources)
    for key, source in collected["sources"].items():
        assert REGISTRY.sources[key].url == source["url"]
        assert REGISTRY.sources[key].seen == source["seen"].strip()
    assert [model["id"] for model in collected["models"]] == [model.id for model in REGISTRY.models]
    for entry, model in zip(collected["models"], REGISTRY.models, strict=True):
        assert (entry["name"], entry["kind"]) == (model.name, model.kind)
        assert entry.get("base") == (model.base.printed if model.base else None)
        assert (entry.get("teacher"), entry.get("method")) == (model.teacher, model.distillation)
        for old, new in zip(entry["figures"], model.figures, strict=True):
            assert (old["name"], old["note"] or None) == (new.name, new.note)
            assert old["value"] in (new.text, new.printed) or math.isclose(old["value"], new.value)
            assert old.get("unit") in (None, new.unit)
            assert new.source is None or old["source"].startswith(
                (new.source.key, "http", "Llama", "Q", "feather")
            )
        for old, new in zip(entry["scores"], model.scores, strict=True):
            assert (old["benchmark"], old["value"]) == (new.printed, new.value)
            assert (old["reported_by"], old["note"] or None) == (new.reported_by, new.note)
            assert old["source"].startswith(new.source.key)


def test_derived_training_flops_are_six_n_d():
    for model in REGISTRY.models:
        for figure in model.figures_named("training_flop_6nd"):
            params, tokens = (model.figure(name).value for name in figure.derived_from)
            assert figure.value == pytest.approx(6 * params * tokens, rel=1e-3), model.id


def test_derived_mfu_is_the_flops_over_the_hours():
    peak = next(constant.value for constant in REGISTRY.constants if constant.source.key == "lockwood")
    for model in REGISTRY.models:
        for figure in model.figures_named("implied_mfu_bf16"):
            flops, hours = (model.figure(name).value for name in figure.derived_from)
            assert figure.value == pytest.approx(flops / (hours * 3600 * peak), abs=5e-5 + 5e-4), model.id


def test_products_in_formulas_are_their_values():
    checked = 0
    for model in REGISTRY.models:
        for figure in model.figures:
            if figure.formula and set(figure.formula) <= set("0123456789.*"):
                product = math.prod(float(factor) for factor in figure.formula.split("*"))
                assert figure.value == pytest.approx(product, rel=1e-3), (model.id, figure.name)
                checked += 1
    assert checked >= 12


@pytest.mark.parametrize(
    ("model_id", "benchmark", "values"),
    [  # peers/paper.md, section 2, "Disagreements a registry must be able to hold"
        ("deepseek-r1-distill-llama-8b", "aime_2024", {50.4, 43.9, 43.3}),
        ("qwq-32b-preview", "aime_2024", {50.0, 44.0}),
        ("gpt-4o-2024-05-13", "livecodebench_r1", {32.9, 34.2}),
        ("claude-3.5-sonnet-1022", "livecodebench_r1", {38.9, 33.8}),
        ("o1-2024-12-17", "aime_2024", {79.2, 74.3}),
        ("llama-3.1-8b", "gpqa_diamond", {31.8, 32.8}),
    ],
)
def test_disagreements_stand_side_by_side(model_id, benchmark, values):
    model = REGISTRY.model(model_id)
    assert {s.value for s in model.scores_on(benchmark) if s.metric in ("accuracy", "pass@1")} == values


def test_test_sets_are_not_merged():
    scores = REGISTRY.model("deepseek-r1-distill-qwen-32b").scores
    livecodebench = {s.benchmark.key: s.value for s in scores if s.benchmark.family == "livecodebench"}
    assert livecodebench["livecodebench_v2"] == 71.2
    assert livecodebench["livecodebench_v5_qwen3"] == 54.5
    assert livecodebench["livecodebench_r1"] == 57.2
    assert {s.benchmark.key for s in scores if s.printed.startswith("MATH-500")} == {"math_500"}
    llama = REGISTRY.model("llama-3.3-70b-instruct")
    assert {s.benchmark.key for s in llama.scores if s.printed.startswith("MATH")} == {"math"}


def test_item_counts_agree_with_the_data():
    if SHARED is None:
        pytest.skip("the benchmark data beside the repository is not here")
    gsm8k = (SHARED / "data/gsm8k/test.jsonl").read_text().strip().splitlines()
    assert len(gsm8k) == REGISTRY.benchmarks["gsm8k"].num_items


def test_a_range_has_no_single_value():
    epochs = REGISTRY.model("deepseek-r1-distill-llama-8b").figure("distillation_epochs")
    assert (epochs.low, epochs.high, epochs.value, epochs.printed) == (2, 3, None, "2-3")


def test_answer_lengths_have_their_source():
    lengths = [length for model in REGISTRY.models for length in model.answer_lengths]
    assert {(x.model_id, x.benchmark.key, x.tokens) for x in lengths} >= {
        ("deepseek-r1", "aime_2025", 12_000)
    }
    assert all(length.source.url for length in lengths)


def test_models_are_found_by_name_and_missed_with_a_hint():
    assert REGISTRY.model("DeepSeek-R1-Distill-Llama-8B").id == "deepseek-r1-distill-llama-8b"
    with pytest.raises(UserError) as error:
        REGISTRY.model("deepseek-r1-distil-llama-8b")
    assert error.value.hint == "did you mean `deepseek-r1-distill-llama-8b`?"
