"""Log-likelihoods from an endpoint that echoes a prompt with its logprobs, as vLLM's completions do.

Chat endpoints and llama.cpp's server do not (the latter takes `echo` without a word and leaves it out), so a reply is
used only if it begins with the prompt and its tokens are the prompt's text. Where that is not so the user is told to
score by generation: a guess would be silently wrong.
"""

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from stillmark.backends.api_request import BrokenReplyError, Clock, Endpoint, Usage
from stillmark.backends.protocol import Loglikelihood
from stillmark.errors import UserError

Ask = Callable[[str, dict[str, Any], Callable[[str], Any]], tuple[Any, int]]
PriceOf = Callable[[int, int, int], float | None]  # prompt, generated and cached tokens -> US dollars


class _Logprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]
    text_offset: list[int]
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(BaseModel):
    text: str
    logprobs: Any = None


class _Body(BaseModel):
    choices: list[_Choice]
    usage: Usage | None = None
    model: str | None = None


def score_body(endpoint: Endpoint, whole: str) -> dict[str, Any]:
    """The request: the whole text is echoed, one token more is written and not used."""
    return {
        "model": endpoint.model,
        "prompt": whole,
        "max_tokens": 1,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
        **endpoint.extra_body,
    }


def score(
    endpoint: Endpoint, ask: Ask, prompt: str, continuation: str, *, price_of: PriceOf | None = None
) -> Loglikelihood:
    """One request. Spaces at the end of the prompt count to the continuation, as everywhere in Stillmark.

    It is paid for all that it reads, prompt and continuation, and for the token that it writes, by the endpoint's
    own counts; where the endpoint gives none, the price is unknown.
    """
    bare = prompt.rstrip()
    whole = prompt + continuation
    clock = Clock()
    reply, _ = ask("/completions", score_body(endpoint, whole), _parsed)
    usage = reply.usage
    logprobs = _echoed(endpoint, reply.choices[0], whole)
    inside = [i for i, offset in enumerate(logprobs.text_offset) if len(bare) <= offset < len(whole)]
    if not inside or logprobs.text_offset[inside[0]] != len(bare):
        raise UserError(
            f"a token of {endpoint.model} crosses from the prompt that ends in {bare[-20:]!r} to {continuation!r}",
            "score this task by generation, or end the prompt where a token ends",
        )
    values = [logprobs.token_logprobs[i] for i in inside]
    if any(value is None for value in values):
        raise UserError(f"{endpoint.base_url} gave no logprob for a token of {continuation!r}")
    return Loglikelihood(
        loglikelihood=sum(value for value in values if value is not None),
        is_greedy=all(_is_best(logprobs, i) for i in inside),
        prompt_tokens=inside[0],
        continuation_tokens=len(inside),
        seconds=clock.seconds(),
        price_usd=None if price_of is None or usage is None else price_of(*usage.counts()),
        served_model=reply.model,
    )


def _parsed(text: str) -> _Body:
    try:
        body = _Body.model_validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise BrokenReplyError(f"not a reply: {str(error)[:200]}") from error
    if len(body.choices) != 1:
        raise BrokenReplyError(f"{len(body.choices)} choices in a reply to a request for one")
    return body


def _echoed(endpoint: Endpoint, choice: _Choice, whole: str) -> _Logprobs:
    """The logprobs, if they are of the text that was sent."""
    try:
        logprobs = _Logprobs.model_validate(choice.logprobs)
    except ValidationError:
        logprobs = None
    lengths = (
        {len(column) for column in (logprobs.tokens, logprobs.token_logprobs, logprobs.text_offset)}
        if logprobs
        else set()
    )
    if logprobs is None or len(lengths) != 1 or not choice.text.startswith(whole):
        raise UserError(
            f"{endpoint.base_url} does not give the log-likelihood of a prompt (`echo` with `logprobs`)",
            "score multiple choice by generation (`--tasks arc_easy@generation`), "
            "or load the model with the transformers or llamacpp engine",
        )
    return logprobs


def _is_best(logprobs: _Logprobs, i: int) -> bool:
    best = (logprobs.top_logprobs or [])[i : i + 1]
    value = logprobs.token_logprobs[i]
    if not best or best[0] is None or value is None:
        raise UserError(
            "the endpoint gave no most likely token beside each token", "it must answer `logprobs: 1`"
        )
    return value >= max(best[0].values())
