"""What is asked of an engine and what it answers: the words that every file of profiling shares.

A `Timeline` keeps the arrival of every token, on one clock that starts when the request was scheduled. All
latencies are worked out from it (metrics.py), so no engine defines a metric of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stillmark.compute.inference import ModelFacts as ModelFacts
from stillmark.compute.inference import Workload as Workload


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
