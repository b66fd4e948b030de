"""GPT-2 and its relatives: layer norms with biases, a plain feed-forward part, often learned positions."""

from collections.abc import Callable
from typing import Any

from stillmark.compute.families.family import Family, norm_vectors
from stillmark.compute.families.parts import fused_attention, gated_ffn, plain_ffn, separate_attention
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.families.windows import window_everywhere

UNTIED = {"tie_word_embeddings": False}
TIED = {"tie_word_embeddings": True}
GPT_NAMES = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
}


def learned_positions(extra: int = 0) -> Callable[[ConfigReader], int]:
    """One vector a position; OPT and BioGPT keep two more."""
    return lambda reader: (reader.size("max_position_embeddings") + extra) * reader.hidden_size


def four_times(name: str) -> Callable[[ConfigReader], int]:
    """The feed-forward width, four times the hidden size where the config says nothing."""
    return lambda reader: reader.size_or(4 * reader.hidden_size, name)


def size(name: str) -> Callable[[ConfigReader], int]:
    return lambda reader: reader.size(name)


def no_cross_attention(reader: ConfigReader) -> None:
    reader.allow("add_cross_attention", False)


def mpt_as_released(reader: ConfigReader) -> None:
    """transformers makes the same MPT whatever these say; a model that differs cannot be loaded by it."""
    reader.allow("expansion_ratio", 4)
    attention = reader.get("attn_config") or {}
    if attention.get("attn_type", "multihead_attention") != "multihead_attention":
        raise reader.wrong("attn_config.attn_type", attention["attn_type"], "multihead_attention")


def falcon_kv_heads(reader: ConfigReader) -> int:
    """Falcon: `num_kv_heads` in the new architecture, one with multi-query, else one a head."""
    if reader.flag("new_decoder_architecture"):
        return reader.size_or(reader.num_heads, "num_kv_heads")
    return 1 if reader.flag("multi_query") else reader.num_heads


def falcon_norms(reader: ConfigReader) -> int:
    """Falcon: two layer norms, or one for both parts side by side (7B)."""
    count = reader.size_or(2 if reader.flag("new_decoder_architecture") else 1, "num_ln_in_parallel_attn")
    norms = 1 if reader.flag("parallel_attn") and count != 2 else 2
    return norms * 2 * reader.hidden_size


def gpt_neo_windows(reader: ConfigReader) -> list[int | None]:
    """GPT-Neo: `attention_types` is a list of [names, repeats]; local layers read `window_size` keys."""
    types = reader.get("attention_types") or [[["global", "local"], 12]]
    names = [name for names, repeats in types for _ in range(repeats) for name in names]
    if len(names) != reader.num_layers:
        raise reader.wrong("attention_types", types, f"a pattern for {reader.num_layers} layers")
    return [reader.size("window_size") if name == "local" else None for name in names]


LAYER_NORMS: dict[str, Any] = {"norms": norm_vectors(4), "final_norm": norm_vectors(2)}
OLD_HEADS: dict[str, Any] = {"has_head_dim": False, "has_kv_heads": False}

FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        attention=fused_attention("c_attn", "c_proj"),
        ffn=plain_ffn("c_fc", "c_proj", size=four_times("n_inner")),
        defaults={**TIED, "max_position_embeddings": 1024},
        aliases=GPT_NAMES,
        positions=learned_positions(),
        check=no_cross_attention,
        **LAYER_NORMS,
        **OLD_HEADS,
    ),
    "gpt_bigcode": Family(
        attention=fused_attention(
            "c_attn",
            "c_proj",
            kv_heads_of=lambda reader: 1 if reader.flag("multi_query") else reader.num_heads,
        ),
        ffn=plain_ffn("c_fc", "c_proj", size=four_times("n_inner")),
        defaults={**TIED, "max_position_embeddings": 1024, "multi_query": True},
        aliases=GPT_NAMES,
        positions=learned_positions(),
        check=no_cross_attention,
        **LAYER_NORMS,
        **OLD_HEADS,
    ),
    "openai-gpt": Family(  # norms after each part, none at the end
        attention=fused_attention("c_attn", "c_proj"),
        ffn=plain_ffn("c_fc", "c_proj", size=lambda reader: 4 * reader.hidden_size),
        defaults={**TIED, "max_position_embeddings": 512},
        aliases=GPT_NAMES,
        positions=learned_positions(),
        norms=norm_vectors(4),
        final_norm=norm_vectors(0),
        has_input_norm=lambda reader: False,
        **OLD_HEADS,
    ),
    "gpt_neo": Family(
        attention=separate_attention(out_bias=True, output="out_proj"),
        ffn=plain_ffn("c_fc", "c_proj", size=four_times("intermediate_size")),
        defaults={**TIED, "max_position_embeddings": 2048, "window_size": 256, "attention_types": None},
        aliases={"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"},
        positions=learned_positions(),
        windows=gpt_neo_windows,
        **LAYER_NORMS,
        **OLD_HEADS,
    ),
    "gptj": Family(
        attention=separate_attention(output="out_proj"),
        ffn=plain_ffn("fc_in", "fc_out", size=four_times("n_inner")),
        defaults=UNTIED,
        aliases=GPT_NAMES,
        norms=norm_vectors(2),
        final_norm=norm_vectors(2),
        head_bias=True,
        is_parallel=lambda reader: True,
        **OLD_HEADS,
    ),
    "codegen": Family(
        attention=fused_attention("qkv_proj", "out_proj", qkv_bias=False, out_bias=False),
        ffn=plain_ffn("fc_in", "fc_out", size=four_times("n_inner")),
        defaults=UNTIED,
        aliases=GPT_NAMES,
        norms=norm_vectors(2),
        final_norm=norm_vectors(2),
        head_bias=True,
        is_parallel=lambda reader: True,
        **OLD_HEADS,
    ),
    "gpt_neox": Family(
        attention=fused_attention(
            "query_key_value", "dense", qkv_bias="attention_bias", out_bias="attention_bias"
        ),
        ffn=plain_ffn("dense_h_to_4h", "dense_4h_to_h"),
        defaults={**UNTIED, "attention_bias": True, "use_parallel_residual": True},
        is_parallel=lambda reader: reader.flag("use_parallel_residual"),
        **LAYER_NORMS,
        **OLD_HEADS,
    ),
    "gpt_neox_japanese": Family(  # one bias, after the last layer's attention
        attention=fused_attention("query_key_value", "dense", qkv_bias=False, out_bias=False),
        ffn=plain_ffn(
            "dense_h_to_4h",
            "dense_4h_to_h",
            bias=False,
            size=lambda reader: reader.hidden_size * reader.size("intermediate_multiple_size"),
        ),
        defaults={**TIED, "intermediate_multiple_size": 4},
        norms=norm_vectors(4),
        final_norm=norm_vectors(3),
        **OLD_HEADS,
    ),
    "bloom": Family(  # a norm after the embedding too
        attention=fused_attention("query_key_value", "dense"),
        ffn=plain_ffn("dense_h_to_4h", "dense_4h_to_h", size=lambda reader: 4 * reader.hidden_size),
        defaults=TIED,
        aliases={"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "hidden_size": "n_embed"},
        norms=norm_vectors(4),
        final_norm=norm_vectors(4),
        **OLD_HEADS,
    ),
    "mpt": Family(  # no bias anywhere
        attention=fused_attention("Wqkv", "out_proj", qkv_bias=False, out_bias=False),
        ffn=plain_ffn("up_proj", "down_proj", bias=False, size=lambda reader: 4 * reader.hidden_size),
        defaults={**TIED, "attn_config": None},
        aliases={
            "num_attention_heads": "n_heads",
            "hidden_size": "d_model",
            "num_hidden_layers": "n_layers",
        },
        norms=norm_vectors(2),
        final_norm=norm_vectors(1),
        check=mpt_as_released,
        **OLD_HEADS,
    ),
    "falcon": Family(
        attention=fused_attention(
            "query_key_value", "dense", qkv_bias="bias", out_bias="bias", kv_heads_of=falcon_kv_heads
        ),
        ffn=plain_ffn("dense_h_to_4h", "dense_4h_to_h", bias="bias", size=four_times("ffn_hidden_size")),
        defaults={
            **TIED,
            "new_decoder_architecture": False,
            "multi_query": True,
            "parallel_attn": True,
            "bias": False,
        },
        aliases={"hidden_size": "n_embed"},
        norms=falcon_norms,
        final_norm=norm_vectors(2),
        is_parallel=lambda reader: reader.flag("parallel_attn"),
        **OLD_HEADS,
    ),
    "persimmon": Family(
        attention=fused_attention(
            "query_key_value", "dense", head_norm="head_and_bias", head_norm_flag="qk_layernorm"
        ),
        ffn=plain_ffn("dense_h_to_4h", "dense_4h_to_h"),
        defaults={**UNTIED, "qk_layernorm": True},
        **LAYER_NORMS,
        **OLD_HEADS,
    ),
    "phi": Family(  # one layer norm, attention and feed-forward side by side
        attention=separate_attention(
            qkv_bias=True,
            out_bias=True,
            output="dense",
            head_norm="head_and_bias",
            head_norm_flag="qk_layernorm",
        ),
        ffn=plain_ffn("fc1", "fc2"),
        defaults={**UNTIED, "qk_layernorm": False},
        norms=norm_vectors(2),
        final_norm=norm_vectors(2),
        head_bias=True,
        is_parallel=lambda reader: True,
    ),
    "stablelm": Family(
        attention=separate_attention(
            qkv_bias="use_qkv_bias", head_norm="width", head_norm_flag="qk_layernorm"
        ),
        ffn=gated_ffn(),
        defaults={
            **UNTIED,
            "use_qkv_bias": False,
            "qk_layernorm": False,
            "use_parallel_residual": False,
            "num_key_value_heads": 32,
        },
        norms=lambda reader: (2 if reader.flag("use_parallel_residual") else 4) * reader.hidden_size,
        final_norm=norm_vectors(2),
        is_parallel=lambda reader: reader.flag("use_parallel_residual"),
        has_head_dim=False,
    ),
    "starcoder2": Family(
        attention=separate_attention(qkv_bias="use_bias", out_bias="use_bias"),
        ffn=plain_ffn("c_fc", "c_proj", bias="use_bias"),
        defaults={**TIED, "use_bias": True, "num_key_value_heads": 2, "sliding_window": None},
        windows=window_everywhere,
        **LAYER_NORMS,
    ),
    "nemotron": Family(
        attention=separate_attention(qkv_bias="attention_bias", out_bias="attention_bias"),
        ffn=plain_ffn("up_proj", "down_proj", bias="mlp_bias"),
        defaults={**UNTIED, "attention_bias": False, "mlp_bias": False},
        **LAYER_NORMS,
    ),
    "jais2": Family(
        attention=separate_attention(qkv_bias="attention_bias", out_bias="attention_bias"),
        ffn=plain_ffn("up_proj", "down_proj", bias="mlp_bias"),
        defaults={**UNTIED, "attention_bias": True, "mlp_bias": True},
        **LAYER_NORMS,
    ),
}
