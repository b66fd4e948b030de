"""Llama's relatives with a sliding window in some or all layers: Mistral, Qwen, Gemma 2 and 3, Cohere 2, OLMo 3."""

from typing import Any

from stillmark.compute.families.family import Family, norm_vectors
from stillmark.compute.families.llama import (
    NO_BIAS,
    UNTIED,
    biased,
    biased_ffn,
    causal_only,
    normed,
    normed_by_width,
    unbiased,
)
from stillmark.compute.families.parts import gated_ffn, separate_attention
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.families.windows import (
    every_nth_is_full,
    from_max_window_layers,
    window_by_layer_types,
    window_everywhere,
)

QWEN_WINDOWS: dict[str, Any] = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
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


FAMILIES: dict[str, Family] = {
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
    "exaone4": Family(
        attention=separate_attention(head_norm="head"),
        ffn=gated_ffn(),
        defaults={**UNTIED, "num_key_value_heads": 32, "sliding_window": 4096, "sliding_window_pattern": 4},
        windows=window_by_layer_types(exaone4_slides),
        has_input_norm=lambda reader: False,
    ),
    "olmo3": Family(
        attention=normed_by_width,
        ffn=gated_ffn(),
        defaults={**UNTIED, "attention_bias": False, "sliding_window": 4096},
        windows=window_by_layer_types(every_nth_is_full(4)),
        has_input_norm=lambda reader: False,
    ),
    "cohere2": Family(
        attention=biased,
        ffn=gated_ffn(),
        defaults={"tie_word_embeddings": True, "attention_bias": False, "sliding_window": 4096},
        norms=norm_vectors(1),
        windows=window_by_layer_types(every_nth_is_full(4, "sliding_window_pattern")),
        is_parallel=lambda reader: True,
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
