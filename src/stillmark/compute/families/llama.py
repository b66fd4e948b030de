"""Llama and its relatives: separate query, key, value and output matrices, no learned positions."""

from typing import Any

from stillmark.compute.families.family import Family, norm_vectors
from stillmark.compute.families.parts import fused_attention, gated_ffn, plain_ffn, separate_attention
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.families.windows import (
    every_nth_is_full,
    from_max_window_layers,
    window_by_layer_types,
    window_everywhere,
)

UNTIED = {"tie_word_embeddings": False}
NO_BIAS = {"attention_bias": False, "mlp_bias": False}
QWEN_WINDOWS: dict[str, Any] = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}

biased = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias")
unbiased = separate_attention()
normed = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias", head_norm="head")
normed_by_width = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias", head_norm="width")
biased_ffn = gated_ffn(bias="mlp_bias")
alternating = window_by_layer_types(every_nth_is_full(2))


def slides_without_rotary(reader: ConfigReader, layer: int) -> bool:
    """SmolLM3: layers without rotary positions slide, if `use_sliding_window`."""
    if not reader.flag("use_sliding_window"):
        return False
    rotary = reader.get("no_rope_layers")
    if rotary is None:
        return (layer + 1) % reader.size("no_rope_layer_interval") == 0
    return not rotary[layer]


def smollm3_windows(reader: ConfigReader) -> list[int | None]:
    """SmolLM3 slides only with `use_sliding_window`, whatever `layer_types` says."""
    if not reader.flag("use_sliding_window"):
        return [None] * reader.num_layers
    return window_by_layer_types(slides_without_rotary)(reader)


def exaone4_slides(reader: ConfigReader, layer: int) -> bool:
    """Exaone 4: every n-th layer is full; no window, no pattern."""
    if reader.get("sliding_window") is None:
        return False
    interval = reader.size("sliding_window_pattern")
    return (layer + 1) % interval != 0


def qwen_windows(reader: ConfigReader) -> list[int | None]:
    """Qwen drops `sliding_window` unless `use_sliding_window`, whatever `layer_types` says."""
    if not reader.flag("use_sliding_window"):
        window_by_layer_types(from_max_window_layers)(reader)  # checks layer_types
        return [None] * reader.num_layers
    return window_by_layer_types(from_max_window_layers)(reader)


def causal_only(reader: ConfigReader) -> None:
    """Gemma's embedding models attend in both directions and halve their window."""
    reader.allow("use_bidirectional_attention", False)


