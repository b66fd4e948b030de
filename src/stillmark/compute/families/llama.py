"""Llama and its relatives: separate query, key, value and output matrices, no learned positions."""

from stillmark.compute.families.family import Family, norm_vectors
from stillmark.compute.families.parts import fused_attention, gated_ffn, plain_ffn, separate_attention
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.families.windows import (
    window_everywhere,
)

UNTIED = {"tie_word_embeddings": False}
NO_BIAS = {"attention_bias": False, "mlp_bias": False}

biased = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias")
unbiased = separate_attention()
normed = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias", head_norm="head")
normed_by_width = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias", head_norm="width")
biased_ffn = gated_ffn(bias="mlp_bias")


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
    "hunyuan_v1_dense": Family(
        attention=normed, ffn=gated_ffn(), defaults={**UNTIED, "attention_bias": False}
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
}
