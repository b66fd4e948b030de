"""Small configs of every architecture with a checked formula, in variants that switch its features on and off.

Sizes are all different, so that no two can stand in for one another unnoticed.
"""

from typing import Any

COMMON: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def common(*without: str, **changed: Any) -> dict[str, Any]:
    return {key: value for key, value in COMMON.items() if key not in without} | changed


BIAS = {"attention_bias": True}
BIASES = {"attention_bias": True, "mlp_bias": True}
TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
NO_HEAD_DIM = common("head_dim", num_key_value_heads=3)
TYPES = ["full_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]

# model_type -> configs
CONFIGS: dict[str, list[dict[str, Any]]] = {
    "llama": [common(), NO_HEAD_DIM, common(**BIASES, **TIED)],
    "internlm3": [common(), common(**BIASES)],
    "iquestcoder": [common(), common(**BIASES)],
    "exaone": [common(), common(**BIASES)],
    "granite": [common(), common(**BIASES, **TIED)],
    "helium": [common(head_dim=8), common(head_dim=8, **BIASES)],
    "hyperclovax": [common(), common(use_post_norm=False, **BIASES)],
    "seed_oss": [common(), common(attention_bias=False, attention_out_bias=True, mlp_bias=True)],
    "smollm3": [
        common(),
        common(**UNTIED, **BIASES),
        common(use_sliding_window=True, sliding_window=7),
        common(use_sliding_window=True, sliding_window=7, no_rope_layers=[1, 0, 0, 1, 1]),
        common(use_sliding_window=True, sliding_window=7, layer_types=TYPES),
    ],
    "ernie4_5": [common(), common(use_bias=True, **UNTIED)],
    "arcee": [common(), common(**BIASES)],
    "apertus": [common(), common(**BIAS)],
    "nanochat": [common(), common(**BIAS)],
    "mistral": [common(), common(sliding_window=7), common(sliding_window=None)],
    "ministral3": [common(), common(sliding_window=7)],
    "ministral": [common(), common(sliding_window=7), common(sliding_window=7, layer_types=TYPES)],
    "cwm": [common(), common(sliding_window=7, mlp_bias=True), common(sliding_window=7, layer_types=TYPES)],
    "phi3": [common(), common(sliding_window=7)],
    "glm": [common(), common(attention_bias=False)],
    "glm4": [common(), common(attention_bias=False)],
    "qwen2": [
        common(),
        common(**TIED),
        common(use_sliding_window=True, sliding_window=7, max_window_layers=2),
        common(use_sliding_window=True, sliding_window=7, layer_types=TYPES),
        common(use_sliding_window=False, sliding_window=7, layer_types=TYPES),
    ],
    "qwen3": [common(), common(use_sliding_window=True, sliding_window=7, max_window_layers=2, **BIAS)],
    "hunyuan_v1_dense": [common(), common(**BIAS)],
    "exaone4": [common(), common(sliding_window=7), common(sliding_window=7, layer_types=TYPES)],
    "olmo": [common(), common(clip_qkv=8.0, **BIAS)],
    "olmo2": [common(), common(**BIAS)],
    "olmo3": [common(), common(sliding_window=7, **BIAS), common(sliding_window=7, layer_types=TYPES)],
    "cohere": [common(), common(use_qk_norm=True, **BIAS, **UNTIED)],
    "cohere2": [
        common(),
        common(sliding_window=7, **BIAS),
        common(sliding_window=7, sliding_window_pattern=2),
        common(sliding_window=7, layer_types=TYPES),
    ],
    "gemma": [common(), common(**BIAS, **UNTIED)],
    "gemma2": [common(), common(sliding_window=7, **BIAS), common(sliding_window=7, layer_types=TYPES)],
    "vaultgemma": [common(), common(sliding_window=7), common(sliding_window=7, layer_types=TYPES)],
    "gemma3_text": [
        common(),
        common(sliding_window=7, **BIAS),
        common(sliding_window=7, sliding_window_pattern=2),
        common(sliding_window=7, layer_types=TYPES),
    ],
}

CASES = [
    ({"model_type": name, **config}, f"{name}-{i}")
    for name, variants in CONFIGS.items()
    for i, config in enumerate(variants)
]
