"""Mixtures of experts: a router, experts of which a token visits a few, and sometimes some that all visit."""

from typing import Any

from stillmark.compute.families.experts import (
    experts,
    qwen_dense,
)
from stillmark.compute.families.family import Family, norm_vectors
from stillmark.compute.families.llama import UNTIED, biased, normed, normed_by_width
from stillmark.compute.families.parts import separate_attention
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.families.windowed import QWEN_WINDOWS
from stillmark.compute.families.windows import (
    every_nth_is_full,
    no_windows,
    window_by_layer_types,
    window_everywhere,
)
from stillmark.errors import UserError


def qwen2_moe_windows(reader: ConfigReader) -> list[int | None]:
    """Qwen2-MoE: every other layer below `max_window_layers`, if `use_sliding_window`."""
    slides = reader.flag("use_sliding_window")
    if not slides:
        if "sliding_attention" in (reader.config.get("layer_types") or []):
            raise UserError("qwen2_moe: `layer_types` slide, but `use_sliding_window` is false")
        return no_windows(reader)
    last = int(reader.get("max_window_layers"))
    return window_by_layer_types(lambda reader, layer: (layer + 1) % 2 != 0 and layer < last)(reader)


def qwen3_moe_windows(reader: ConfigReader) -> list[int | None]:
    """Qwen3-MoE: every layer, if `use_sliding_window`."""
    return window_everywhere(reader) if reader.flag("use_sliding_window") else no_windows(reader)


GRANITE: dict[str, Any] = {
    **UNTIED,
    "attention_bias": False,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}

FAMILIES: dict[str, Family] = {
    "mixtral": Family(
        attention=separate_attention(),
        ffn=experts(width="intermediate_size"),
        defaults={
            **UNTIED,
            "num_key_value_heads": 8,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "sliding_window": None,
        },
        aliases={"num_experts": "num_local_experts"},
        windows=window_everywhere,
    ),
    "minimax_m2": Family(
        attention=separate_attention(head_norm="width"),
        ffn=experts(width="intermediate_size"),
        defaults={
            **UNTIED,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "num_experts": 256,
            "num_experts_per_tok": 8,
        },
        aliases={"num_experts": "num_local_experts"},
    ),
    "phimoe": Family(
        attention=biased,
        ffn=experts(router="router", num="num_local_experts", width="intermediate_size"),
        defaults={
            **UNTIED,
            "num_key_value_heads": 8,
            "num_local_experts": 16,
            "num_experts_per_tok": 2,
            "attention_bias": False,
            "lm_head_bias": False,
            "sliding_window": None,
        },
        windows=window_everywhere,
        norms=norm_vectors(4),
        final_norm=norm_vectors(2),
        head_bias="lm_head_bias",
        check=lambda reader: reader.allow("num_experts_per_tok", 2),  # its router always takes two
    ),
    "gpt_oss": Family(  # a trained sink a head; biases in router and experts
        attention=separate_attention(
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            extra_params=lambda reader: reader.num_heads,
        ),
        ffn=experts(router="router", width="intermediate_size", expert_bias=True),
        defaults={
            **UNTIED,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "num_experts": 128,
            "num_experts_per_tok": 4,
            "attention_bias": True,
            "sliding_window": 128,
        },
        aliases={"num_experts": "num_local_experts"},
        windows=window_by_layer_types(every_nth_is_full(2)),
    ),
    "qwen2_moe": Family(
        attention=separate_attention(qkv_bias="qkv_bias"),
        ffn=experts(
            shared_width=lambda reader: reader.size("shared_expert_intermediate_size"),
            shared="shared_expert.",
            shared_gate="shared_expert_gate",
            is_dense=qwen_dense,
        ),
        defaults={
            **UNTIED,
            **QWEN_WINDOWS,
            "num_key_value_heads": 16,
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
            "decoder_sparse_step": 1,
            "mlp_only_layers": None,
            "qkv_bias": True,
        },
        windows=qwen2_moe_windows,
    ),
    "qwen3_moe": Family(
        attention=normed,
        ffn=experts(is_dense=qwen_dense),
        defaults={
            **UNTIED,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "decoder_sparse_step": 1,
            "mlp_only_layers": None,
            "attention_bias": False,
            "use_sliding_window": False,
            "sliding_window": 4096,
        },
        aliases={"num_experts": "num_local_experts"},
        windows=qwen3_moe_windows,
    ),
    "olmoe": Family(
        attention=normed_by_width,
        ffn=experts(width="intermediate_size"),
        defaults={**UNTIED, "num_experts": 64, "num_experts_per_tok": 8, "attention_bias": False},
        aliases={"num_experts": "num_local_experts"},
    ),
    "flex_olmo": Family(
        attention=normed_by_width,
        ffn=experts(width="intermediate_size"),
        defaults={**UNTIED, "num_experts": 7, "num_experts_per_tok": 5, "attention_bias": False},
        aliases={"num_experts": "num_local_experts"},
        has_input_norm=lambda reader: False,
    ),
    "granitemoe": Family(
        attention=biased,
        ffn=experts(router="router", num="num_local_experts", width="intermediate_size"),
        defaults=GRANITE,
    ),
    "granitemoeshared": Family(
        attention=biased,
        ffn=experts(
            router="router",
            num="num_local_experts",
            width="intermediate_size",
            shared_width=lambda reader: int(reader.get("shared_intermediate_size")),
            shared="shared_mlp.",
        ),
        defaults={**GRANITE, "shared_intermediate_size": 0},
    ),
}
