"""FLOPs of the backward pass, matrix by matrix: who needs a gradient, and what that costs.

A matmul y = W·x costs as much again for the gradient of x (if anything before it is trained) and as much
again for the gradient of W (if W is trained): with everything trained, backward is twice forward. With frozen
parts it is less: below the first trained part there is no backward at all, and above it frozen matrices pass
a gradient on without one of their own. This is what autograd does, and the tests hold it to that.
"""

from dataclasses import dataclass
from enum import StrEnum

from stillmark.compute.model_shape import (
    ATTENTION_INPUT,
    ATTENTION_OUTPUT,
    FFN_INPUT,
    Attention,
    Layer,
    Matmul,
    ModelShape,
)
from stillmark.errors import UserError


class Recompute(StrEnum):
    """What the backward pass computes a second time instead of keeping it."""

    NONE = "none"
    ATTENTION = "attention"  # scores and values only (Megatron's selective recomputation, arXiv:2205.05198)
    LAYERS = "layers"  # each layer's whole forward pass (gradient checkpointing); the head is kept
    LAYERS_BUT_LAST_PRODUCT = (
        "layers_but_last_product"  # torch's checkpoint(use_reentrant=False): it stops when
    )
    # all that the backward needs is there, and where nothing after a layer's last product keeps it, before that


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Parts that are not trained."""

    embedding: bool = False
    """The token and position tables and a norm on them (BLOOM); where the head is tied, the head too."""
    layers: int = 0
    """The first so many layers, norms included."""
    head: bool = False
    """The vocabulary head and the norm before it."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (arXiv:2106.09685): W·x + B·(A·x) with A of `rank` rows; all else is frozen."""

    rank: int
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of the matrices that get one, in every layer that has them, as in transformers and peft."""

    def adapts(self, matmul: Matmul) -> bool:
        """Whether this matrix is named: by its whole name or by its last part."""
        return matmul.name in self.targets or matmul.name.rpartition(".")[2] in self.targets

    def params_on(self, matmul: Matmul) -> int:
        """Weights of A and B on this matrix, none where it is not named."""
        return self.rank * (matmul.inputs + matmul.outputs) if self.adapts(matmul) else 0


def lora_params(shape: ModelShape, lora: Lora) -> int:
    """Trained parameters: rank · (inputs + outputs) for each adapted matrix."""
    check_lora(shape, lora)
    return sum(lora.params_on(m) for layer in shape.layers for m in layer.matmuls)


def check_lora(shape: ModelShape, lora: Lora) -> None:
    """Each target names a matrix, and in a mixture of experts one of the attention.

    transformers 5 stacks the experts and peft rewrites targets on them: no formula was checked for that.
    """
    matmuls = {m.name: m for layer in shape.layers for m in layer.matmuls}
    attention = {m.name for layer in shape.layers for m in layer.attention_matmuls}
    has_experts = any(m.copies > 1 for m in matmuls.values())
    if lora.rank < 1:
        raise UserError(f"LoRA rank {lora.rank} is not a whole number, 1 or more")
    for target in lora.targets:
        named = {m.name for m in matmuls.values() if Lora(rank=1, targets=(target,)).adapts(m)}
        if not named:
            raise UserError(
                f"LoRA target `{target}` names no matrix of this {shape.model_type}\n"
                f"matrices: {', '.join(matmuls)}"
            )
        if has_experts and not named <= attention:
            raise UserError(
                f"LoRA target `{target}` of this {shape.model_type} is beside stacked experts: not checked",
                hint=f"checked: {', '.join(sorted(attention))}",
            )


def backward_flops(
    shape: ModelShape,
    *,
    tokens: int,
    scored_tokens: int,
    frozen: Frozen,
    lora: Lora | None,
    recompute: Recompute,
) -> int:
    """The backward pass of one sequence, with what is recomputed in it."""
    check_frozen(shape, frozen)
    trains_embedding = lora is None and not frozen.embedding
    trains_last_norm = lora is None and not frozen.head
    trains_head = trains_last_norm and not (shape.is_tied and frozen.embedding)
    flops = 0
    stream = trains_embedding  # whether the residual stream needs a gradient here
    if shape.projections:
        flops += matmul_backward(shape.projections[0], tokens, stream, trains_embedding)
    for index, layer in enumerate(shape.layers):
        trains = lora is None and index >= frozen.layers
        layer_flops, stream = layer_backward(layer, tokens, stream, trains, lora)
        flops += layer_flops
        if stream:
            flops += recomputed_flops(layer, tokens, lora, recompute)
    if len(shape.projections) > 1:
        flops += matmul_backward(shape.projections[1], tokens, stream, trains_embedding)
        stream = stream or trains_embedding
    reads_gradient = stream or (trains_last_norm and shape.other_params > 0)
    return flops + matmul_backward(shape.head, scored_tokens, reads_gradient, trains_head)


def check_frozen(shape: ModelShape, frozen: Frozen) -> None:
    if not 0 <= frozen.layers <= shape.num_layers:
        raise UserError(f"frozen.layers={frozen.layers}, but the model has {shape.num_layers} layers")
    if shape.is_tied and frozen.head and not frozen.embedding:
        raise UserError("the head is tied to the embedding: it is frozen with it, or not at all")


def matmul_backward(matmul: Matmul, tokens: int, input_needs: bool, trains: bool) -> int:
    """Gradient of the input, if one is needed, and of the weights, if they are trained."""
    return 2 * tokens * matmul.matmul_params * (input_needs + trains)


def layer_backward(
    layer: Layer, tokens: int, stream: bool, trains: bool, lora: Lora | None
) -> tuple[int, bool]:
    """(FLOPs, whether the layer's output needs a gradient), given whether its input does."""
    flops = 0
    needs = {ATTENTION_INPUT: stream or (trains and layer.has_input_norm_weights)}
    attention_output = False
    for matmul in layer.matmuls:
        if ATTENTION_OUTPUT in matmul.reads:
            attention_flops, needs[ATTENTION_OUTPUT] = attention_backward(layer.attention, tokens, needs)
            flops += attention_flops
        if FFN_INPUT in matmul.reads:
            before = needs[ATTENTION_INPUT] if layer.is_parallel else stream or attention_output or trains
            needs[FFN_INPUT] = before
        input_needs = any(needs[name] for name in matmul.reads)
        flops += matmul_backward(matmul, tokens, input_needs, trains)
        adapted = lora is not None and lora.adapts(matmul)
        if lora is not None and adapted:
            flops += 2 * tokens * lora.rank * (matmul.inputs * (1 + input_needs) + 2 * matmul.outputs)
        needs[matmul.name] = input_needs or trains or adapted
        if ATTENTION_OUTPUT in matmul.reads:
            attention_output = needs[matmul.name]
    return flops, stream or attention_output or needs[layer.matmuls[-1].name]


def attention_backward(attention: Attention, tokens: int, needs: dict[str, bool]) -> tuple[int, bool]:
    """Scores = Q·K and output = P·V: each operand that needs a gradient costs one product more."""
    query, key, value = needs[attention.query], needs[attention.key], needs[attention.value]
    pairs = 2 * attention.num_heads * tokens * attention.keys_read(tokens)
    flops = pairs * (attention.key_size * (query + key) + attention.value_size * ((query or key) + value))
    return flops, query or key or value


def recomputed_flops(layer: Layer, tokens: int, lora: Lora | None, recompute: Recompute) -> int:
    """What one layer computes again in the backward pass."""
    if recompute is Recompute.NONE:
        return 0
    attention = layer.attention.flops(tokens, tokens)
    if recompute is Recompute.ATTENTION:
        return attention
    adapters = sum(lora.params_on(m) for m in layer.matmuls) if lora else 0
    weights = layer.matmul_params + adapters
    if recompute is Recompute.LAYERS_BUT_LAST_PRODUCT:
        last = layer.matmuls[-1]
        is_adapted = lora is not None and lora.adapts(last)
        weights -= lora.rank * last.outputs if lora and is_adapted else last.matmul_params
    return attention + 2 * tokens * weights
