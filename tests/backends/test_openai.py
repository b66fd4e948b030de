"""The API backend against a real llama.cpp server, and through a proxy that loses, cuts and doubles."""

import json
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="needs the extra `api`: pip install openai")

from tests.backends import llama_server as faults
from tests.backends.llama_server import Proxy, proxy, start_server

from stillmark.backends.api_journal import FileJournal
from stillmark.backends.api_request import Endpoint
from stillmark.backends.api_retry import RetryPolicy
from stillmark.backends.openai import OpenAIBackend
from stillmark.backends.protocol import Reply, Sampling, StopReason
from stillmark.compute.prices import load_prices
from stillmark.errors import UserError

KEY_VARIABLE = "STILLMARK_TEST_KEY"
KEY = "sk-test-0123456789"
QUICK = RetryPolicy(backoff_seconds=0.01, max_backoff_seconds=0.05, timeout_seconds=20)
PROMPTS = [f"What is {a} plus {a + 1}?" for a in range(6)]
GREEDY = Sampling(max_new_tokens=4)
BODY_FAULTS = [
    faults.drop,
    faults.drop_after_the_work,
    faults.delay,
    faults.cut_body,
    faults.truncated_json,
    faults.doubled_body,
    faults.sent_twice,
    faults.html_page,
    faults.empty_body,
    faults.error_in_a_200,
    faults.status(500),
    faults.status(503, {"Retry-After": "0"}),
    faults.status(429),
    faults.status(429, {"Retry-After": "0.2"}),
    faults.status(408),
]
STREAM_FAULTS = [
    faults.drop,
    faults.cut_body,
    faults.truncated_json,
    faults.lost_last_events,
    faults.doubled_events,
    faults.error_in_a_200,
    faults.status(502),
]


@pytest.fixture(scope="module")
def llama() -> Any:
    # One slot and no prompt cache: equal requests then have equal replies, whatever else is asked meanwhile
    return start_server(num_slots=1)


@pytest.fixture(scope="module")
def server(llama: Any) -> Iterator[Proxy]:
    with proxy(llama.listening_address) as running:
        yield running


@pytest.fixture(autouse=True)
def clean(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reset()
    monkeypatch.setenv(KEY_VARIABLE, KEY)


def backend(
    server: Proxy, *, retry: RetryPolicy = QUICK, journal: Any = None, **changes: Any
) -> OpenAIBackend:
    fields: dict[str, Any] = {"model": "small", "base_url": server.url, "key_variable": KEY_VARIABLE}
    fields |= {"extra_body": {"cache_prompt": False}, **changes}
    return OpenAIBackend(Endpoint(**fields), max_concurrency=3, retry=retry, journal=journal)


@pytest.fixture(scope="module")
def clean_texts(llama: Any) -> dict[str, str]:
    """What the server says, asked one by one without our code."""
    texts = {}
    for prompt in PROMPTS:
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 4, "temperature": 0}
        data = json.dumps(body | {"cache_prompt": False}).encode()
        url = llama.listening_address + "/v1/chat/completions"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            texts[prompt] = json.load(response)["choices"][0]["message"]["content"]
    return texts


def texts_of(replies: list[list[Reply]]) -> list[str]:
    assert all(len(samples) == 1 for samples in replies)
    return [samples[0].text for samples in replies]


def test_replies_are_the_servers_in_order_with_its_counts(server: Proxy, clean_texts: dict[str, str]):
    replies = backend(server).generate(PROMPTS, GREEDY)
    assert texts_of(replies) == [clean_texts[prompt] for prompt in PROMPTS]
    first = replies[0][0]
    assert (first.stop_reason, first.generated_tokens, first.num_attempts) == (StopReason.LENGTH, 4, 1)
    assert first.prompt_tokens > 10
    assert first.request_seconds is not None
    assert first.price_usd is None  # nobody knows the price of this endpoint
    assert set(server.keys) == {f"Bearer {KEY}"}


