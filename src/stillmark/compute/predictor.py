"""What a device of the table would do with this model: TTFT, decode rate, whether it fits. Predicted, not measured.

    decode step = k_weights · weight bytes / bandwidth + k_cache · KV bytes / bandwidth
    prefill     = max(k_matmul · matmul FLOPs / peak + k_attention · attention FLOPs / peak, one decode step)

With every k = 1 that is the roofline: no engine is faster on that device (up to what its caches hold). The
slowdowns k are fitted to what an engine reached where it was measured (`fitted`), and taken over to the other
device: that engine and weight format are assumed to come as near to its ceilings. That holds within a family
of processors and is a guess across them; benchmarks/predictor.md has the error on one machine. What is unknown
of the device stays unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillmark.compute.flops import prefill_flops
from stillmark.compute.hardware import Device
from stillmark.compute.inference import ModelFacts, Workload, work_of

PEAK_FORMATS = {"gpu": ("bf16", "fp16", "fp32"), "accelerator": ("bf16", "fp16", "fp32")}
OTHER_FORMATS = ("fp32", "fp16", "bf16")  # a CPU's, board's or phone's engine computes in float32 or int8
MEMORY_SHARE = 0.9  # what a system with a display and services leaves


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A device's ceilings; None where unknown."""

    name: str
    flops_per_second: float | None
    bytes_per_second: float | None
    memory_bytes: float | None
    flops_format: str | None = None

    @classmethod
    def of_device(cls, device: Device) -> "Limits":
        formats = PEAK_FORMATS.get(device.kind, OTHER_FORMATS)
        known = next((name for name in formats if device.peak_flops_per_second(name) is not None), None)
        return cls(
            name=device.name,
            flops_per_second=device.peak_flops_per_second(known) if known else None,
            bytes_per_second=device.memory_bandwidth_bytes_per_second,
            memory_bytes=device.memory_bytes,
            flops_format=known,
        )


@dataclass(frozen=True, kw_only=True)
class Slowdown:
    """How many times longer than its ceiling allows each part takes; 1 is the roofline."""

    weights: float = 1.0
    cache: float = 1.0
    matmul: float = 1.0
    attention: float = 1.0
    source: str = "roofline: no engine is faster"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What was measured of one model on one workload."""

    facts: ModelFacts
    workload: Workload
    ttft_seconds: float
    tpot_seconds: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Estimated from ceilings; None where a ceiling or the model's shape is unknown."""

    device: str
    ttft_seconds: float | None
    decode_tokens_per_second: float | None
    memory_bytes: float | None
    """Weights and KV cache, without the engine's own work space."""
    does_fit: bool | None
    assumption: str
    method: str = "estimated"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What one workload asks of a device, whatever the device; None where the model's shape or sizes are unknown."""

    batch: int
    new_tokens: int
    memory_bytes: float | None
    """Weights and KV cache."""
    weight_bytes: float | None
    """Read by one decode step."""
    cache_bytes: float | None
    """Read by one decode step of the whole batch, at the mean context."""
    matmul_flops: float | None
    """Of reading the prompts."""
    attention_flops: float | None
    step_flops: float | None

    @classmethod
    def of(cls, facts: ModelFacts, workload: Workload) -> "Needs":
        weights, cache = bytes_of_step(facts, workload)
        matmul, attention = flops_of_prefill(facts, workload)
        return cls(
            batch=workload.batch,
            new_tokens=workload.new_tokens,
            memory_bytes=memory_needed(facts, workload),
            weight_bytes=weights,
            cache_bytes=cache,
            matmul_flops=matmul,
            attention_flops=attention,
            step_flops=work_of(facts, workload).decode_flops_per_step,
        )


def predict(
    facts: ModelFacts, workload: Workload, limits: Limits, slowdown: Slowdown | None = None
) -> Prediction:
    """One model and workload on one device."""
    slowdown = slowdown or Slowdown()
    needs = Needs.of(facts, workload)
    step = step_seconds(needs, limits, slowdown)
    return Prediction(
        device=limits.name,
        ttft_seconds=prefill_seconds(needs, limits, slowdown),
        decode_tokens_per_second=workload.batch / step if step else None,
        memory_bytes=needs.memory_bytes,
        does_fit=does_fit(needs, limits),
        assumption=f"{slowdown.source}; peak in {limits.flops_format or 'no known format'}",
    )


