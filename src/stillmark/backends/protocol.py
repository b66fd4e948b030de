"""What every engine answers, so that a task does not know which engine runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from stillmark.backends.work import Work


class StopReason(StrEnum):
    STOP = "stop"  # the end token or a stop string
    LENGTH = "length"  # max_new_tokens was reached first
    ERROR = "error"  # the engine failed, not the model; `Reply.error` says how


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to write. temperature 0 is greedy. Sample i of prompt p depends on (seed, p, i) alone."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    num_samples: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One sampled continuation, up to the first stop string and without it. Token counts are the model's
    own; generated_tokens counts the end token.
    """

    text: str
    stop_reason: StopReason
    prompt_tokens: int
    generated_tokens: int
    prefill_seconds: float | None = None  # this reply's share of its batch
    decode_seconds: float | None = None
    error: str | None = None
    thinking_text: str | None = None  # where the engine hands it over apart from the text
    thinking_tokens: int | None = None  # of generated_tokens, as the engine counted them
    cached_tokens: int | None = None  # of prompt_tokens, which the engine did not compute again
    ttft_seconds: float | None = None  # from sending the request to the first token; streamed replies alone
    request_seconds: float | None = None  # of a remote engine's last attempt, network and queue included
    price_usd: float | None = None  # by the endpoint's price list; failed attempts are not in it
    num_attempts: int | None = None  # of a remote engine: 1 where nothing failed
    served_model: str | None = None  # the model's name as the endpoint told it


@dataclass(frozen=True, kw_only=True)
class Loglikelihood:
    """log p(continuation | prompt) in nats, summed over the continuation's tokens; NaN where `error` says why."""

    loglikelihood: float
    is_greedy: bool  # every token of the continuation was the most likely one
    prompt_tokens: int
    continuation_tokens: int
    seconds: float | None = None  # this request's share of the work, prefixes shared with others included
    truncated_tokens: int = 0  # dropped from the prompt's left, since the model's window was full
    price_usd: float | None = (
        None  # of a remote engine: prompt and continuation are read, and paid, each time
    )
    served_model: str | None = None  # the model's name as the endpoint told it
    error: str | None = None  # the engine failed, not the model


class Backend(Protocol):
    """An engine with one model loaded."""

    @property
    def work(self) -> Work | None:
        """What all calls so far ran, the engine's trials of the model left out; None where an engine does not tell.

        What one call ran is the difference: equal prompts, greedy samples and shared prefixes are run once.
        """
        ...

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[list[Reply]]:
        """For each prompt, `sampling.num_samples` replies, in the prompts' order."""
        ...

    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        """For each (prompt, continuation), its log-likelihood, in the requests' order."""
        ...
