"""The parts that architectures are put together from: attention, feed-forward, windows.

Each function here is given what differs between architectures and returns a reader of a config. A bias is
either fixed by the architecture (True, False) or named by a flag of its config (a string).
"""

from collections.abc import Callable
from dataclasses import dataclass

from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.model_shape import (
    ATTENTION_INPUT,
    ATTENTION_OUTPUT,
    FFN_INPUT,
    Attention,
    Matmul,
)

Bias = bool | str


@dataclass(frozen=True, kw_only=True)
class AttentionPart:
    """One layer's attention with its matrices and the weights of norms within it."""

    matmuls: tuple[Matmul, ...]
    attention: Attention
    other_params: int = 0


@dataclass(frozen=True, kw_only=True)
class FfnPart:
    """One layer's feed-forward part."""

    matmuls: tuple[Matmul, ...]
    other_params: int = 0


AttentionReader = Callable[[ConfigReader, int | None], AttentionPart]
FfnReader = Callable[[ConfigReader, int], FfnPart]


def has_bias(reader: ConfigReader, bias: Bias) -> bool:
    return bias if isinstance(bias, bool) else reader.flag(bias)


def head_norm_params(
    reader: ConfigReader, kind: str | None, head_size: int, heads: int, kv_heads: int
) -> int:
    """Weights of the norms on queries and keys, by kind.

    `head`: one vector of the head size for all heads. `head_and_bias`: the same with a bias. `width`: one
    weight for each number of each head. None: no norm, or one without weights.
    """
    if kind is None:
        return 0
    if kind == "width":
        return (heads + kv_heads) * head_size
    return 2 * head_size * (2 if kind == "head_and_bias" else 1)


def separate_attention(
    *,
    qkv_bias: Bias = False,
    out_bias: Bias = False,
    output: str = "o_proj",
    names: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj"),
    head_norm: str | None = None,
    head_norm_flag: str | None = None,
    extra_params: Callable[[ConfigReader], int] = lambda reader: 0,
) -> AttentionReader:
    """Query, key, value and output each with a matrix; grouped-query where there are fewer KV heads."""

    def read(reader: ConfigReader, window: int | None) -> AttentionPart:
        hidden, size = reader.hidden_size, reader.head_size
        heads, kv_heads = reader.num_heads, reader.num_kv_heads
        bias = has_bias(reader, qkv_bias)
        query, key, value = names
        matmuls = tuple(
            Matmul(name=name, inputs=hidden, outputs=count * size, reads=(ATTENTION_INPUT,), bias=bias)
            for name, count in [(query, heads), (key, kv_heads), (value, kv_heads)]
        )
        out = Matmul(
            name=output,
            inputs=heads * size,
            outputs=hidden,
            reads=(ATTENTION_OUTPUT,),
            bias=has_bias(reader, out_bias),
        )
        normed = head_norm if head_norm_flag is None or reader.flag(head_norm_flag) else None
        return AttentionPart(
            matmuls=(*matmuls, out),
            attention=Attention(
                num_heads=heads,
                num_kv_heads=kv_heads,
                key_size=size,
                value_size=size,
                query=query,
                key=key,
                value=value,
                window=window,
            ),
            other_params=head_norm_params(reader, normed, size, heads, kv_heads) + extra_params(reader),
        )

    return read


def fused_attention(
    name: str,
    output: str,
    *,
    qkv_bias: Bias = True,
    out_bias: Bias = True,
    head_norm: str | None = None,
    head_norm_flag: str | None = None,
    kv_heads_of: Callable[[ConfigReader], int] = lambda reader: reader.num_kv_heads,
) -> AttentionReader:
    """Query, key and value from one matrix."""

    def read(reader: ConfigReader, window: int | None) -> AttentionPart:
        hidden, size = reader.hidden_size, reader.head_size
        heads, kv_heads = reader.num_heads, kv_heads_of(reader)
        fused = Matmul(
            name=name,
            inputs=hidden,
            outputs=(heads + 2 * kv_heads) * size,
            reads=(ATTENTION_INPUT,),
            bias=has_bias(reader, qkv_bias),
        )
        out = Matmul(
            name=output,
            inputs=heads * size,
            outputs=hidden,
            reads=(ATTENTION_OUTPUT,),
            bias=has_bias(reader, out_bias),
        )
        normed = head_norm if head_norm_flag is None or reader.flag(head_norm_flag) else None
        return AttentionPart(
            matmuls=(fused, out),
            attention=Attention(
                num_heads=heads,
                num_kv_heads=kv_heads,
                key_size=size,
                value_size=size,
                query=name,
                key=name,
                value=name,
                window=window,
            ),
            other_params=head_norm_params(reader, normed, size, heads, kv_heads),
        )

    return read


def gated(
    hidden: int,
    size: int,
    *,
    bias: bool = False,
    prefix: str = "",
    fused: bool = False,
    copies: int = 1,
    active: int = 1,
) -> tuple[Matmul, ...]:
    """down(act(gate(x)) · up(x)): three matrices, the first two in one where `fused`."""

    def matmul(name: str, inputs: int, outputs: int, *reads: str) -> Matmul:
        return Matmul(
            name=prefix + name,
            inputs=inputs,
            outputs=outputs,
            reads=tuple(prefix + read for read in reads) or (FFN_INPUT,),
            bias=bias,
            copies=copies,
            active=active,
        )

    if fused:
        return (
            matmul("gate_up_proj", hidden, 2 * size),
            matmul("down_proj", size, hidden, "gate_up_proj"),
        )
    return (
        matmul("gate_proj", hidden, size),
        matmul("up_proj", hidden, size),
        matmul("down_proj", size, hidden, "gate_proj", "up_proj"),
    )


def gated_ffn(*, bias: Bias = False, fused: bool = False, size: str = "intermediate_size") -> FfnReader:
    """A gated feed-forward part in every layer."""

    def read(reader: ConfigReader, layer: int) -> FfnPart:
        width = reader.size(size)
        return FfnPart(matmuls=gated(reader.hidden_size, width, bias=has_bias(reader, bias), fused=fused))

    return read


def plain_ffn(
    up: str,
    down: str,
    *,
    bias: Bias = True,
    size: Callable[[ConfigReader], int] = lambda reader: reader.size("intermediate_size"),
    other_params: int = 0,
) -> FfnReader:
    """down(act(up(x))): two matrices, in every layer."""

    def read(reader: ConfigReader, layer: int) -> FfnPart:
        hidden, width, biased = reader.hidden_size, size(reader), has_bias(reader, bias)
        matmuls = (
            Matmul(name=up, inputs=hidden, outputs=width, reads=(FFN_INPUT,), bias=biased),
            Matmul(name=down, inputs=width, outputs=hidden, reads=(up,), bias=biased),
        )
        return FfnPart(matmuls=matmuls, other_params=other_params)

    return read
