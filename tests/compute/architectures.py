"""Small configs of every architecture with a checked formula, in variants that switch its features.

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
GPT = {"vocab_size": 199, "n_embd": 48, "n_layer": 5, "n_head": 6, "n_positions": 64}
CODEGEN = {**GPT, "n_head": 4}  # its attention is cut in four
PLAIN = common("head_dim", "num_key_value_heads")
NO_HEAD_DIM = common("head_dim", num_key_value_heads=3)
TYPES = ["full_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
MOE = common(num_experts=5, num_experts_per_tok=3, moe_intermediate_size=13)
MOE_PLAIN = {key: value for key, value in MOE.items() if key != "head_dim"}
LOCAL = common(num_local_experts=5, num_experts_per_tok=3)
ROUTED = common(
    n_routed_experts=5,
    num_experts_per_tok=3,
    moe_intermediate_size=13,
    n_shared_experts=2,
    first_k_dense_replace=2,
    n_group=1,
    topk_group=1,
)
LATENT = {
    "head_dim": 8,
    "num_key_value_heads": 6,
    "kv_lora_rank": 18,
    "q_lora_rank": 22,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 8,
    "v_head_dim": 14,
}
MLP_TYPES = ["sparse", "dense", "sparse", "sparse", "dense"]

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
    "gpt2": [GPT, {**GPT, "n_inner": 77, **UNTIED}],
    "gpt_bigcode": [GPT, {**GPT, "n_inner": 77, "multi_query": False}],
    "openai-gpt": [GPT],
    "gpt_neo": [
        common(attention_types=[[["global", "local"], 2], [["local"], 1]], window_size=7),
        common("intermediate_size", attention_types=[[["global"], 5]]),
    ],
    "gptj": [{**GPT, "rotary_dim": 4}, {**GPT, "rotary_dim": 4, "n_inner": 77, **TIED}],
    "codegen": [{**CODEGEN, "rotary_dim": 4}, {**CODEGEN, "rotary_dim": 4, "n_inner": 77}],
    "gpt_neox": [common(), common(attention_bias=False, use_parallel_residual=False, **TIED)],
    "gpt_neox_japanese": [PLAIN, common("head_dim", intermediate_multiple_size=3)],
    "bloom": [common(), common(**UNTIED)],
    "mpt": [{"vocab_size": 199, "d_model": 48, "n_layers": 5, "n_heads": 6}],
    "falcon": [
        PLAIN,
        common("head_dim", bias=True, multi_query=False, parallel_attn=False, alibi=True),
        common("head_dim", bias=True, multi_query=False, **UNTIED),
        common("head_dim", new_decoder_architecture=True, num_kv_heads=2, ffn_hidden_size=77),
        common("head_dim", new_decoder_architecture=True, num_kv_heads=3, num_ln_in_parallel_attn=1),
    ],
    "opt": [
        common(ffn_dim=77),
        common(ffn_dim=77, word_embed_proj_dim=20, do_layer_norm_before=False),
        common(ffn_dim=77, enable_bias=False, layer_norm_elementwise_affine=False, **UNTIED),
    ],
    "biogpt": [common(), common(**UNTIED)],
    "xglm": [{"vocab_size": 199, "d_model": 48, "num_layers": 5, "attention_heads": 6, "ffn_dim": 77}],
    "ctrl": [{**GPT, "dff": 77}, {**GPT, "dff": 77, **UNTIED}],
    "persimmon": [PLAIN, common("head_dim", qk_layernorm=False, **TIED)],
    "phi": [common("head_dim"), common(), common("head_dim", qk_layernorm=True, num_key_value_heads=3)],
    "stablelm": [
        common("head_dim"),
        common("head_dim", qk_layernorm=True, use_qkv_bias=True, use_parallel_residual=True),
    ],
    "starcoder2": [common(), common(use_bias=False, sliding_window=7, **UNTIED)],
    "nemotron": [common(), common(**BIASES)],
    "jais2": [common(), common(attention_bias=False, mlp_bias=False)],
    "mixtral": [LOCAL, {**LOCAL, "sliding_window": 7, **TIED}],
    "minimax_m2": [LOCAL],
    "phimoe": [
        {**LOCAL, "num_experts_per_tok": 2},
        {**LOCAL, "num_experts_per_tok": 2, "sliding_window": 7, "lm_head_bias": True, **BIAS},
    ],
    "gpt_oss": [LOCAL, {**LOCAL, "sliding_window": 7}, {**LOCAL, "sliding_window": 7, "layer_types": TYPES}],
    "qwen2_moe": [
        {**MOE, "shared_expert_intermediate_size": 29},
        {
            **MOE,
            "shared_expert_intermediate_size": 29,
            "decoder_sparse_step": 2,
            "qkv_bias": False,
            "use_sliding_window": True,
            "sliding_window": 7,
            "max_window_layers": 3,
        },
    ],
    "qwen3_moe": [
        MOE,
        {**MOE, "mlp_only_layers": [1, 3], "use_sliding_window": True, "sliding_window": 7, **BIAS},
    ],
    "olmoe": [{**MOE_PLAIN}, {**MOE_PLAIN, **BIAS, "clip_qkv": 8.0}],
    "flex_olmo": [MOE, {**MOE, **BIAS}],
    "granitemoe": [LOCAL, {**LOCAL, **BIAS, **TIED}],
    "granitemoeshared": [LOCAL, {**LOCAL, "shared_intermediate_size": 29}],
    "hunyuan_v1_moe": [common(num_experts=5, moe_topk=3), common(num_experts=5, moe_topk=3, **BIAS)],
    "ernie4_5_moe": [
        common("head_dim", moe_num_experts=5, moe_k=3, moe_intermediate_size=13),
        common(
            "head_dim",
            moe_num_experts=5,
            moe_k=3,
            moe_intermediate_size=13,
            moe_num_shared_experts=0,
            moe_layer_start_index=0,
            moe_layer_end_index=3,
            moe_layer_interval=2,
            use_bias=True,
            **UNTIED,
        ),
    ],
    "dots1": [ROUTED, {**ROUTED, "sliding_window": 7, "max_window_layers": 2, **BIAS}],
    "glm4_moe": [ROUTED, {**ROUTED, "use_qk_norm": True, **BIAS}],
    "solar_open": [ROUTED, {**ROUTED, **BIAS}],
    "exaone_moe": [
        {**MOE, "num_shared_experts": 2, "sliding_window": 7},
        {**MOE, "num_shared_experts": 1, "mlp_layer_types": MLP_TYPES},
    ],
    "hy_v3": [
        {**MOE, "num_shared_experts": 2},
        {**MOE, "num_shared_experts": 1, "mlp_layer_types": MLP_TYPES, **BIASES},
    ],
    "deepseek_v2": [
        {**ROUTED, **LATENT},
        {**ROUTED, **LATENT, "q_lora_rank": None, "first_k_dense_replace": 0, **BIASES},
    ],
    "deepseek_v3": [{**ROUTED, **LATENT}, {**ROUTED, **LATENT, "q_lora_rank": None, **BIAS}],
    "glm4_moe_lite": [{**ROUTED, **LATENT}, {**ROUTED, **LATENT, "mlp_layer_types": MLP_TYPES, **BIAS}],
    "youtu": [common("head_dim", "num_key_value_heads", **LATENT)],
    "minicpm3": [
        common("head_dim", "num_key_value_heads", **LATENT),
        common("head_dim", "num_key_value_heads", **LATENT, **BIASES, **UNTIED),
    ],
}

CASES = [
    ({"model_type": name, **config}, f"{name}-{i}")
    for name, variants in CONFIGS.items()
    for i, config in enumerate(variants)
]
