"""Replies as providers document them, Retry-After as the RFC does, and scores from an echo."""

import json
from typing import Any

import pytest

from stillmark.backends.api_request import (
    BrokenReplyError,
    Clock,
    Endpoint,
    request_body,
    sample_seed,
    streamed_answer,
    whole_answer,
)
from stillmark.backends.api_retry import retry_after_seconds
from stillmark.backends.api_scoring import score
from stillmark.backends.protocol import Sampling
from stillmark.errors import UserError


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, 9.0),  # the RFC's own example, 9 s before it
        ({"retry-after": "Fri, 31 Dec 1999 23:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None):
    assert retry_after_seconds(headers, now=946684790.0) == seconds


def reply(**changes: Any) -> dict[str, Any]:
    whole = {
        "model": "m-2024",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "42"}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
    }
    return whole | changes


def test_thinking_and_its_tokens_are_kept_apart():
    message = {"content": "42", "reasoning_content": "6 x 7"}
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 30,
        "completion_tokens_details": {"reasoning_tokens": 25},
    }
    body = reply(choices=[{"finish_reason": "stop", "message": message}], usage=usage)
    answer = whole_answer(json.dumps(body))
    assert (answer.text, answer.thinking, answer.model) == ("42", "6 x 7", "m-2024")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 25


@pytest.mark.parametrize(
    "body",
    [
        reply(choices=[]),
        reply(choices=reply()["choices"] * 2),
        reply(choices=[{"finish_reason": None, "message": {"content": "half"}}]),
        reply(choices=[{"finish_reason": "stop"}]),
        reply(usage={"prompt_tokens": -1, "completion_tokens": 3}),
        reply(error={"message": "overloaded"}),
        [1, 2],
    ],
)
def test_what_is_not_whole_is_broken(body: Any):
    with pytest.raises(BrokenReplyError):
        whole_answer(json.dumps(body))


def event(text: str | None = None, finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "finish_reason": finish, "delta": {"content": text} if text else {}}
    return "data: " + json.dumps({"choices": [choice], **more})


USAGE_EVENT = "data: " + json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}})


def test_a_stream_is_whole_with_its_end():
    lines = [event("4"), "", ": comment", event("2"), event(finish="stop"), USAGE_EVENT, "data: [DONE]"]
    answer = streamed_answer(lines, Clock())
    assert (answer.text, answer.finish_reason) == ("42", "stop")
    assert answer.ttft_seconds is not None
    for missing in range(4, 7):
        if missing != 5:
            with pytest.raises(BrokenReplyError):
                streamed_answer(lines[:missing] + lines[missing + 1 :], Clock())


def test_doubled_events_are_seen():
    lines = [
        event("4"),
        event("4"),
        event("2"),
        event("2"),
        event(finish="stop"),
        USAGE_EVENT,
        "data: [DONE]",
    ]
    with pytest.raises(BrokenReplyError, match="came twice"):
        streamed_answer(lines, Clock())


def test_the_request_says_what_was_asked_and_leaves_out_what_is_refused():
    sampling = Sampling(max_new_tokens=9, temperature=0.7, seed=3, stop=("\n",))
    body = request_body(Endpoint(model="m", base_url="http://x/v1"), "hello", sampling, 1)
    assert body["max_tokens"] == 9
    assert body["seed"] == sample_seed(3, "hello", 1) < 1 << 31
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    reasoning = Endpoint(model="o3", omitted_fields=("temperature", "top_p", "stop"))
    body = request_body(reasoning, "hello", sampling, 0)
    assert body["max_completion_tokens"] == 9
    assert not {"temperature", "top_p", "stop", "max_tokens"} & set(body)
    assert len({sample_seed(s, p, i) for s in (0, 1) for p in ("a", "b") for i in (0, 1)}) == 8


def echo_of(tokens: list[tuple[str, float | None, float]]) -> Any:
    """An `ask` that answers as vLLM's completions do: (token, logprob, best logprob) of the echoed text."""

    def ask(path: str, body: dict[str, Any], parse: Any) -> tuple[Any, int]:
        assert (path, body["echo"]) == ("/completions", True)
        offsets = [sum(len(t) for t, _, _ in tokens[:i]) for i in range(len(tokens))]
        logprobs = {
            "tokens": [t for t, _, _ in tokens],
            "token_logprobs": [value for _, value, _ in tokens],
            "text_offset": offsets,
            "top_logprobs": [None if value is None else {"best": best} for _, value, best in tokens],
        }
        text = "".join(t for t, _, _ in tokens)
        return parse(json.dumps({"choices": [{"text": text, "logprobs": logprobs}]})), 1

    return ask


def test_a_score_is_the_continuations_alone():
    tokens = [
        ("The", None, 0.0),
        (" sky", -1.0, -1.0),
        (" is", -2.0, -0.5),
        (" blue", -0.25, -0.25),
        ("!", -3.0, -1.0),
    ]
    endpoint = Endpoint(model="m", base_url="http://x/v1")
    result = score(endpoint, echo_of(tokens), "The sky is", " blue")  # "!" is the token written after
    assert (result.loglikelihood, result.is_greedy) == (-0.25, True)
    assert (result.prompt_tokens, result.continuation_tokens) == (3, 1)
    trailing = score(endpoint, echo_of(tokens), "The sky ", "is blue")
    assert (trailing.loglikelihood, trailing.is_greedy, trailing.continuation_tokens) == (-2.25, False, 2)
    with pytest.raises(UserError, match="crosses"):
        score(endpoint, echo_of(tokens), "The sky is bl", "ue")
    with pytest.raises(UserError, match="does not give"):
        score(endpoint, echo_of(tokens), "Another text", " blue")
