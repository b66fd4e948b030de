"""The formulas against closed forms and sums of steps."""

from stillmark.compute.flops import decode_flops, forward_flops, generate_flops, prefill_flops, train_flops
from stillmark.compute.shapes import shape_from_config

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


def test_decode_is_the_sum_of_its_steps():
    shape = shape_from_config({**LLAMA_8B, "model_type": "mistral", "sliding_window": 20})
    for prompt_tokens, new_tokens in [(1, 1), (5, 9), (18, 7), (30, 4), (3, 40)]:
        steps = sum(
            forward_flops(shape, tokens=1, context_tokens=prompt_tokens + i) for i in range(1, new_tokens)
        )
        assert decode_flops(shape, prompt_tokens=prompt_tokens, new_tokens=new_tokens) == steps
        prefill = prefill_flops(shape, prompt_tokens=prompt_tokens)
        assert generate_flops(shape, prompt_tokens=prompt_tokens, new_tokens=new_tokens) == prefill + steps


def test_training_is_three_forward_passes():
    shape = shape_from_config(LLAMA_8B)
    assert train_flops(shape, tokens=7) == 3 * forward_flops(shape, tokens=7)
