"""Memory by formula against what torch keeps, byte by byte, and against the papers' own figures."""

import pytest

from stillmark.compute.flops import Recompute
from stillmark.compute.memory import (
    PRECISIONS,
    Sharding,
    activation_bytes,
    gpt_activation_bytes_per_layer,
    logits_bytes,
    precision,
    serving_bytes,
    state_bytes,
    training_memory,
)
from stillmark.compute.shapes import shape_from_config
from stillmark.errors import UserError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

GB = 1e9
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 257,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}


def tiny_llama(dtype, **changes):
    config = {**TINY, **changes}
    config.pop("model_type")
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**config, attn_implementation="sdpa")).to(
        dtype
    )


def saved_bytes(model, ids):
    """Bytes of every distinct tensor that autograd keeps between forward and backward, parameters apart."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor keeps its address from reuse
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, labels=ids, use_cache=False)
    return sum(number for number, _ in kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_activations_are_what_autograd_keeps(dtype, kv_heads):
    sequences, tokens = 2, 32
    model = tiny_llama(dtype, num_key_value_heads=kv_heads)
    ids = torch.randint(0, 257, (sequences, tokens))
    shape = shape_from_config({**TINY, "num_key_value_heads": kv_heads})
    compute_bytes = 4 if dtype == torch.float32 else 2
    predicted = activation_bytes(
        shape, sequence_tokens=tokens, sequences=sequences, compute_bytes=compute_bytes
    )
    # Not activations: log-probabilities of the loss (fp32), cosines and sines of the positions, the token ids
    # and shifted labels (int64), and the loss's divisor.
    log_probabilities = 4 * 257 * sequences * tokens
    positions = 2 * 16 * tokens * compute_bytes
    ids_and_labels = 2 * 8 * sequences * tokens
    assert saved_bytes(model, ids) == predicted + log_probabilities + positions + ids_and_labels + 4


def test_model_states_are_what_torch_holds_with_adamw():
    model = tiny_llama(torch.float32)
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, 257, (1, 8))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    params = sum(p.numel() for p in model.parameters())
    weights = sum(p.nbytes for p in model.parameters())
    gradients = sum(p.grad.nbytes for p in model.parameters())
    moments = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.dim())
    assert shape_from_config(TINY).params == params
    assert state_bytes(params, precision=PRECISIONS["fp32"]) == (weights, gradients, moments)


@pytest.mark.parametrize(
    ("sharding", "gigabytes"),
    [(Sharding.NONE, 120), (Sharding.OPTIMIZER, 31.4), (Sharding.GRADIENTS, 16.6), (Sharding.FULL, 1.9)],
)
def test_zero_paper_figure_1(sharding, gigabytes):
    # arXiv:1910.02054, Figure 1: 7.5B parameters, mixed-precision Adam, 64 devices.
    states = state_bytes(7.5e9, precision=PRECISIONS["mixed"], sharding=sharding, num_devices=64)
    assert sum(states) / GB == pytest.approx(gigabytes, rel=0.02)


def test_autocast_takes_18_bytes_a_parameter():
    # Hugging Face, "Model training anatomy": 6 (weights) + 8 (AdamW) + 4 (gradients).
    assert PRECISIONS["autocast"].bytes_per_param == 18


def test_frozen_parameters_have_no_gradient_and_no_moments():
    weights, gradients, optimizer = state_bytes(8e9, precision=PRECISIONS["mixed"], trainable_params=1e7)
    assert (weights, gradients, optimizer) == (16e9, 2e7, 12e7)


@pytest.mark.parametrize(
    ("heads", "hidden", "scores", "saved"),
    [(96, 12288, 80, 0.70), (128, 20480, 64, 0.65)],
    ids=["GPT-3", "MT-NLG 530B"],
)
def test_megatron_activation_formula(heads, hidden, scores, saved):
    # arXiv:2205.05198, section 4.3: 5·a·s/h is 80 for GPT-3 and 64 for MT-NLG; leaving the attention out
    # saves 70% and 65% of the activations.
    size = {"sequence_tokens": 2048, "sequences": 1, "hidden_size": hidden, "num_heads": heads}
    unit = 2048 * hidden
    whole = gpt_activation_bytes_per_layer(**size)
    assert whole == unit * (34 + scores)  # equation 1
    assert gpt_activation_bytes_per_layer(**size, tensor_parallel=8) == unit * (10 + 24 / 8 + scores / 8)
    parallel = gpt_activation_bytes_per_layer(**size, tensor_parallel=8, sequence_parallel=True)
    assert parallel == pytest.approx(whole / 8)  # equation 4
    selective = gpt_activation_bytes_per_layer(**size, recompute=Recompute.ATTENTION)
    assert selective == 34 * unit
    assert 1 - selective / whole == pytest.approx(saved, abs=0.005)
    assert gpt_activation_bytes_per_layer(**size, recompute=Recompute.LAYERS) == 2 * unit


def test_recomputed_layers_keep_their_inputs_and_one_layer():
    shape = shape_from_config(TINY)
    kept = activation_bytes(shape, sequence_tokens=32, recompute=Recompute.LAYERS)
    whole = activation_bytes(shape, sequence_tokens=32)
    norm = 32 * (64 * 8 + 4)
    assert kept == (whole - norm) // 3 + norm + 3 * 32 * 64 * 2
    assert activation_bytes(shape, sequence_tokens=32, recompute=Recompute.ATTENTION) == whole


def test_kv_cache_is_what_transformers_holds():
    model = tiny_llama(torch.float32)
    cache = model(input_ids=torch.randint(0, 257, (2, 32)), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    shape = shape_from_config(TINY)
    predicted = serving_bytes(
        shape.params, shape=shape, context_tokens=32, sequences=2, weight_bytes=4, cache_bytes=4
    )
    assert predicted == held + 4 * shape.params


def test_total_is_unknown_without_a_shape():
    memory = training_memory(8e9, precision=PRECISIONS["mixed"], sequence_tokens=4096)
    assert memory.states_bytes == 16 * 8e9
    assert memory.activations_bytes is None
    assert memory.total_bytes is None
    assert serving_bytes(8e9, shape=None, context_tokens=4096) is None


def test_full_sharding_divides_states_and_gathers_layers():
    shape = shape_from_config(TINY)
    memory = training_memory(
        shape.params,
        precision=PRECISIONS["mixed"],
        shape=shape,
        sequence_tokens=32,
        sharding=Sharding.FULL,
        num_devices=4,
        teacher_params=1e6,
    )
    assert memory.states_bytes == 16 * shape.params / 4
    assert memory.gathered_bytes == 3 * 2 * shape.layers[0].params
    assert memory.teacher_bytes == 2 * 1e6 / 4
    assert memory.total_bytes == pytest.approx(
        memory.states_bytes
        + memory.gathered_bytes
        + memory.activations_bytes
        + memory.logits_bytes
        + memory.teacher_bytes
    )


def test_logits_of_llama_3_need_gigabytes():
    # 8,192 tokens of a vocabulary of 128,256: 1.05e9 logits at 10 bytes, 16 with a live teacher beside.
    assert logits_bytes(vocab_size=128_256, tokens=8192) == 10 * 128_256 * 8192
    assert logits_bytes(vocab_size=128_256, tokens=8192, teacher=True) == 16 * 128_256 * 8192


def test_unknown_precision_says_what_is_possible():
    with pytest.raises(UserError, match="did you mean `mixed`"):
        precision("mixd")
