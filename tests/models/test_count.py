"""The meta-device counter against hand counts, and what it does where there is nothing to count."""

import pytest

from stillmark.compute.shapes import shape_from_config
from stillmark.errors import UserError

pytest.importorskip("transformers")
from stillmark.models.count import count_flops

LLAMA = {
    "model_type": "llama",
    "vocab_size": 199,
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def test_a_hand_count():
    # A layer: queries and outputs 48x48, keys and values 48x16, three of 48x77; the head 48x199; 2 a
    # multiply-add; scores and values 2·6·(8+8) a pair of tokens.
    tokens = 10
    weights = 2 * (2 * 48 * 48 + 2 * 48 * 16 + 3 * 48 * 77) + 48 * 199
    attention = 2 * tokens * tokens * 2 * 6 * (8 + 8)
    counted = count_flops(LLAMA, tokens)
    assert counted.forward_flops == 2 * weights * tokens + attention
    assert counted.train_flops == 3 * counted.forward_flops
    assert counted.params == weights + 48 * 199 + 5 * 48


def test_an_architecture_without_a_formula_is_counted():
    config = {**LLAMA, "model_type": "granite_swa", "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    with pytest.raises(UserError, match="no FLOPs formula was checked"):
        shape_from_config(config)
    # granite_swa is Llama with a tied head and a sink a head: the matmuls are Llama's.
    assert count_flops(config, 10).forward_flops == count_flops(LLAMA, 10).forward_flops


def test_a_forward_pass_that_depends_on_data_is_not_guessed():
    config = {
        "model_type": "jetmoe",
        "vocab_size": 199,
        "hidden_size": 48,
        "intermediate_size": 77,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "kv_channels": 8,
        "pad_token_id": 0,
    }
    with pytest.raises(UserError, match="cannot be counted on the meta device"):
        count_flops(config, 10)


@pytest.mark.parametrize("model_type", ["nothing-like-this", "clip"])
def test_what_is_no_language_model_is_said(model_type: str):
    with pytest.raises(UserError, match="no causal language model"):
        count_flops({"model_type": model_type}, 10)
