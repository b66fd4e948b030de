"""What is asked of an engine and what it answers: the words that every file of profiling shares.

A `Timeline` keeps the arrival of every token, on one clock that starts when the request was scheduled. All
latencies are worked out from it (metrics.py), so no engine defines a metric of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

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
class Timeline:
    """One answered request. All seconds since the request was scheduled."""

    prompt_tokens: int
    token_seconds: tuple[float, ...]
    """When each generated token was there, reasoning tokens and the end token included."""
    end_seconds: float
    """When the caller had the whole answer."""
    first_answer_token: int | None = 0
    """Index of the first token that is not reasoning; None where the answer holds none."""
    engine_prefill_seconds: float | None = None
    """The engine's own time for the prompt, where it says it."""
    engine_decode_seconds: float | None = None
    """The engine's own time from the first token to the last, where it says it."""
    error: str | None = None
    text: str | None = None

    @property
    def new_tokens(self) -> int:
        return len(self.token_seconds)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All requests of one repetition, which were scheduled together."""

    timelines: tuple[Timeline, ...]
    cpu_seconds: float | None = None
    """CPU time of the engine's process over the repetition, all threads."""

    @property
    def wall_seconds(self) -> float:
        return max(timeline.end_seconds for timeline in self.timelines)


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
class EngineSpec:
    """Which engine runs which model, under what limits: one arm of a profile. Plain, so that it is a key."""

    engine: str
    model: str
    threads: int | None = None
    context_tokens: int = 2048
    """Positions for one sequence."""
    batch: int = 1
    options: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.threads else ""
        return f"{self.engine}{threads}"


class ProfileEngine(Protocol):
    """A loaded model that can be timed."""

    facts: ModelFacts
    load_seconds: float

    def run(self, workload: Workload, variant: int) -> Batch:
        """Fixed work, timed. `variant` changes the prompts."""
        ...

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        """A real prompt, greedy, to its natural stop or to `max_new_tokens`."""
        ...

    def close(self) -> None: ...


def all_of(batches: Sequence[Batch]) -> list[Timeline]:
    """The timelines of several repetitions in one list."""
    return [timeline for batch in batches for timeline in batch.timelines]
