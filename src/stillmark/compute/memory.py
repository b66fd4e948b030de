"""Memory that training and serving need on each device, by formula, in bytes.

Model states (ZeRO, arXiv:1910.02054, section 3.1): with Adam in mixed precision 2 + 2 + 12 bytes a parameter
for weights, gradients and optimizer; sharded over N devices by stage. Activations: what PyTorch keeps of a
transformers model between forward and backward. Each matmul keeps its input, a norm (computed in fp32) its
input in fp32 and its output twice, flash attention its queries, keys, values, output and one fp32 sum a
head, a gated feed-forward part its two projections, the activated gate and their product. For Llama this is
exact (tests compare it with what autograd saves); norms on queries and keys (Qwen3) are left out. Also left
out: the CUDA context, allocator fragmentation, communication buffers, and the gradient of the layer in work.
So a total is a lower bound, and a fit with little to spare may not fit.

`gpt_activation_bytes_per_layer` is Megatron's formula for GPT (arXiv:2205.05198), kept to check against.
"""

from dataclasses import dataclass
from enum import StrEnum

from stillmark.compute.flops import Recompute
from stillmark.compute.model_shape import ATTENTION_INPUT, FFN_INPUT, Layer, ModelShape
from stillmark.errors import UserError, did_you_mean

FP32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Bytes a parameter that each model state takes with AdamW, and a number in the forward pass."""

    name: str
    weights: int
    gradients: int
    optimizer: int
    compute: int

    @property
    def bytes_per_param(self) -> int:
        return self.weights + self.gradients + self.optimizer


PRECISIONS = {
    precision.name: precision
    for precision in (
        # DeepSpeed, Megatron, FSDP: 16-bit weights and gradients; fp32 master weights and two moments.
        Precision(name="mixed", weights=2, gradients=2, optimizer=12, compute=2),
        # torch.autocast: fp32 weights with a 16-bit copy, fp32 gradients and moments.
        Precision(name="autocast", weights=6, gradients=4, optimizer=8, compute=2),
        Precision(name="fp32", weights=4, gradients=4, optimizer=8, compute=4),
        # Everything in 16 bits: small updates are lost to rounding, but it is what fits.
        Precision(name="bf16", weights=2, gradients=2, optimizer=4, compute=2),
    )
}


def precision(name: str) -> Precision:
    """By name; a UserError with the possible ones."""
    if name not in PRECISIONS:
        raise UserError(
            f"unknown precision `{name}` (precisions: {', '.join(PRECISIONS)})",
            hint=did_you_mean(name, PRECISIONS),
        )
    return PRECISIONS[name]


class Sharding(StrEnum):
    """Which model states are divided over the devices; the others are held whole by each."""

    NONE = "none"  # plain data parallelism
    OPTIMIZER = "optimizer"  # ZeRO-1
    GRADIENTS = "gradients"  # ZeRO-2: optimizer and gradients
    FULL = "full"  # ZeRO-3, FSDP: the weights too


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes on one device while training. None where the model's shape is not known."""

    weights_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    gathered_bytes: float | None
    """Full sharding: two layers' whole weights (one in work, one under way) and one layer's whole
    gradient."""
    activations_bytes: float | None
    logits_bytes: float | None
    teacher_bytes: float = 0.0
    """Weights of a live teacher that scores on the same device, divided like the student's."""

    @property
    def states_bytes(self) -> float:
        return self.weights_bytes + self.gradients_bytes + self.optimizer_bytes

    @property
    def total_bytes(self) -> float | None:
        """All of it; None where a part is unknown. A lower bound: see the head of this file."""
        parts = (self.gathered_bytes, self.activations_bytes, self.logits_bytes)
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return self.states_bytes + self.teacher_bytes + sum(known)


def state_bytes(
    params: float,
    *,
    precision: Precision,
    sharding: Sharding = Sharding.NONE,
    num_devices: int = 1,
    trainable_params: float | None = None,
) -> tuple[float, float, float]:
    """(weights, gradients, optimizer) bytes on one device. Frozen parameters have neither of the last two."""
    trainable = params if trainable_params is None else trainable_params
    by_weights = num_devices if sharding is Sharding.FULL else 1
    by_gradients = num_devices if sharding in (Sharding.GRADIENTS, Sharding.FULL) else 1
    by_optimizer = 1 if sharding is Sharding.NONE else num_devices
    return (
        precision.weights * params / by_weights,
        precision.gradients * trainable / by_gradients,
        precision.optimizer * trainable / by_optimizer,
    )


def training_memory(
    params: float,
    *,
    precision: Precision,
    shape: ModelShape | None = None,
    sequence_tokens: int,
    sequences: int = 1,
    recompute: Recompute = Recompute.NONE,
    sharding: Sharding = Sharding.NONE,
    num_devices: int = 1,
    trainable_params: float | None = None,
    teacher_params: float = 0.0,
    teacher_logits: bool = False,
    logits_chunk_tokens: int | None = None,
) -> TrainingMemory:
    """Bytes on one device for a micro-batch of `sequences` on it.

    `logits_chunk_tokens`: the loss sees that many tokens at once (a chunked or fused loss); default all.
    """
    weights, gradients, optimizer = state_bytes(
        params,
        precision=precision,
        sharding=sharding,
        num_devices=num_devices,
        trainable_params=trainable_params,
    )
    is_full = sharding is Sharding.FULL and num_devices > 1
    tokens = sequence_tokens * sequences
    return TrainingMemory(
        weights_bytes=weights,
        gradients_bytes=gradients,
        optimizer_bytes=optimizer,
        gathered_bytes=gathered_bytes(shape, precision) if is_full else 0.0,
        activations_bytes=None
        if shape is None
        else float(
            activation_bytes(
                shape,
                sequence_tokens=sequence_tokens,
                sequences=sequences,
                compute_bytes=precision.compute,
                recompute=recompute,
            )
        ),
        logits_bytes=None
        if shape is None
        else float(
            logits_bytes(
                vocab_size=shape.vocab_size,
                tokens=min(tokens, logits_chunk_tokens or tokens),
                compute_bytes=precision.compute,
                teacher=teacher_logits,
            )
        ),
        teacher_bytes=precision.compute * teacher_params / (num_devices if is_full else 1),
    )


