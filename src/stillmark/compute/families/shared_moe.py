"""Mixtures of experts with experts that every token visits, and first layers without experts."""

from stillmark.compute.families.experts import (
    dense_by_layer_types,
    ernie_dense,
    experts,
    first_layers_dense,
    times,
)
from stillmark.compute.families.family import Family
from stillmark.compute.families.llama import UNTIED, normed
from stillmark.compute.families.parts import separate_attention
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.families.windowed import exaone4_slides
from stillmark.compute.families.windows import (
    window_by_layer_types,
)


def dots1_slides(reader: ConfigReader, layer: int) -> bool:
    return layer >= int(reader.get("max_window_layers"))


FAMILIES: dict[str, Family] = {
    "hunyuan_v1_moe": Family(
        attention=normed,
        ffn=experts(
            router="wg",
            width="intermediate_size",
            shared_width=lambda reader: reader.size("intermediate_size"),
            shared="shared_mlp.",
        ),
        defaults={**UNTIED, "num_experts": 1, "num_experts_per_tok": 1, "attention_bias": False},
        aliases={"num_experts": "num_local_experts", "num_experts_per_tok": "moe_topk"},
    ),
    "ernie4_5_moe": Family(
        attention=separate_attention(qkv_bias="use_bias", out_bias="use_bias"),
        ffn=experts(
            shared_width=times("moe_intermediate_size", "moe_num_shared_experts"),
            shared_bias="use_bias",
            is_dense=ernie_dense,
            dense_bias="use_bias",
            params_per_expert=1,
        ),
        defaults={
            "tie_word_embeddings": True,
            "num_key_value_heads": 4,
            "use_bias": False,
            "num_experts": 64,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 1536,
            "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": -1,
            "moe_layer_interval": 1,
        },
        aliases={"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
        head_bias="use_bias",
    ),
    "dots1": Family(
        attention=normed,
        ffn=experts(
            num="n_routed_experts",
            shared_width=times("moe_intermediate_size", "n_shared_experts"),
            is_dense=first_layers_dense,
        ),
        defaults={
            **UNTIED,
            "num_key_value_heads": 32,
            "attention_bias": False,
            "first_k_dense_replace": 0,
            "moe_intermediate_size": 1408,
            "sliding_window": 4096,
            "max_window_layers": 62,
        },
        aliases={"n_routed_experts": "num_local_experts"},
        windows=window_by_layer_types(dots1_slides),
    ),
    "glm4_moe": Family(
        attention=separate_attention(
            qkv_bias="attention_bias", head_norm="head", head_norm_flag="use_qk_norm"
        ),
        ffn=experts(
            num="n_routed_experts",
            shared_width=times("moe_intermediate_size", "n_shared_experts"),
            is_dense=first_layers_dense,
        ),
        defaults={
            **UNTIED,
            "num_key_value_heads": 8,
            "attention_bias": False,
            "use_qk_norm": False,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 1408,
            "n_routed_experts": 128,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
        },
        aliases={"n_routed_experts": "num_local_experts"},
    ),
    "solar_open": Family(
        attention=separate_attention(qkv_bias="attention_bias"),
        ffn=experts(num="n_routed_experts", shared_width=times("moe_intermediate_size", "n_shared_experts")),
        defaults={
            **UNTIED,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "attention_bias": False,
            "moe_intermediate_size": 1280,
            "n_routed_experts": 128,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
        },
        aliases={"n_routed_experts": "num_local_experts"},
    ),
    "exaone_moe": Family(
        attention=separate_attention(head_norm="head"),
        ffn=experts(
            shared_width=times("moe_intermediate_size", "num_shared_experts"),
            is_dense=dense_by_layer_types(first_layers_dense),
        ),
        defaults={
            **UNTIED,
            "num_key_value_heads": 32,
            "sliding_window": 4096,
            "sliding_window_pattern": 4,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 1024,
            "num_experts": 64,
            "num_experts_per_tok": 8,
            "num_shared_experts": 1,
        },
        windows=window_by_layer_types(exaone4_slides),
    ),
    "hy_v3": Family(
        attention=normed,
        ffn=experts(
            shared_width=times("moe_intermediate_size", "num_shared_experts"),
            shared_bias="mlp_bias",
            is_dense=dense_by_layer_types(lambda reader, layer: layer == 0),
            dense_bias="mlp_bias",
        ),
        defaults={
            **UNTIED,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "attention_bias": False,
            "mlp_bias": False,
            "moe_intermediate_size": 1536,
            "num_experts": 192,
            "num_experts_per_tok": 8,
            "num_shared_experts": 1,
        },
        aliases={"num_experts": "num_local_experts"},
    ),
}
