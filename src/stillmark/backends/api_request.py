"""What is sent to an OpenAI-compatible endpoint and what comes back, checked before it is believed.

A reply counts only if it is whole: valid JSON, one choice, a finish reason and the endpoint's own token counts.
Anything else is broken and asked for again, so half a sentence is never graded as an answer.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, NonNegativeInt, ValidationError

from stillmark.backends.protocol import Sampling
from stillmark.errors import UserError

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY_VARIABLE = "OPENAI_API_KEY"
MAX_STOP_STRINGS = 4  # OpenAI's limit; the rest is cut on this side


class BrokenReplyError(Exception):
    """The reply is not whole: worth another attempt."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to ask and how. Holds the name of the key's variable, never the key."""

    model: str
    base_url: str = OPENAI_URL
    key_variable: str | None = None
    """Environment variable with the key. OpenAI's is asked only for OpenAI's address; another address gets no
    key unless its variable is named, so that no key is sent where it does not belong."""
    kind: Literal["chat", "completions"] = "chat"
    is_streamed: bool = False
    """Streaming gives the time to the first token. Not the default: a lost event cannot be seen in a stream."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Fields of this endpoint's own. llama.cpp's server samples with top_k 40 and min_p 0.05 unless told:
    `{"top_k": 0, "min_p": 0}`."""
    omitted_fields: tuple[str, ...] = ()
    """Fields that the model refuses, such as `temperature`, `top_p` and `stop` for OpenAI's reasoning models."""
    max_tokens_field: str | None = (
        None  # else max_completion_tokens for OpenAI's address, max_tokens elsewhere
    )
    price_model: str | None = None  # its name in the price list, where it is not `model`

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise UserError(
                f"the endpoint's address `{self.base_url}` does not begin with http:// or https://"
            )
        if "@" in self.base_url.split("://")[-1].split("/")[0]:
            raise UserError(
                "the endpoint's address holds a user name or password, and addresses are recorded",
                "put the key into an environment variable and name it as key_variable",
            )

    @property
    def is_openai(self) -> bool:
        return self.base_url.rstrip("/") == OPENAI_URL

    def key(self) -> str | None:
        """The key, read when it is needed; None where this endpoint is asked without one."""
        variable = self.key_variable or (OPENAI_KEY_VARIABLE if self.is_openai else None)
        if variable is None:
            return None
        key = os.environ.get(variable, "").strip()
        if not key:
            raise UserError(
                f"{self.base_url} needs a key, and {variable} is not set", f"export {variable}=..."
            )
        return key

    def path(self) -> str:
        return "/chat/completions" if self.kind == "chat" else "/completions"


def request_body(endpoint: Endpoint, prompt: str, sampling: Sampling, sample: int) -> dict[str, Any]:
    """The whole request for one sample. Every sample is its own request: `n` is counted wrongly by some servers
    (llama.cpp reports the tokens of one sample for all), and one broken reply would lose them all.
    """
    limit = endpoint.max_tokens_field or ("max_completion_tokens" if endpoint.is_openai else "max_tokens")
    body: dict[str, Any] = {
        "model": endpoint.model,
        limit: sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sample_seed(sampling.seed, prompt, sample),
    }
    if endpoint.kind == "chat":
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        body["prompt"] = prompt
    if sampling.stop:
        body["stop"] = list(sampling.stop[:MAX_STOP_STRINGS])
    if endpoint.is_streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= endpoint.extra_body
    return {name: value for name, value in body.items() if name not in endpoint.omitted_fields}


