"""FLOPs of each way to make a model, against the notes' figures and against the formulas added up by hand."""

import json

import pytest

from stillmark.compute import method_flops
from stillmark.compute.flops import forward_flops, generate_flops, train_flops
from stillmark.compute.planned_model import planned_model
from stillmark.compute.shapes import shape_from_config
from stillmark.compute.workloads import (
    Distillation,
    DistillationMethod,
    PlannedModel,
    Work,
    cached_logits_bytes,
    pretraining,
)
from stillmark.errors import UserError

STUDENT = planned_model("8.03b")
TEACHER = planned_model("671b-a37b")
# DeepSeek-R1, supplementary Table 5: 804,745 samples of 5,355.3 tokens.
R1 = {
    "student": STUDENT,
    "teacher": TEACHER,
    "samples": 804_745,
    "prompt_tokens": 0.0,
    "answer_tokens": 5355.3,
}
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 257,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(("epochs", "ratio"), [(2, 984), (3, 767)])
def test_llama_8b_pretraining_over_r1_distillation_with_generation(epochs, ratio):
    vanilla = pretraining(STUDENT, tokens=15e12, sequence_tokens=4096)
    distilled = sum(stage.flops for stage in Distillation(**R1, epochs=epochs).stages())
    assert round(vanilla.flops / distilled) == ratio


@pytest.mark.parametrize(("epochs", "ratio"), [(1, 3481), (2, 1740), (3, 1160)])
def test_the_same_with_the_student_alone(epochs, ratio):
    vanilla = pretraining(STUDENT, tokens=15e12, sequence_tokens=4096)
    training = Distillation(**R1, epochs=epochs).stages()[-1]
    assert (training.name, round(vanilla.flops / training.flops)) == ("student training", ratio)


def test_rejected_traces_are_paid_for():
    # 2 x 37e9 x 4.31e9 = 3.19e20 for the kept tokens, four times that with one in four kept.
    generation = Distillation(**R1, attempts=4).stages()[0]
    assert generation.work is Work.GENERATE
    assert generation.flops == pytest.approx(4 * 3.19e20, rel=0.001)


def shaped():
    shape = shape_from_config(TINY)
    return PlannedModel(
        name="tiny", params=shape.params, active_params=shape.active_params, basis="config", shape=shape
    )


@pytest.mark.parametrize(
    ("method", "reads", "writes"),
    [
        (DistillationMethod.SEQUENCE, 0, 30 * 2),
        (DistillationMethod.LIVE_LOGITS, 30 * 3, 0),
        (DistillationMethod.CACHED_LOGITS, 30, 0),
        (DistillationMethod.ON_POLICY, 30 * 3 * 2, 30 * 3 * 2),
    ],
)
def test_each_method_by_shape_is_the_flops_formulas_added_up(method, reads, writes):
    model = shaped()
    plan = Distillation(
        student=model,
        teacher=model,
        samples=30,
        prompt_tokens=20,
        answer_tokens=12,
        epochs=3,
        attempts=2,
        method=method,
    )
    trained = 30 * 3 * (2 if method is DistillationMethod.ON_POLICY else 1)
    expected = (
        trained * train_flops(model.shape, tokens=32)
        + reads * forward_flops(model.shape, tokens=32)
        + writes * generate_flops(model.shape, prompt_tokens=20, new_tokens=12)
    )
    assert sum(stage.flops for stage in plan.stages()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("method", "counted"),
    [
        (DistillationMethod.SEQUENCE, method_flops.sequence_level),
        (DistillationMethod.LIVE_LOGITS, method_flops.live_logits),
        (DistillationMethod.CACHED_LOGITS, method_flops.cached_logits),
        (DistillationMethod.ON_POLICY, method_flops.on_policy),
    ],
)
def test_the_plan_counts_what_the_ledger_counts(method, counted):
    model = shaped()
    plan = Distillation(
        student=model, teacher=model, samples=30, prompt_tokens=20, answer_tokens=12, epochs=3, method=method
    )
    samples = method_flops.Samples(num_samples=30, prompt_tokens=20, answer_tokens=12, epochs=3)
    ledger = counted(model.shape, model.shape, samples)
    assert sum(stage.flops for stage in plan.stages()) == pytest.approx(ledger.total)


def test_by_size_and_by_shape_agree_where_attention_is_small():
    # Llama-3.1-8B's published config; 6ND by stored parameters has the embedding in and attention out.
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "tie_word_embeddings": False,
    }
    shape = shape_from_config(config)
    assert shape.params == pytest.approx(8.03e9, rel=1e-3)
    whole = PlannedModel(name="l", params=shape.params, active_params=shape.params, basis="", shape=shape)
    ratio = (
        pretraining(whole, tokens=1e9, sequence_tokens=2048).flops
        / pretraining(STUDENT, tokens=1e9, sequence_tokens=2048).flops
    )
    assert ratio == pytest.approx(1, abs=0.08)


def test_bought_traces_have_tokens_but_no_flops():
    plan = Distillation(
        student=STUDENT, teacher=None, samples=10, prompt_tokens=5, answer_tokens=7, attempts=3
    )
    bought = plan.bought_traces()
    assert (bought.tokens_read, bought.tokens_written, bought.flops) == (150, 210, None)
    assert [stage.name for stage in plan.stages()] == ["student training"]


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"a yield of 0\.25 is 4 attempts"):
        Distillation(**R1, attempts=0.25)
    with pytest.raises(UserError, match="needs a teacher"):
        Distillation(**{**R1, "teacher": None}, method=DistillationMethod.ON_POLICY)
    with pytest.raises(UserError, match="epochs must be above 0"):
        Distillation(**R1, epochs=0)


def test_cached_logits_take_disk():
    # 4.31e9 tokens over 128,256 words in 16 bits: 1.1 PB; the top 64 of each: 1.7 TB.
    assert cached_logits_bytes(tokens=4.31e9, vocab_size=128_256) == pytest.approx(1.1e15, rel=0.01)
    assert cached_logits_bytes(tokens=4.31e9, vocab_size=128_256, top_k=64) == pytest.approx(
        1.66e12, rel=0.01
    )


def test_models_by_size_by_name_and_by_config(tmp_path):
    assert (TEACHER.params, TEACHER.active_params) == (671e9, 37e9)
    assert planned_model("135M").params == 135e6
    assert planned_model("8.03e9").params == 8.03e9
    assert planned_model("llama-3.1-8b").params == 8.03e9
    assert planned_model("deepseek-r1").active_params == 37e9
    assert planned_model("openthinker-7b").params == 7.61e9  # its base's; itself has none published
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    assert planned_model(str(tmp_path)).params == shape_from_config(TINY).params
    assert planned_model(str(tmp_path / "config.json")).formula == "by shape"


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("llama-3.1-8", "did you mean `llama-3.1-8b`"),
        ("/nowhere/config.json", "no config.json"),
        ("8b-a37b", "not possible"),
        ("llama-3-8b", "nobody published how many parameters"),
    ],
)
def test_unknown_models_say_what_is_possible(given, match):
    with pytest.raises(UserError, match=match):
        planned_model(given)
