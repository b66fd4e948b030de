"""A pruned student: equal to the teacher where nothing of weight was cut, and by hand where something was."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from stillmark.errors import UserError
from stillmark.models.importance import measure_importance
from stillmark.models.prune import PrunedShape, prune

IDS = [torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]


def model(model_type="llama", **options):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6,
    }  # fmt: skip
    config = AutoConfig.for_model(model_type, **(sizes | options))
    made = AutoModelForCausalLM.from_config(config).double().eval()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


@torch.no_grad()
def logits(of):
    return of(IDS[0]).logits


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_keeping_all_is_the_teacher(model_type, tied):
    teacher = model(model_type, tie_word_embeddings=tied)
    before = logits(teacher)
    torch.testing.assert_close(logits(prune(teacher, PrunedShape(), IDS).model), before)
    torch.testing.assert_close(logits(teacher), before)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_does_nothing_is_what_goes(model_type, tied):
    """Layers, neurons, groups and channels that are silenced in the teacher: their removal changes no
    logit.
    """
    teacher = model(model_type, tie_word_embeddings=tied)
    for index, layer in enumerate(teacher.model.layers):
        silent_layer = index in (1, 3)
        layer.mlp.down_proj.weight.data[:, :] *= not silent_layer
        layer.self_attn.o_proj.weight.data[:, :] *= not silent_layer
        layer.mlp.up_proj.weight.data[index : index + 20] = 0  # other neurons in every layer
        group = index % 4
        layer.self_attn.v_proj.weight.data[group * 6 : (group + 1) * 6] = 0
        if layer.self_attn.v_proj.bias is not None:
            layer.self_attn.v_proj.bias.data[group * 6 : (group + 1) * 6] = 0
    pruned = prune(teacher, PrunedShape(num_layers=3, ffn_size=28, num_kv_heads=3), IDS)
    assert pruned.kept_layers == [0, 2, 4]
    config = pruned.model.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.intermediate_size) == (6, 3, 28)
    torch.testing.assert_close(logits(pruned.model), logits(teacher))


def test_hidden_channels_that_no_norm_lets_through_go():
    teacher = model(rms_norm_eps=0.0)
    dead = [3, 17, 18, 31]
    teacher.model.norm.weight.data[dead] = 0
    for layer in teacher.model.layers:
        layer.input_layernorm.weight.data[dead] = 0
        layer.post_attention_layernorm.weight.data[dead] = 0
        layer.mlp.down_proj.weight.data[dead] = 0
        layer.self_attn.o_proj.weight.data[dead] = 0
    teacher.model.embed_tokens.weight.data[:, dead] = 0
    pruned = prune(teacher, PrunedShape(hidden_size=28), IDS)
    assert sorted(set(range(32)) - set(pruned.kept_hidden)) == dead
    # RMSNorm divides by the mean over 28 channels now, not 32: its weight has made up for that.
    torch.testing.assert_close(logits(pruned.model), logits(teacher), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"no_rope_layers": [1, 0, 1, 0, 1]}, {"no_rope_layer_interval": 2}], ids=str
)
def test_a_kept_layer_keeps_its_rotary_positions_or_their_absence(options):
    teacher = model("smollm3", pad_token_id=0, **options)
    for projection in (teacher.model.layers[1].mlp.down_proj, teacher.model.layers[1].self_attn.o_proj):
        projection.weight.data.zero_()
    pruned = prune(teacher, PrunedShape(num_layers=4), IDS)
    assert pruned.kept_layers == [0, 2, 3, 4]
    assert pruned.model.config.no_rope_layers == [1, 1, 0, 1]
    torch.testing.assert_close(logits(pruned.model), logits(teacher))


def test_a_layer_that_would_be_another_at_its_place_is_refused():
    """A list longer than the layers (SmolLM3 allows it) is not known to be theirs."""
    teacher = model("smollm3", pad_token_id=0, no_rope_layers=[1, 0, 1, 0, 1, 0])
    teacher.model.layers[1].mlp.down_proj.weight.data.zero_()
    teacher.model.layers[1].self_attn.o_proj.weight.data.zero_()
    with pytest.raises(
        UserError, match=r"layer 2 would be layer 1, where its self_attn.use_rope is 0, not 1"
    ):
        prune(teacher, PrunedShape(num_layers=4), IDS)


def test_gemma_loses_layers_neurons_and_heads_but_no_hidden_channels():
    teacher = model("gemma", num_key_value_heads=4, pad_token_id=0)
    teacher.model.layers[2].mlp.down_proj.weight.data.zero_()
    teacher.model.layers[2].self_attn.o_proj.weight.data.zero_()
    pruned = prune(teacher, PrunedShape(num_layers=4), IDS)
    torch.testing.assert_close(logits(pruned.model), logits(teacher))
    prune(teacher, PrunedShape(ffn_size=20, num_kv_heads=2), IDS)
    with pytest.raises(UserError, match="GemmaForCausalLM cannot be pruned in hidden_size"):
        prune(teacher, PrunedShape(hidden_size=28), IDS)


def test_heads_that_must_fill_the_hidden_state_are_refused():
    teacher = model("helium", head_dim=4, num_key_value_heads=4, pad_token_id=0)
    assert prune(teacher, PrunedShape(num_layers=2, ffn_size=20), IDS).kept_layers
    for shape in (PrunedShape(hidden_size=28), PrunedShape(num_kv_heads=2)):
        with pytest.raises(
            UserError, match="HeliumForCausalLM cannot be pruned in hidden_size or num_kv_heads"
        ):
            prune(teacher, shape, IDS)


def test_a_bfloat16_student_has_its_teachers_rotary_frequencies():
    """They are float32 in every model that transformers loads; rounded, far positions would be others."""
    teacher = model().to(torch.float32)
    frequencies = teacher.model.rotary_emb.inv_freq.clone()
    for parameter in teacher.parameters():
        parameter.data = parameter.data.bfloat16()
    student = prune(teacher, PrunedShape(num_layers=3), IDS).model
    assert student.dtype == torch.bfloat16
    assert torch.equal(student.model.rotary_emb.inv_freq, frequencies)
    assert student.get_output_embeddings().weight.requires_grad


def test_influence_by_hand():
    teacher = model()
    importance = measure_importance(teacher, IDS)
    with torch.no_grad():
        states = [teacher.model(ids, output_hidden_states=True).hidden_states for ids in IDS]
    for index in range(4):  # the last state of transformers has passed the final norm
        cosines = [torch.cosine_similarity(s[index], s[index + 1], dim=-1).flatten() for s in states]
        assert importance.layer_influence[index].item() == pytest.approx(1 - torch.cat(cosines).mean().item())
    assert importance.num_tokens == 36


def test_what_cannot_be_pruned_is_refused():
    with pytest.raises(UserError, match="num_layers is 6, but the teacher has 5"):
        prune(model(), PrunedShape(num_layers=6), IDS)
    with pytest.raises(UserError, match="no token"):
        prune(model(), PrunedShape(num_layers=2), [])
    config = AutoConfig.for_model("gpt2", vocab_size=50, n_embd=32, n_layer=2, n_head=4)
    with pytest.raises(UserError, match="GPT2LMHeadModel cannot be pruned"):
        prune(AutoModelForCausalLM.from_config(config), PrunedShape(), IDS)
    with pytest.raises(
        UserError, match="OlmoForCausalLM cannot be pruned: it lacks input_layernorm, post_attention_"
    ):
        prune(model("olmo"), PrunedShape(), IDS)