def request_key(endpoint: Endpoint, body: Mapping[str, Any], sample: int) -> str:
    """What a stored reply is found by: everything that it depends on. The key to the account is not in it."""
    path = "/completions" if "echo" in body else endpoint.path()
    text = json.dumps([endpoint.base_url, path, body, sample], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sample_seed(seed: int, prompt: str, sample: int) -> int:
    """31 bits of (seed, prompt, sample): what every endpoint takes as a seed."""
    text = json.dumps([seed, prompt, sample]).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1


class _TokenDetails(BaseModel):
    reasoning_tokens: NonNegativeInt | None = None
    cached_tokens: NonNegativeInt | None = None


class Usage(BaseModel):
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    completion_tokens_details: _TokenDetails | None = None
    prompt_tokens_details: _TokenDetails | None = None

    def counts(self) -> tuple[int, int, int]:
        """Tokens read, written, and of those read found in the endpoint's cache, as far as it says."""
        cached = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None
        return self.prompt_tokens, self.completion_tokens, cached or 0


class _Message(BaseModel):
    content: str | None = None
    reasoning_content: str | None = None  # DeepSeek, llama.cpp
    reasoning: str | None = None  # vLLM, OpenRouter
    refusal: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    text: str | None = None
    message: _Message | None = None
    delta: _Message | None = None


class _Body(BaseModel):
    choices: list[_Choice] = []
    usage: Usage | None = None
    model: str | None = None
    error: Any = None


@dataclass(kw_only=True)
class Answer:
    """One whole reply, as the endpoint gave it."""

    text: str = ""
    thinking: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    ttft_seconds: float | None = None
    num_events: int = 0  # of a stream: those that carried text

    def add(self, message: _Message | _Choice | None) -> bool:
        """Adds what a message or a piece of one says; whether it said anything."""
        if message is None:
            return False
        if isinstance(message, _Choice):
            self.text += message.text or ""
            return bool(message.text)
        thinking = message.reasoning_content or message.reasoning
        if thinking:
            self.thinking = (self.thinking or "") + thinking
        text = message.content or message.refusal or ""
        self.text += text
        return bool(text or thinking)


def _checked(text: str) -> _Body:
    try:
        body = _Body.model_validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise BrokenReplyError(f"not a reply: {str(error)[:200]}") from error
    if body.error:
        raise BrokenReplyError(f"an error in place of a reply: {str(body.error)[:300]}")
    return body


def whole_answer(text: str) -> Answer:
    """The answer in a reply that came in one piece."""
    body = _checked(text)
    if len(body.choices) != 1:
        raise BrokenReplyError(f"{len(body.choices)} choices in a reply to a request for one")
    choice = body.choices[0]
    answer = Answer(finish_reason=choice.finish_reason, usage=body.usage, model=body.model)
    if choice.message is None and choice.text is None:
        raise BrokenReplyError("a choice without a message or text")
    answer.add(choice if choice.message is None else choice.message)
    if answer.finish_reason is None:
        raise BrokenReplyError("a reply without a finish reason")
    return answer


def streamed_answer(lines: Iterable[str], clock: "Clock") -> Answer:
    """The answer in a stream of server-sent events. It is whole if it has a finish reason and [DONE]."""
    answer = Answer()
    is_done = False
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            is_done = True
            break
        body = _checked(data)
        answer.usage = body.usage or answer.usage
        answer.model = answer.model or body.model
        for choice in body.choices:
            if answer.finish_reason is not None and (choice.text or (choice.delta and choice.delta.content)):
                raise BrokenReplyError("text after the end of the reply")
            if answer.add(choice if choice.delta is None else choice.delta):
                answer.num_events += 1
                answer.ttft_seconds = answer.ttft_seconds or clock.seconds()
            answer.finish_reason = choice.finish_reason or answer.finish_reason
    if not is_done or answer.finish_reason is None:
        raise BrokenReplyError("the stream ended before the reply did")
    if answer.usage is not None and answer.num_events > answer.usage.completion_tokens:
        raise BrokenReplyError(
            f"{answer.num_events} events with text for {answer.usage.completion_tokens} tokens: some came twice"
        )
    return answer


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        import time

        self._now = time.perf_counter
        self._start = self._now()

    def seconds(self) -> float:
        return self._now() - self._start
