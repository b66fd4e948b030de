"""The formulas against published counts."""

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


def test_llama_8b_has_its_published_parameters():
    assert shape_from_config(LLAMA_8B).params == 8_030_261_248


def test_agrees_with_a_published_record():
    # marin-community/marin, experiments/speedrun/adamc_qwen3_scaling/130m/speedrun_results.json:
    # 227,868,672 forward FLOPs a token at context 4,096. That count has 3·T·H per layer more, for the softmax.
    config = {
        "model_type": "qwen3",
        "hidden_size": 512,
        "intermediate_size": 1792,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128_256,
    }
    softmax = 3 * 4096 * 8 * 6
    assert forward_flops(shape_from_config(config), tokens=1, context_tokens=4096) + softmax == 227_868_672


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
