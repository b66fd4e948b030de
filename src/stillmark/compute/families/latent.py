"""Multi-head latent attention: keys and values come from one compressed vector a token (DeepSeek-V2 and V3).

Counted as trained: each token's compressed vector is expanded once to the keys and values of all heads. In
decode an engine keeps the compressed vectors only, and either absorbs the expansion into query and output
(`ModelShape.with_latent_cache()`) or, as transformers 5, expands the whole context again at every step, which
is work of that implementation and not counted here.
"""

from typing import Any

from stillmark.compute.families.experts import dense_by_layer_types, experts, first_layers_dense, times
from stillmark.compute.families.family import Family
from stillmark.compute.families.llama import UNTIED
from stillmark.compute.families.parts import AttentionPart, gated_ffn
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.model_shape import ATTENTION_INPUT, ATTENTION_OUTPUT, Attention, Matmul


def latent_attention(reader: ConfigReader, window: int | None) -> AttentionPart:
    """Queries (compressed too where `q_lora_rank` is given), compressed key-values, a shared rotary key."""
    hidden, heads = reader.hidden_size, reader.num_heads
    plain, rotary = reader.size("qk_nope_head_dim"), reader.size("qk_rope_head_dim")
    value, rank = reader.size_or(hidden // heads, "v_head_dim"), reader.size("kv_lora_rank")
    key, bias = plain + rotary, reader.flag("attention_bias")
    query_rank = None if reader.get("q_lora_rank") is None else reader.size("q_lora_rank")
    if query_rank is None:
        queries = [Matmul(name="q_proj", inputs=hidden, outputs=heads * key, reads=(ATTENTION_INPUT,))]
    else:
        queries = [
            Matmul(name="q_a_proj", inputs=hidden, outputs=query_rank, reads=(ATTENTION_INPUT,), bias=bias),
            Matmul(name="q_b_proj", inputs=query_rank, outputs=heads * key, reads=("q_a_proj",)),
        ]
    down, up = "kv_a_proj_with_mqa", "kv_b_proj"
    matmuls = (
        *queries,
        Matmul(name=down, inputs=hidden, outputs=rank + rotary, reads=(ATTENTION_INPUT,), bias=bias),
        Matmul(name=up, inputs=rank, outputs=heads * (plain + value), reads=(down,)),
        Matmul(name="o_proj", inputs=heads * value, outputs=hidden, reads=(ATTENTION_OUTPUT,), bias=bias),
    )
    attention = Attention(
        num_heads=heads,
        num_kv_heads=heads,
        key_size=key,
        value_size=value,
        query=queries[-1].name,
        key=up,
        value=up,
        window=window,
        latent=(rank, rotary),
        cached_size=rank + rotary,
    )
    return AttentionPart(matmuls=matmuls, attention=attention, other_params=rank + (query_rank or 0))


def experts_in_every_layer(reader: ConfigReader) -> None:
    """DeepSeek's own config.json has `moe_layer_freq`: 1 in all released models."""
    reader.allow("moe_layer_freq", 1)


DEEPSEEK: dict[str, Any] = {
    **UNTIED,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "attention_bias": False,
}

FAMILIES: dict[str, Family] = {
    "deepseek_v2": Family(
        attention=latent_attention,
        ffn=experts(
            num="n_routed_experts",
            shared_width=times("moe_intermediate_size", "n_shared_experts"),
            shared_bias="mlp_bias",
            is_dense=first_layers_dense,
            dense_bias="mlp_bias",
        ),
        defaults={
            **DEEPSEEK,
            "mlp_bias": False,
            "first_k_dense_replace": 0,
            "moe_intermediate_size": 1407,
            "n_routed_experts": 64,
            "n_shared_experts": 2,
        },
        aliases={"n_routed_experts": "num_experts"},
        check=experts_in_every_layer,
    ),
    "deepseek_v3": Family(
        attention=latent_attention,
        ffn=experts(
            num="n_routed_experts",
            shared_width=times("moe_intermediate_size", "n_shared_experts"),
            is_dense=first_layers_dense,
        ),
        defaults={
            **DEEPSEEK,
            "first_k_dense_replace": 3,
            "moe_intermediate_size": 2048,
            "n_routed_experts": 256,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
        },
        aliases={"n_routed_experts": "num_local_experts"},
        check=experts_in_every_layer,
    ),
    "glm4_moe_lite": Family(
        attention=latent_attention,
        ffn=experts(
            num="n_routed_experts",
            shared_width=times("moe_intermediate_size", "n_shared_experts"),
            is_dense=dense_by_layer_types(lambda reader, layer: layer == 0),
        ),
        defaults={
            **DEEPSEEK,
            "q_lora_rank": 768,
            "qk_nope_head_dim": 192,
            "v_head_dim": 256,
            "moe_intermediate_size": 1536,
            "n_routed_experts": 64,
            "n_shared_experts": 1,
            "num_experts_per_tok": 4,
        },
        aliases={"n_routed_experts": "num_local_experts", "qk_rope_head_dim": "head_dim"},
    ),
    "youtu": Family(
        attention=latent_attention,
        ffn=gated_ffn(),
        defaults={**DEEPSEEK, "tie_word_embeddings": True},
    ),
    "minicpm3": Family(
        attention=latent_attention,
        ffn=gated_ffn(bias="mlp_bias"),
        defaults={
            **DEEPSEEK,
            "tie_word_embeddings": True,
            "kv_lora_rank": 256,
            "q_lora_rank": 768,
            "qk_nope_head_dim": 64,
            "qk_rope_head_dim": 32,
            "v_head_dim": None,
            "mlp_bias": False,
        },
    ),
}