def does_fit(needs: Needs, limits: Limits) -> bool | None:
    if needs.memory_bytes is None or limits.memory_bytes is None:
        return None
    return needs.memory_bytes <= MEMORY_SHARE * limits.memory_bytes


def step_seconds(needs: Needs, limits: Limits, slowdown: Slowdown) -> float | None:
    """One decode step of the whole batch at the mean context; the compute side where it is the slower one."""
    if needs.weight_bytes is None or needs.cache_bytes is None or limits.bytes_per_second is None:
        return None
    read = slowdown.weights * needs.weight_bytes + slowdown.cache * needs.cache_bytes
    seconds = read / limits.bytes_per_second
    if needs.step_flops is None or limits.flops_per_second is None:
        return seconds
    return max(seconds, slowdown.matmul * needs.step_flops / limits.flops_per_second)


def prefill_seconds(needs: Needs, limits: Limits, slowdown: Slowdown) -> float | None:
    """Reading the prompts: compute, or at least one pass over the weights."""
    if needs.matmul_flops is None or needs.attention_flops is None or needs.weight_bytes is None:
        return None
    if limits.flops_per_second is None or limits.bytes_per_second is None:
        return None
    flops = slowdown.matmul * needs.matmul_flops + slowdown.attention * needs.attention_flops
    return max(
        flops / limits.flops_per_second, slowdown.weights * needs.weight_bytes / limits.bytes_per_second
    )


def answer_seconds(needs: Needs, limits: Limits, slowdown: Slowdown) -> float | None:
    """From the prompt to the last token: reading it gives the first token, each other one takes a step."""
    prefill, step = prefill_seconds(needs, limits, slowdown), step_seconds(needs, limits, slowdown)
    return None if prefill is None or step is None else prefill + (needs.new_tokens - 1) * step


def memory_needed(facts: ModelFacts, workload: Workload) -> float | None:
    cache = facts.cache_bytes(workload.context_tokens, workload.batch)
    return None if cache is None or facts.file_bytes is None else facts.file_bytes + cache


def bytes_of_step(facts: ModelFacts, workload: Workload) -> tuple[float | None, float | None]:
    """(weights, KV cache) read by one decode step."""
    whole, weights = work_of(facts, workload).decode_bytes_per_step, facts.weight_bytes_per_token
    return weights, (None if whole is None or weights is None else whole - weights)


def flops_of_prefill(facts: ModelFacts, workload: Workload) -> tuple[float | None, float | None]:
    """(matmul, attention) of the whole batch."""
    if facts.shape is None:
        return None, None
    prompt = workload.prompt_tokens
    head = facts.shape.head.matmul_params
    matmul = workload.batch * 2.0 * (prompt * facts.shape.inner_matmul_params + head)
    return matmul, workload.batch * prefill_flops(facts.shape, prompt_tokens=prompt) - matmul


def fitted(observations: Sequence[Observation], limits: Limits, source: str) -> Slowdown | None:
    """Slowdowns that fit best, in relative error and never negative; None where a ceiling is unknown.

    With one observation each pair shares one slowdown: two cannot be told apart from one number.
    """
    if not observations or limits.flops_per_second is None or limits.bytes_per_second is None:
        return None
    prefill, decode = [], []
    for seen in observations:
        matmul, attention = flops_of_prefill(seen.facts, seen.workload)
        weights, cache = bytes_of_step(seen.facts, seen.workload)
        if None in (matmul, attention, weights, cache):
            return None
        prefill.append([(value or 0.0) / limits.flops_per_second for value in (matmul, attention)])
        decode.append([(value or 0.0) / limits.bytes_per_second for value in (weights, cache)])
    k_matmul, k_attention = _least(prefill, [seen.ttft_seconds for seen in observations])
    k_weights, k_cache = _least(decode, [seen.tpot_seconds for seen in observations])
    return Slowdown(weights=k_weights, cache=k_cache, matmul=k_matmul, attention=k_attention, source=source)


def _least(parts: list[list[float]], seconds: list[float]) -> tuple[float, float]:
    """Non-negative least squares of the relative error."""
    from scipy.optimize import nnls

    if len(seconds) == 1:
        shared = seconds[0] / sum(parts[0])
        return shared, shared
    rows = np.asarray(parts) / np.asarray(seconds)[:, None]
    solution, _ = nnls(rows, np.ones(len(seconds)))
    return float(solution[0]), float(solution[1])
