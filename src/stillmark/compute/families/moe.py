"""Mixtures of experts: a router, experts of which a token visits a few, and sometimes some that all visit."""

from collections.abc import Callable
from typing import Any

from stillmark.compute.families.family import Family, norm_vectors
from stillmark.compute.families.llama import QWEN_WINDOWS, UNTIED, exaone4_slides
from stillmark.compute.families.parts import Bias, FfnPart, FfnReader, gated, has_bias, separate_attention
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.families.windows import (
    every_nth_is_full,
    no_windows,
    window_by_layer_types,
    window_everywhere,
)
from stillmark.compute.model_shape import Matmul
from stillmark.errors import UserError

Width = Callable[[ConfigReader], int]
IsDense = Callable[[ConfigReader, int], bool]


def experts(
    *,
    router: str = "gate",
    num: str = "num_experts",
    active: str = "num_experts_per_tok",
    width: str = "moe_intermediate_size",
    expert_bias: bool = False,
    shared_width: Width = lambda reader: 0,
    shared: str = "shared_experts.",
    shared_bias: Bias = False,
    shared_gate: str | None = None,
    is_dense: IsDense = lambda reader, layer: False,
    dense_bias: Bias = False,
    params_per_expert: int = 0,
) -> FfnReader:
    """Router, experts and shared experts; layers where `is_dense` have an ordinary gated feed-forward part.

    `shared_width` is the width of what every token visits besides, 0 for none; `shared_gate` names a gate on
    it. `params_per_expert` counts numbers that no matmul uses (a correction to the router's choice).
    """

    def read(reader: ConfigReader, layer: int) -> FfnPart:
        hidden = reader.hidden_size
        if is_dense(reader, layer):
            bias = has_bias(reader, dense_bias)
            return FfnPart(matmuls=gated(hidden, reader.size("intermediate_size"), bias=bias))
        copies, visited = reader.size(num), reader.size(active)
        if visited > copies:
            raise reader.wrong(active, visited, f"at most the {copies} experts")
        matmuls = [Matmul(name=router, inputs=hidden, outputs=copies, bias=expert_bias)]
        matmuls += gated(
            hidden,
            reader.size(width),
            bias=expert_bias,
            prefix="experts.",
            fused=True,
            copies=copies,
            active=visited,
        )
        common = shared_width(reader)
        if common:
            matmuls += gated(hidden, common, bias=has_bias(reader, shared_bias), prefix=shared)
        if common and shared_gate:
            matmuls.append(Matmul(name=shared_gate, inputs=hidden, outputs=1))
        return FfnPart(matmuls=tuple(matmuls), other_params=params_per_expert * copies)

    return read


def times(width: str, count: str) -> Width:
    """The width of `count` shared experts side by side; null is none."""

    def read(reader: ConfigReader) -> int:
        number = reader.get(count)
        return reader.size(width) * reader.size(count) if number else 0

    return read


def first_layers_dense(reader: ConfigReader, layer: int) -> bool:
    """DeepSeek and followers: the first `first_k_dense_replace` layers have no experts."""
    return layer < int(reader.get("first_k_dense_replace"))


def dense_by_layer_types(default_dense: IsDense) -> IsDense:
    """As `mlp_layer_types` says; where the config has none, as `default_dense`."""

    def is_dense(reader: ConfigReader, layer: int) -> bool:
        types = reader.get("mlp_layer_types") if reader.has("mlp_layer_types") else None
        if types is None:
            return default_dense(reader, layer)
        if set(types) - {"dense", "sparse"} or len(types) < reader.num_layers:
            raise reader.wrong(
                "mlp_layer_types", types, f"`dense` or `sparse` for {reader.num_layers} layers"
            )
        return bool(types[layer] == "dense")

    return is_dense


def qwen_dense(reader: ConfigReader, layer: int) -> bool:
    """Qwen: layers in `mlp_only_layers`, and those that `decoder_sparse_step` passes over."""
    listed = reader.get("mlp_only_layers") or []
    return layer in listed or (layer + 1) % reader.size("decoder_sparse_step") != 0


def ernie_dense(reader: ConfigReader, layer: int) -> bool:
    """Ernie 4.5: experts in every `moe_layer_interval`-th layer from the start to the end index."""
    last = int(reader.get("moe_layer_end_index"))
    last = reader.num_layers - 1 if last == -1 else last
    in_range = int(reader.get("moe_layer_start_index")) <= layer <= last
    return not (in_range and (layer + 1) % reader.size("moe_layer_interval") == 0)


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


def dots1_slides(reader: ConfigReader, layer: int) -> bool:
    return layer >= int(reader.get("max_window_layers"))


biased = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias")
normed = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias", head_norm="head")
normed_by_width = separate_attention(qkv_bias="attention_bias", out_bias="attention_bias", head_norm="width")
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
