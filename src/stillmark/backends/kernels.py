"""Matrix products in float32 on CPUs, by the faster of the two libraries that PyTorch carries.

`torch.nn.functional.linear` uses MKL, which keeps to AVX2 on processors that are not Intel's. oneDNN, in the
same wheel, uses all that the processor has: 250 against 110 GFLOP/s on one core of an AMD EPYC (Zen 5), 576 by
1536 weights, 300 tokens. Which one is faster here is measured once a process; both are float32 throughout. Training
that goes on in another process does so bit for bit where the choice is the same, as it is where it is clear.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

MIN_TOKENS = 4
MIN_PRODUCTS = 1_500_000  # multiply-adds under which starting oneDNN costs more than it gains
ROUNDS = 9  # of about a millisecond a library
MIN_SPEEDUP = 1.3  # far from 1, so that noise does not change the choice (and the rounding) between runs


def onednn_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return result


@cache
def is_onednn_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices clearly faster than MKL on this machine."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    with torch.inference_mode():
        input, weight = torch.ones(256, 512), torch.ones(512, 512)
        try:
            mkl, onednn = _best_seconds_in_turns(
                lambda: nn.functional.linear(input, weight), lambda: onednn_linear(input, weight, None)
            )
        except (RuntimeError, TypeError):
            return False
        return mkl > MIN_SPEEDUP * onednn


def product(first_MK: torch.Tensor, second_KN: torch.Tensor) -> torch.Tensor:
    """first @ second, by the faster library, outside autograd. `first` lies by rows, else oneDNN copies it."""
    num_products = first_MK.numel() * second_KN.shape[1]
    is_plain = first_MK.device.type == "cpu" and first_MK.dtype == torch.float32
    if is_plain and num_products >= MIN_PRODUCTS and is_onednn_faster():
        return onednn_linear(first_MK, second_KN.T, None)
    return first_MK @ second_KN


@contextmanager
def faster_linears(model: nn.Module) -> Iterator[None]:
    """Within, the model's float32 linear layers on the CPU use the faster library, backwards too. Its weights are
    not copied.
    """
    linears = [module for module in model.modules() if _is_plain_linear(module)]
    if not linears or not is_onednn_faster():
        yield
        return
    try:
        for module in linears:
            module.forward = _forward_of(module)
        yield
    finally:
        for module in linears:
            module.__dict__.pop("forward", None)


def _is_plain_linear(module: nn.Module) -> bool:
    """A linear layer as it is, whose `forward` nobody else (such as accelerate) has replaced."""
    return (
        type(module) is nn.Linear
        and "forward" not in module.__dict__
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
        and module.weight.is_contiguous()
    )


def _forward_of(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    num_weights, width = module.weight.numel(), module.weight.shape[1]

    def forward(input: torch.Tensor) -> torch.Tensor:
        weight, bias = module.weight, module.bias
        num_tokens = input.numel() // width
        is_small = num_tokens < MIN_TOKENS or num_tokens * num_weights < MIN_PRODUCTS
        if is_small or torch.is_autocast_enabled("cpu"):
            return nn.functional.linear(input, weight, bias)
        learners = (input, weight) if bias is None else (input, weight, bias)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in learners):
            output: torch.Tensor = _OneDnnLinear.apply(input, weight, bias)
            return output
        return onednn_linear(input, weight, bias)

    return forward


class _OneDnnLinear(torch.autograd.Function):  # type: ignore[misc]
    """`onednn_linear`, and its two products backwards by the same library."""

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        of_input, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(input if of_weight else None, weight if of_input else None)
        return onednn_linear(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            onednn_linear(gradient, weight.T, None) if of_input else None,
            onednn_linear(rows.T, input.reshape(-1, input.shape[-1]).T, None) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _best_seconds_in_turns(*functions: Callable[[], torch.Tensor]) -> list[float]:
    """Each one's best of several; in turns, so that a machine whose speed moves does not favour one."""
    best = [float("inf")] * len(functions)
    for _ in range(ROUNDS):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - start)
    return best