def gathered_bytes(shape: ModelShape | None, precision: Precision) -> float | None:
    """Whole weights of two layers and the whole gradient of one, in the forward pass's format."""
    if shape is None:
        return None
    return 3.0 * precision.compute * max(layer.params for layer in shape.layers)


def activation_bytes(
    shape: ModelShape,
    *,
    sequence_tokens: int,
    sequences: int = 1,
    compute_bytes: int = 2,
    recompute: Recompute = Recompute.NONE,
) -> int:
    """Bytes kept for the backward pass, logits apart.

    Recomputing layers keeps each layer's input (2·s·b·h in 16 bits, as Megatron's full recomputation) and
    all of one layer at a time. With flash attention no scores are kept, so recomputing attention keeps
    nothing less.
    """
    tokens = sequence_tokens * sequences
    each = [layer_bytes_per_token(layer, shape.hidden_size, compute_bytes) for layer in shape.layers]
    kept = sum(each)
    if recompute is Recompute.LAYERS:
        kept = len(each) * shape.hidden_size * compute_bytes + max(each)
    return tokens * (kept + norm_bytes_per_token(shape.hidden_size, compute_bytes))


def norm_bytes_per_token(width: int, compute_bytes: int) -> int:
    """RMS norm as transformers writes it: its input in fp32, 1/rms, the normed value and the scaled one."""
    return width * (FP32_BYTES + 2 * compute_bytes) + FP32_BYTES


def layer_bytes_per_token(layer: Layer, hidden_size: int, compute_bytes: int) -> int:
    """Two norms, whose outputs are the inputs of the first matmuls; attention; feed-forward."""
    attention = layer.attention
    norms = (1 if layer.is_parallel else 2) * norm_bytes_per_token(hidden_size, compute_bytes)
    queries = attention.num_heads * attention.key_size
    keys_values = attention.num_kv_heads * (attention.key_size + attention.value_size)
    output = attention.num_heads * attention.value_size
    sums = FP32_BYTES * attention.num_heads
    kept = compute_bytes * (queries + keys_values + output) + sums
    return norms + kept + compute_bytes * _feed_forward_numbers_per_token(layer)


def _feed_forward_numbers_per_token(layer: Layer) -> int:
    """What the matmuls after the first of a feed-forward part keep: their input and what it was made of.

    A matmul that reads two others (gate and up) keeps both, the activated gate and the product: 4 widths.
    One that reads one other keeps it before and after the activation: 2 widths. Experts: as often as a token
    visits them.
    """
    numbers = 0
    for matmul in layer.matmuls:
        made_of = [name for name in matmul.reads if name not in (ATTENTION_INPUT, FFN_INPUT)]
        is_feed_forward = any(other.name in made_of and FFN_INPUT in other.reads for other in layer.matmuls)
        if is_feed_forward:
            widths = 4 if len(made_of) > 1 else 2
            numbers += matmul.active * widths * matmul.inputs
    return numbers


def logits_bytes(*, vocab_size: int, tokens: int, compute_bytes: int = 2, teacher: bool = False) -> int:
    """At the loss: the logits, their log-probabilities in fp32 and the fp32 gradient; with a teacher, its
    logits and log-probabilities too."""
    each = compute_bytes + 2 * FP32_BYTES
    if teacher:
        each += compute_bytes + FP32_BYTES
    return tokens * vocab_size * each


def serving_bytes(
    params: float,
    *,
    shape: ModelShape | None,
    context_tokens: int,
    sequences: int = 1,
    weight_bytes: float = 2.0,
    cache_bytes: int = 2,
) -> float | None:
    """Weights and the KV cache of `sequences` full contexts; None where the shape is not known."""
    if shape is None:
        return None
    return params * weight_bytes + sequences * cache_bytes * shape.cached_values(context_tokens)


def gpt_activation_bytes_per_layer(
    *,
    sequence_tokens: int,
    sequences: int,
    hidden_size: int,
    num_heads: int,
    tensor_parallel: int = 1,
    sequence_parallel: bool = False,
    recompute: Recompute = Recompute.NONE,
) -> float:
    """Megatron's GPT layer in 16 bits with dropout (Korthikanti et al., arXiv:2205.05198, equations 1 to 4).

    s·b·h·(34 + 5·a·s/h): tensor parallelism divides 24 of the 34 and the 5·a·s/h, with sequence parallelism
    all.
    """
    s, b, h, a, t = sequence_tokens, sequences, hidden_size, num_heads, tensor_parallel
    if recompute is Recompute.LAYERS:
        return 2 * s * b * h
    scores = 0.0 if recompute is Recompute.ATTENTION else 5 * a * s / h
    undivided = 10 / t if sequence_parallel else 10
    return s * b * h * (undivided + (24 + scores) / t)
