"""Matrix products in float32 on CPUs, by the faster of the two libraries that PyTorch carries.

`torch.nn.functional.linear` uses MKL, which keeps to AVX2 on processors that are not Intel's. oneDNN, in the
same wheel, uses all that the processor has: 250 against 110 GFLOP/s on one core of an AMD EPYC (Zen 5), 576 by
1536 weights, 300 tokens. Which one is faster here is measured once a process; both are float32 throughout.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

MIN_TOKENS = 4
MIN_PRODUCTS = 1_500_000  # multiply-adds under which starting oneDNN costs more than it gains
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
            ours = _best_seconds(lambda: onednn_linear(input, weight, None))
        except (RuntimeError, TypeError):
            return False
        return _best_seconds(lambda: nn.functional.linear(input, weight)) > MIN_SPEEDUP * ours


@contextmanager
def faster_linears(model: nn.Module) -> Iterator[None]:
    """Within, the model's float32 linear layers on the CPU use the faster library. Its weights are not copied."""
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
    weight, bias = module.weight, module.bias
    width = weight.shape[1]

    def forward(input: torch.Tensor) -> torch.Tensor:
        num_tokens = input.numel() // width
        if num_tokens < MIN_TOKENS or num_tokens * weight.numel() < MIN_PRODUCTS:
            return nn.functional.linear(input, weight, bias)
        return onednn_linear(input, weight, bias)

    return forward


def _best_seconds(function: Callable[[], torch.Tensor]) -> float:
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best
