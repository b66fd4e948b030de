"""fairseq's decoders in transformers (OPT, XGLM, BioGPT) and CTRL: separate matrices with biases, layer norms."""

from stillmark.compute.families.classic import (
    GPT_NAMES,
    LAYER_NORMS,
    OLD_HEADS,
    TIED,
    learned_positions,
    no_cross_attention,
    size,
)
from stillmark.compute.families.family import Family
from stillmark.compute.families.parts import plain_ffn, separate_attention
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.model_shape import Matmul


def opt_norms(reader: ConfigReader) -> int:
    return 4 * reader.hidden_size * reader.flag("layer_norm_elementwise_affine")


def opt_final_norm(reader: ConfigReader) -> int:
    """OPT: a last layer norm, but not after post-norm layers (350M)."""
    kept = reader.flag("do_layer_norm_before") and not reader.flag("_remove_final_layer_norm")
    return 2 * reader.hidden_size * (kept and reader.flag("layer_norm_elementwise_affine"))


def opt_embedding_size(reader: ConfigReader) -> int:
    return reader.size_or(reader.hidden_size, "word_embed_proj_dim")


def opt_projections(reader: ConfigReader) -> tuple[Matmul, ...]:
    """OPT-350m: the embedding is narrower than the layers."""
    inner, outer = reader.hidden_size, opt_embedding_size(reader)
    if inner == outer:
        return ()
    return (
        Matmul(name="project_in", inputs=outer, outputs=inner),
        Matmul(name="project_out", inputs=inner, outputs=outer),
    )


FAMILIES: dict[str, Family] = {
    "opt": Family(
        attention=separate_attention(qkv_bias="enable_bias", out_bias="enable_bias", output="out_proj"),
        ffn=plain_ffn("fc1", "fc2", bias="enable_bias", size=size("ffn_dim")),
        defaults={
            **TIED,
            "max_position_embeddings": 2048,
            "enable_bias": True,
            "layer_norm_elementwise_affine": True,
            "do_layer_norm_before": True,
            "_remove_final_layer_norm": False,
            "word_embed_proj_dim": None,
        },
        positions=learned_positions(2),
        norms=opt_norms,
        final_norm=opt_final_norm,
        embedding_size=opt_embedding_size,
        projections=opt_projections,
        has_input_norm=lambda reader: (
            reader.flag("do_layer_norm_before") and reader.flag("layer_norm_elementwise_affine")
        ),
        **OLD_HEADS,
    ),
    "biogpt": Family(
        attention=separate_attention(qkv_bias=True, out_bias=True, output="out_proj"),
        ffn=plain_ffn("fc1", "fc2"),
        defaults={**TIED, "max_position_embeddings": 1024},
        positions=learned_positions(2),
        **LAYER_NORMS,
        **OLD_HEADS,
    ),
    "xglm": Family(  # sinusoidal positions
        attention=separate_attention(qkv_bias=True, out_bias=True, output="out_proj"),
        ffn=plain_ffn("fc1", "fc2", size=size("ffn_dim")),
        defaults=TIED,
        aliases={
            "num_attention_heads": "attention_heads",
            "hidden_size": "d_model",
            "num_hidden_layers": "num_layers",
        },
        check=no_cross_attention,
        **LAYER_NORMS,
        **OLD_HEADS,
    ),
    "ctrl": Family(
        attention=separate_attention(qkv_bias=True, out_bias=True, output="dense", names=("Wq", "Wk", "Wv")),
        ffn=plain_ffn("ffn.0", "ffn.2", size=size("dff")),
        defaults=TIED,
        aliases=GPT_NAMES,
        head_bias=True,
        **LAYER_NORMS,
        **OLD_HEADS,
    ),
}
