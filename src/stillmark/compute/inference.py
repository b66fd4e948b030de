"""A model as an engine holds it, fixed work for it, and what that work has to compute and to read, by formula."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stillmark.compute.flops import decode_flops, prefill_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.compute.shapes import shape_from_config
from stillmark.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Fixed work: `batch` prompts of `prompt_tokens` made-up tokens, `new_tokens` written for each, greedy.

    The end token is ignored, so that every repetition does the same work. Prompts differ between repetitions
    (`variant`), so that no cache can answer.
    """

    prompt_tokens: int
    new_tokens: int
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "new_tokens", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 1 or more")

    @property
    def context_tokens(self) -> int:
        """Positions that one sequence takes in the KV cache at the end."""
        return self.prompt_tokens + self.new_tokens

    @property
    def label(self) -> str:
        batch = f" x{self.batch}" if self.batch > 1 else ""
        return f"{self.prompt_tokens}+{self.new_tokens}{batch}"

    def prompts(self, vocab_size: int, variant: int) -> list[list[int]]:
        """Token ids by a fixed rule: as good as random for speed, the same on every machine."""
        usable = max(vocab_size - 256, 1)  # the first ids are control tokens in most vocabularies
        first = min(256, vocab_size - 1)
        return [
            [first + (7919 * (position + 1) * (row + 1) + 104729 * variant) % usable
             for position in range(self.prompt_tokens)]
            for row in range(self.batch)
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of the model as the engine holds it; None where it is not."""

    name: str
    engine: str
    engine_version: str | None = None
    file_bytes: int | None = None
    """Size on disk of the weights."""
    weight_bytes_per_token: float | None = None
    """Weight bytes that one decode step has to read: matmul weights as stored, the embedding look-up not."""
    weight_format: str | None = None
    cache_bytes_per_value: float | None = None
    config: dict[str, Any] | None = None
    """The Hugging Face config that describes the same matrices."""
    vocab_size: int | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def shape(self) -> ModelShape | None:
        """For FLOPs and the KV cache; None where no formula was checked for this architecture."""
        if self.config is None:
            return None
        try:
            return shape_from_config(self.config)
        except (UserError, KeyError):
            return None

    def cache_bytes(self, context_tokens: int, batch: int = 1) -> float | None:
        """The KV cache of `batch` sequences, by formula."""
        if self.shape is None or self.cache_bytes_per_value is None:
            return None
        return batch * self.cache_bytes_per_value * self.shape.cached_values(context_tokens)


@dataclass(frozen=True, kw_only=True)
class InferenceWork:
    """What one repetition has to compute and to read, by formula; None where the shape or sizes are unknown."""

    prefill_flops: float | None
    decode_flops_per_step: float | None
    """Of the whole batch."""
    prefill_bytes: float | None
    decode_bytes_per_step: float | None


def work_of(facts: ModelFacts, workload: Workload) -> InferenceWork:
    """Weights are read once a step for the whole batch; each sequence reads its own keys and values."""
    shape, batch = facts.shape, workload.batch
    steps = workload.new_tokens - 1
    flops_prefill = flops_step = None
    if shape is not None:
        flops_prefill = float(batch * prefill_flops(shape, prompt_tokens=workload.prompt_tokens))
        if steps:
            whole = decode_flops(shape, prompt_tokens=workload.prompt_tokens, new_tokens=workload.new_tokens)
            flops_step = batch * whole / steps
    mean_context = round(workload.prompt_tokens + (steps + 1) / 2)
    cache = facts.cache_bytes(mean_context, batch)
    weights = facts.weight_bytes_per_token
    return InferenceWork(
        prefill_flops=flops_prefill,
        decode_flops_per_step=flops_step,
        prefill_bytes=weights,
        decode_bytes_per_step=None if weights is None or cache is None else weights + cache,
    )
