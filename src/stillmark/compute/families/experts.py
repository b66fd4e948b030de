"""The feed-forward part of a mixture of experts, and the rules for which layers have one."""

from collections.abc import Callable

from stillmark.compute.families.parts import Bias, FfnPart, FfnReader, gated, has_bias
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.model_shape import Matmul

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