FAMILIES: dict[str, Family] = {
    "llama": Family(attention=biased, ffn=biased_ffn, defaults={**UNTIED, **NO_BIAS}),
    "internlm3": Family(
        attention=biased,
        ffn=biased_ffn,
        defaults={**UNTIED, **NO_BIAS, "num_key_value_heads": 2, "head_dim": 128},
        aliases={"attention_bias": "qkv_bias", "mlp_bias": "bias"},
    ),
    "iquestcoder": Family(
        attention=biased,
        ffn=biased_ffn,
        defaults={**UNTIED, **NO_BIAS, "num_key_value_heads": 8, "head_dim": 128},
    ),
    "exaone": Family(
        attention=biased,
        ffn=biased_ffn,
        defaults={**UNTIED, **NO_BIAS, "num_key_value_heads": 8},
        aliases={"num_hidden_layers": "num_layers"},
    ),
    "granite": Family(attention=biased, ffn=biased_ffn, defaults={**UNTIED, **NO_BIAS}),
    "helium": Family(
        attention=separate_attention(qkv_bias="attention_bias"),
        ffn=biased_ffn,
        defaults={**UNTIED, **NO_BIAS, "num_key_value_heads": 20, "head_dim": 128},
    ),
    "hyperclovax": Family(
        attention=biased,
        ffn=biased_ffn,
        defaults={**UNTIED, **NO_BIAS, "use_post_norm": True},
        norms=lambda reader: (4 if reader.flag("use_post_norm") else 2) * reader.hidden_size,
    ),
    "seed_oss": Family(
        attention=separate_attention(qkv_bias="attention_bias", out_bias="attention_out_bias"),
        ffn=biased_ffn,
        defaults={
            **UNTIED,
            "attention_bias": True,
            "attention_out_bias": False,
            "mlp_bias": False,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
    ),
    "smollm3": Family(
        attention=biased,
        ffn=biased_ffn,
        defaults={
            **NO_BIAS,
            "tie_word_embeddings": True,
            "num_key_value_heads": 4,
            "use_sliding_window": False,
            "sliding_window": None,
            "no_rope_layers": None,
            "no_rope_layer_interval": 4,
        },
        windows=smollm3_windows,
    ),
    "ernie4_5": Family(
        attention=separate_attention(qkv_bias="use_bias", out_bias="use_bias"),
        ffn=gated_ffn(bias="use_bias"),
        defaults={"tie_word_embeddings": True, "use_bias": False, "num_key_value_heads": 2, "head_dim": 128},
    ),
    "arcee": Family(
        attention=biased,
        ffn=plain_ffn("up_proj", "down_proj", bias="mlp_bias"),
        defaults={**UNTIED, **NO_BIAS},
    ),
    "apertus": Family(  # the xIELU activation has two trained numbers
        attention=normed,
        ffn=plain_ffn("up_proj", "down_proj", bias=False, other_params=2),
        defaults={**UNTIED, "attention_bias": False},
    ),
    "nanochat": Family(  # norms without weights
        attention=biased,
        ffn=plain_ffn("fc1", "fc2", bias=False),
        defaults={**UNTIED, "attention_bias": False},
        norms=norm_vectors(0),
        final_norm=norm_vectors(0),
        has_input_norm=lambda reader: False,
    ),
    "mistral": Family(
        attention=unbiased,
        ffn=gated_ffn(),
        defaults={**UNTIED, "sliding_window": 4096, "num_key_value_heads": 8},
        windows=window_everywhere,
    ),
    "ministral3": Family(
        attention=unbiased,
        ffn=gated_ffn(),
        defaults={**UNTIED, "sliding_window": None, "num_key_value_heads": 8, "head_dim": 128},
        windows=window_everywhere,
    ),
    "ministral": Family(
        attention=unbiased,
        ffn=gated_ffn(),
        defaults={**UNTIED, "sliding_window": 4096, "num_key_value_heads": 8},
        windows=window_by_layer_types(lambda reader, layer: True),
    ),
    "cwm": Family(
        attention=unbiased,
        ffn=biased_ffn,
        defaults={
            **UNTIED,
            "mlp_bias": False,
            "sliding_window": 8192,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        windows=window_by_layer_types(lambda reader, layer: layer % 4 != 0),
    ),
    "phi3": Family(
        attention=fused_attention("qkv_proj", "o_proj", qkv_bias=False, out_bias=False),
        ffn=gated_ffn(fused=True),
        defaults={**UNTIED, "sliding_window": None},
        windows=window_everywhere,
    ),
    "glm": Family(
        attention=separate_attention(qkv_bias="attention_bias"),
        ffn=gated_ffn(fused=True),
        defaults={**UNTIED, "attention_bias": True, "num_key_value_heads": 2, "head_dim": 128},
    ),
    "glm4": Family(
        attention=separate_attention(qkv_bias="attention_bias"),
        ffn=gated_ffn(fused=True),
        defaults={**UNTIED, "attention_bias": True, "num_key_value_heads": 2, "head_dim": 128},
        norms=norm_vectors(4),
    ),
    "qwen2": Family(
        attention=separate_attention(qkv_bias=True),
        ffn=gated_ffn(),
        defaults={**UNTIED, **QWEN_WINDOWS, "num_key_value_heads": 32},
        windows=qwen_windows,
    ),
    "qwen3": Family(
        attention=normed,
        ffn=gated_ffn(),
        defaults={
            **UNTIED,
            **QWEN_WINDOWS,
            "num_key_value_heads": 32,
            "head_dim": 128,
            "attention_bias": False,
        },
        windows=qwen_windows,
    ),
    "hunyuan_v1_dense": Family(
        attention=normed, ffn=gated_ffn(), defaults={**UNTIED, "attention_bias": False}
    ),
    "exaone4": Family(
        attention=separate_attention(head_norm="head"),
        ffn=gated_ffn(),
        defaults={**UNTIED, "num_key_value_heads": 32, "sliding_window": 4096, "sliding_window_pattern": 4},
        windows=window_by_layer_types(exaone4_slides),
        has_input_norm=lambda reader: False,
    ),
    "olmo": Family(  # norms without weights
        attention=biased,
        ffn=gated_ffn(),
        defaults={**UNTIED, "attention_bias": False},
        norms=norm_vectors(0),
        final_norm=norm_vectors(0),
        has_input_norm=lambda reader: False,
    ),
    "olmo2": Family(  # norms after attention and feed-forward, none before
        attention=normed_by_width,
        ffn=gated_ffn(),
        defaults={**UNTIED, "attention_bias": False},
        has_input_norm=lambda reader: False,
    ),
    "olmo3": Family(
        attention=normed_by_width,
        ffn=gated_ffn(),
        defaults={**UNTIED, "attention_bias": False, "sliding_window": 4096},
        windows=window_by_layer_types(every_nth_is_full(4)),
        has_input_norm=lambda reader: False,
    ),
    "cohere": Family(  # one layer norm without bias, attention and feed-forward side by side
        attention=separate_attention(
            qkv_bias="attention_bias",
            out_bias="attention_bias",
            head_norm="width",
            head_norm_flag="use_qk_norm",
        ),
        ffn=gated_ffn(),
        defaults={"tie_word_embeddings": True, "attention_bias": False, "use_qk_norm": False},
        norms=norm_vectors(1),
        is_parallel=lambda reader: True,
    ),
    "cohere2": Family(
        attention=biased,
        ffn=gated_ffn(),
        defaults={"tie_word_embeddings": True, "attention_bias": False, "sliding_window": 4096},
        norms=norm_vectors(1),
        windows=window_by_layer_types(every_nth_is_full(4, "sliding_window_pattern")),
        is_parallel=lambda reader: True,
    ),
    "gemma": Family(
        attention=biased,
        ffn=gated_ffn(),
        defaults={
            "tie_word_embeddings": True,
            "attention_bias": False,
            "num_key_value_heads": 16,
            "head_dim": 256,
        },
        check=causal_only,
    ),
    "gemma2": Family(
        attention=biased,
        ffn=gated_ffn(),
        defaults={
            "tie_word_embeddings": True,
            "attention_bias": False,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "sliding_window": 4096,
        },
        norms=norm_vectors(4),
        windows=alternating,
        check=causal_only,
    ),
    "vaultgemma": Family(
        attention=biased,
        ffn=gated_ffn(),
        defaults={
            "tie_word_embeddings": True,
            "attention_bias": False,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "sliding_window": 4096,
        },
        windows=alternating,
    ),
    "gemma3_text": Family(
        attention=normed,
        ffn=gated_ffn(),
        defaults={
            "tie_word_embeddings": True,
            "attention_bias": False,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "sliding_window": 4096,
        },
        norms=norm_vectors(4),
        windows=window_by_layer_types(every_nth_is_full(6, "sliding_window_pattern")),
        check=causal_only,
    ),
}