@pytest.mark.parametrize("fault", BODY_FAULTS)
def test_a_fault_changes_no_reply(fault: faults.Fault, server: Proxy, clean_texts: dict[str, str]):
    server.faults = {0: fault, 3: fault}
    replies = backend(server).generate(PROMPTS, GREEDY)
    assert texts_of(replies) == [clean_texts[prompt] for prompt in PROMPTS]
    assert all(samples[0].error is None for samples in replies)


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_a_fault_changes_no_streamed_reply(fault: faults.Fault, server: Proxy, clean_texts: dict[str, str]):
    server.faults = {1: fault, 2: fault}
    replies = backend(server, is_streamed=True).generate(PROMPTS, GREEDY)
    assert texts_of(replies) == [clean_texts[prompt] for prompt in PROMPTS]
    assert all(samples[0].ttft_seconds is not None for samples in replies)
    assert sum(samples[0].num_attempts or 0 for samples in replies) == len(PROMPTS) + 2


def test_a_storm_of_faults_loses_and_doubles_nothing(
    server: Proxy, clean_texts: dict[str, str], tmp_path: Path
):
    chance = random.Random(4)
    server.faults = {n: chance.choice(BODY_FAULTS) for n in range(200) if chance.random() < 0.5}
    patient = RetryPolicy(backoff_seconds=0.01, max_backoff_seconds=0.02, max_attempts=30)
    journal = FileJournal(tmp_path / "journal.jsonl")
    replies = backend(server, retry=patient, journal=journal).generate(PROMPTS * 2, GREEDY)
    journal.close()
    assert texts_of(replies) == [clean_texts[prompt] for prompt in PROMPTS * 2]
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == len(PROMPTS)


def test_an_endpoint_that_never_answers_is_an_error_for_its_sample_alone(server: Proxy):
    server.faults = {0: faults.never_answer, 1: faults.never_answer}
    retry = RetryPolicy(backoff_seconds=0.01, max_attempts=2, timeout_seconds=0.8)
    asked = backend(server, retry=retry)
    asked.max_concurrency = 1
    replies = asked.generate(PROMPTS[:2], GREEDY)
    assert replies[0][0].stop_reason is StopReason.ERROR
    assert "2 attempts failed, the last with APITimeoutError" in str(replies[0][0].error)
    assert replies[1][0].error is None


def test_what_cannot_be_mended_is_not_asked_again(server: Proxy):
    server.faults = {0: faults.status(400, error={"message": "the prompt is too long"})}
    asked = backend(server)
    asked.max_concurrency = 1
    replies = asked.generate(PROMPTS[:2], GREEDY)
    assert replies[0][0].stop_reason is StopReason.ERROR
    assert "the prompt is too long" in str(replies[0][0].error)
    assert (replies[1][0].error, server.num_requests) == (None, 2)


@pytest.mark.parametrize(
    "fault",
    [
        faults.status(401, error={"message": f"Incorrect API key provided: {KEY}"}),
        faults.status(404),
        faults.status(429, error={"message": "no money", "code": "insufficient_quota"}),
    ],
)
def test_a_refused_account_stops_the_run_and_does_not_tell_the_key(fault: faults.Fault, server: Proxy):
    server.always = fault
    with pytest.raises(UserError, match="the endpoint refused") as caught:
        backend(server).generate(PROMPTS, GREEDY)
    assert KEY not in str(caught.value)
    assert server.num_requests <= 3


def test_a_rate_limit_pauses_everyone_and_costs_no_attempt(server: Proxy, clean_texts: dict[str, str]):
    server.faults = {n: faults.status(429, {"Retry-After": "0.05"}) for n in range(8)}
    retry = RetryPolicy(backoff_seconds=0.01, max_attempts=1)
    replies = backend(server, retry=retry).generate(PROMPTS, GREEDY)
    assert texts_of(replies) == [clean_texts[prompt] for prompt in PROMPTS]
    assert server.num_requests == len(PROMPTS) + 8


def test_samples_differ_and_come_again_with_the_seed(server: Proxy):
    sampling = Sampling(max_new_tokens=6, temperature=1.5, num_samples=4, seed=11)
    plain = {"extra_body": {"cache_prompt": False, "top_k": 0, "min_p": 0}}
    first = backend(server, **plain).generate(PROMPTS[:2], sampling)
    again = backend(server, **plain).generate(PROMPTS[:2], sampling)
    assert [len(samples) for samples in first] == [4, 4]
    assert [[r.text for r in samples] for samples in first] == [[r.text for r in s] for s in again]
    assert len({reply.text for reply in first[0]}) > 1
    assert len({body["seed"] for body in server.bodies}) == 8


