"""Llama and its relatives: separate query, key, value and output projections, a gated feed-forward part, RMS norms."""

from collections.abc import Callable, Mapping
from typing import Any

from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.model_shape import (
    ATTENTION_INPUT,
    ATTENTION_OUTPUT,
    Attention,
    Layer,
    Matmul,
    ModelShape,
)

DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False},
    "mistral": {"tie_word_embeddings": False, "sliding_window": 4096, "num_key_value_heads": 8},
    "qwen2": {
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "num_key_value_heads": 32,
    },
    "qwen3": {
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "attention_bias": False,
    },
}


def llama_shape(config: Mapping[str, Any]) -> ModelShape:
    reader = ConfigReader(config, DEFAULTS[str(config["model_type"])])
    hidden, heads = reader.size("hidden_size"), reader.size("num_attention_heads")
    head_size = reader.size_or(hidden // heads, "head_dim")
    kv_heads = reader.size_or(heads, "num_key_value_heads")
    has_bias = bool(config.get("attention_bias", False))
    qkv_bias = has_bias or reader.model_type == "qwen2"
    ffn_bias = bool(config.get("mlp_bias", False)) and reader.model_type == "llama"
    ffn = reader.size("intermediate_size")
    matmuls = (
        Matmul(
            name="q_proj", inputs=hidden, outputs=heads * head_size, reads=(ATTENTION_INPUT,), bias=qkv_bias
        ),
        Matmul(
            name="k_proj",
            inputs=hidden,
            outputs=kv_heads * head_size,
            reads=(ATTENTION_INPUT,),
            bias=qkv_bias,
        ),
        Matmul(
            name="v_proj",
            inputs=hidden,
            outputs=kv_heads * head_size,
            reads=(ATTENTION_INPUT,),
            bias=qkv_bias,
        ),
        Matmul(
            name="o_proj", inputs=heads * head_size, outputs=hidden, reads=(ATTENTION_OUTPUT,), bias=has_bias
        ),
        Matmul(name="gate_proj", inputs=hidden, outputs=ffn, bias=ffn_bias),
        Matmul(name="up_proj", inputs=hidden, outputs=ffn, bias=ffn_bias),
        Matmul(name="down_proj", inputs=ffn, outputs=hidden, reads=("gate_proj", "up_proj"), bias=ffn_bias),
    )
    norms = 2 * hidden + (2 * head_size if reader.model_type == "qwen3" else 0)
    layers = tuple(
        Layer(
            matmuls=matmuls,
            attention=Attention(
                num_heads=heads,
                num_kv_heads=kv_heads,
                key_size=head_size,
                value_size=head_size,
                query="q_proj",
                key="k_proj",
                value="v_proj",
                window=window,
            ),
            other_params=norms,
        )
        for window in windows(reader)
    )
    vocab = reader.size("vocab_size")
    return ModelShape(
        model_type=reader.model_type,
        hidden_size=hidden,
        vocab_size=vocab,
        layers=layers,
        head=Matmul(name="lm_head", inputs=hidden, outputs=vocab),
        is_tied=reader.flag("tie_word_embeddings"),
        embedding_size=hidden,
        other_params=hidden,
    )


def windows(reader: ConfigReader) -> list[int | None]:
    num_layers = reader.size("num_hidden_layers")
    if reader.model_type == "llama":
        return [None] * num_layers
    window = reader.get("sliding_window")
    if reader.model_type == "mistral":
        return [window] * num_layers
    layer_types = reader.config.get("layer_types")
    if layer_types is None:
        first = reader.size("max_window_layers")
        slides = reader.flag("use_sliding_window") and window is not None
        layer_types = [
            "sliding_attention" if slides and i >= first else "full_attention" for i in range(num_layers)
        ]
    return [window if kind == "sliding_attention" else None for kind in layer_types]


LLAMA_LIKE: dict[str, Callable[[Mapping[str, Any]], ModelShape]] = dict.fromkeys(DEFAULTS, llama_shape)