def test_completions_and_stop_strings(server: Proxy):
    asked = backend(server, kind="completions")
    sampling = Sampling(max_new_tokens=20, stop=("q", "w", "x", "z", "\n"))  # the endpoint is told four
    [[reply]] = asked.generate(["1, 2, 3, 4, 5,\n6, 7, 8, 9, 10,"], sampling)
    assert len(server.bodies[0]["stop"]) == 4
    assert "\n" not in reply.text
    assert reply.text != ""


def test_a_run_that_was_cut_off_asks_only_for_the_rest(
    server: Proxy, clean_texts: dict[str, str], tmp_path: Path
):
    path = tmp_path / "journal.jsonl"
    journal = FileJournal(path)
    with pytest.raises(UserError, match="in use by another run"):
        FileJournal(path)
    server.faults = {3: faults.status(401)}
    asked = backend(server, journal=journal)
    asked.max_concurrency = 1
    with pytest.raises(UserError):
        asked.generate(PROMPTS, GREEDY)
    journal.close()
    assert path.read_text().count("\n") == 3
    path.write_bytes(path.read_bytes()[:-20])  # killed while it wrote the third line

    server.reset()
    with_rest = FileJournal(path)
    replies = backend(server, journal=with_rest).generate(PROMPTS, GREEDY)
    with_rest.close()
    assert texts_of(replies) == [clean_texts[prompt] for prompt in PROMPTS]
    assert server.num_requests == 4

    server.reset()
    whole = FileJournal(path)
    assert backend(server, journal=whole).generate(PROMPTS, GREEDY) == replies
    assert server.num_requests == 0
    other = backend(server, journal=whole, model="another").generate(PROMPTS[:1], GREEDY)
    assert (len(other), server.num_requests) == (1, 1)  # another model's replies are not its own
    whole.close()
    assert KEY not in path.read_text()


def test_errors_are_not_kept_and_a_damaged_journal_is_refused(server: Proxy, tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = FileJournal(path)
    server.faults = {0: faults.status(400)}
    asked = backend(server, journal=journal)
    assert asked.generate(PROMPTS[:1], GREEDY)[0][0].stop_reason is StopReason.ERROR
    assert asked.generate(PROMPTS[:1], GREEDY)[0][0].stop_reason is StopReason.LENGTH
    journal.close()
    path.write_text('{"key": "x"}\n' + path.read_text())
    with pytest.raises(UserError, match="line 1"):
        FileJournal(path)


def test_equal_prompts_are_asked_and_paid_once(server: Proxy):
    price = next(p for p in load_prices().api_tokens if p.model == "gpt-4o-mini")
    replies = backend(server, price_model="gpt-4o-mini").generate([PROMPTS[0]] * 3, GREEDY)
    assert server.num_requests == 1
    paid = sum(samples[0].price_usd or 0 for samples in replies)
    reply = replies[0][0]
    expected = price.answer_usd(input_tokens=reply.prompt_tokens, output_tokens=reply.generated_tokens)
    assert paid == pytest.approx(expected, rel=1e-9)


def test_a_server_that_ignores_echo_is_not_believed(server: Proxy):
    with pytest.raises(UserError, match="does not give the log-likelihood of a prompt"):
        backend(server).loglikelihood([("The capital of France is", " Paris")])


def test_keys_go_only_where_they_belong(server: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-own")
    backend(server, key_variable=None).generate(PROMPTS[:1], GREEDY)
    assert "sk-openai-own" not in server.keys[0]
    assert "sk-openai-own" not in repr(Endpoint(model="gpt-4o-mini"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        OpenAIBackend(Endpoint(model="gpt-4o-mini"))
    with pytest.raises(UserError, match="user name or password"):
        Endpoint(model="m", base_url="https://me:secret@example.com/v1")
