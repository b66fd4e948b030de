"""Any OpenAI-compatible endpoint: proprietary models, vLLM, llama.cpp's and Ollama's servers.

    backend = OpenAIBackend(Endpoint(model="gpt-4o-mini"), journal=FileJournal(Path("runs/gpt-4o-mini.jsonl")))
    backend.generate(["What is 6 x 7?"], Sampling(max_new_tokens=100))

Each sample is one request, kept in the journal as soon as it is whole. A sample ends as a reply, or as a reply
with StopReason.ERROR that says what the endpoint did: never lost, doubled, or half. `api_retry.py` says what is
asked again. Price is the price list's for the tokens that the endpoint counted; attempts that failed may have cost
more, and `Reply.num_attempts` tells where.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, TypeVar

from stillmark.backends.api_journal import Journal, MemoryJournal
from stillmark.backends.api_request import (
    Answer,
    Clock,
    Endpoint,
    request_body,
    request_key,
    streamed_answer,
    whole_answer,
)
from stillmark.backends.api_retry import Attempts, Pace, RetryPolicy, SampleFailedError
from stillmark.backends.protocol import Loglikelihood, Reply, Sampling, StopReason
from stillmark.compute.prices import ApiPrice, load_prices
from stillmark.errors import UserError

NO_KEY = "no-key"  # the SDK wants one; an endpoint without keys ignores it
SDK_FIELDS: tuple[str, ...] = ("model", "messages", "prompt", "stream")  # the rest goes through as it is
Job = tuple[str, int]  # prompt, sample
J = TypeVar("J")
T = TypeVar("T")
A = TypeVar("A", Reply, Loglikelihood)


class OpenAIBackend:
    """One model behind one endpoint. `num_requests` counts what was sent in this process."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        max_concurrency: int = 8,
        retry: RetryPolicy | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.max_concurrency = max_concurrency
        self.retry = retry or RetryPolicy()
        self.journal = journal or MemoryJournal()
        self.price = _price(endpoint)
        self.num_requests = 0
        self.work = None  # an endpoint does not tell
        self._count_lock = threading.Lock()
        self._pace = Pace(self.retry.requests_per_minute)
        self._attempts = Attempts(self.retry, self._pace, self._redact, endpoint.base_url)
        self._client = _client(endpoint, self.retry)

    def close(self) -> None:
        """Lets go of the connections."""
        self._client.close()

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[list[Reply]]:
        """For each prompt, `sampling.num_samples` replies, in the prompts' order.

        Prompts that are equal are asked once and share the reply and its price.
        """
        times_asked = Counter(prompts)
        jobs = [(prompt, sample) for prompt in times_asked for sample in range(sampling.num_samples)]
        replies = self._run_all(jobs, lambda job: self._run(*job, sampling))
        return [
            [_shared(replies[prompt, sample], times_asked[prompt]) for sample in range(sampling.num_samples)]
            for prompt in prompts
        ]

    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        """For each (prompt, continuation), its log-likelihood, where the endpoint echoes a prompt's logprobs.

        Each is a request of its own, which reads the prompt again: `price_usd` says what that costs. Scores are kept
        in the journal as replies are, and equal requests are asked once.
        """
        times_asked = Counter(requests)
        scores = self._run_all(list(times_asked), lambda request: self._score(*request))
        return [_shared(scores[request], times_asked[request]) for request in requests]

    def ask(self, path: str, body: dict[str, Any], parse: Callable[[str], Any]) -> tuple[Any, int]:
        """One request that is answered in one piece, with retries: what `parse` makes of it, and attempts."""

        def attempt() -> Any:
            self._count()
            return parse(self._client.post(path, body=body, cast_to=_response_class()).text)

        return self._attempts.run(attempt)

    def _run_all(self, jobs: Sequence[J], work: Callable[[J], T]) -> dict[J, T]:
        self._pace.stopped.clear()
        with ThreadPoolExecutor(self.max_concurrency) as pool:
            futures = {job: pool.submit(work, job) for job in jobs}
            try:
                done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()  # a UserError ends the run; what has arrived is in the journal
            except BaseException:
                self._pace.stopped.set()
                for future in futures.values():
                    future.cancel()
                raise
        return {job: future.result() for job, future in futures.items()}

    def _run(self, prompt: str, sample: int, sampling: Sampling) -> Reply:
        body = request_body(self.endpoint, prompt, sampling, sample)
        key = request_key(self.endpoint, body, sample)
        kept = self.journal.get(key)
        if kept is not None:
            return kept
        try:
            (answer, seconds), num_attempts = self._attempts.run(lambda: self._ask_once(body, key))
        except SampleFailedError as failure:
            return _failed(str(failure), num_attempts=failure.num_attempts)
        except BaseException:
            self._pace.stopped.set()  # at once: nothing more is asked of an endpoint that refused
            raise
        reply = replace(self._reply(answer, sampling), request_seconds=seconds, num_attempts=num_attempts)
        if reply.stop_reason is not StopReason.ERROR:
            self.journal.put(key, reply)
        return reply

    def _score(self, prompt: str, continuation: str) -> Loglikelihood:
        from stillmark.backends.api_scoring import score, score_body

        key = request_key(self.endpoint, score_body(self.endpoint, prompt + continuation), len(prompt))
        kept = self.journal.get_score(key)
        if kept is not None:
            return kept
        try:
            scored = score(self.endpoint, self.ask, prompt, continuation, price_of=self._price_usd)
        except SampleFailedError as failure:
            return Loglikelihood(
                loglikelihood=math.nan,
                is_greedy=False,
                prompt_tokens=0,
                continuation_tokens=0,
                error=str(failure),
            )
        except BaseException:
            self._pace.stopped.set()
            raise
        self.journal.put(key, scored)
        return scored

    def _ask_once(self, body: dict[str, Any], key: str) -> tuple[Answer, float]:
        """One attempt. The same Idempotency-Key each time: an endpoint that knows it charges once."""
        self._count()
        clock = Clock()
        chat = self.endpoint.kind == "chat"
        resource = self._client.chat.completions if chat else self._client.completions
        fields: dict[str, Any] = {name: body[name] for name in SDK_FIELDS if name in body}
        options: dict[str, Any] = {
            **fields,
            "extra_body": {name: value for name, value in body.items() if name not in fields},
            "extra_headers": {"Idempotency-Key": key},
        }
        if not self.endpoint.is_streamed:
            answer = whole_answer(resource.with_raw_response.create(**options).http_response.text)
        else:
            with resource.with_streaming_response.create(**options) as stream:
                answer = streamed_answer(stream.iter_lines(), clock)
        return answer, clock.seconds()

    def _reply(self, answer: Answer, sampling: Sampling) -> Reply:
        usage = answer.usage
        if usage is None:
            return _failed("the endpoint did not say how many tokens it read and wrote", answer=answer)
        stop_reason = {"stop": StopReason.STOP, "length": StopReason.LENGTH}.get(answer.finish_reason or "")
        details = usage.completion_tokens_details
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        text, is_cut = _cut(answer.text, sampling.stop)
        return Reply(
            text=text,
            stop_reason=StopReason.STOP if is_cut else stop_reason or StopReason.ERROR,
            prompt_tokens=usage.prompt_tokens,
            generated_tokens=usage.completion_tokens,
            error=None if stop_reason or is_cut else f"the endpoint ended with `{answer.finish_reason}`",
            thinking_text=answer.thinking,
            thinking_tokens=details.reasoning_tokens if details else None,
            cached_tokens=cached,
            ttft_seconds=answer.ttft_seconds,
            price_usd=self._price_usd(*usage.counts()),
            served_model=answer.model,
        )

    def _price_usd(self, prompt_tokens: int, generated_tokens: int, cached_tokens: int) -> float | None:
        """At the cached price where the endpoint says that it cached, and the list has one."""
        if self.price is None:
            return None
        full = self.price.answer_usd(input_tokens=prompt_tokens, output_tokens=generated_tokens)
        if self.price.cached_input_usd is None:
            return full
        return full - cached_tokens * (self.price.input_usd - self.price.cached_input_usd) / 1e6

    def _count(self) -> None:
        with self._count_lock:
            self.num_requests += 1

    def _redact(self, text: str) -> str:
        key = self.endpoint.key()
        return text.replace(key, "[key]") if key else text


def _client(endpoint: Endpoint, retry: RetryPolicy) -> Any:
    """The SDK, without its own retries: ours count, pause and tell."""
    try:
        import openai
    except ImportError as error:
        raise UserError("the openai package is not installed", "pip install 'stillmark[api]'") from error
    return openai.OpenAI(
        api_key=endpoint.key() or NO_KEY,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=retry.timeout_seconds,
    )


def _response_class() -> Any:
    """The HTTP library's own response, whichever this SDK uses: httpx2 from 3.0 on, httpx before."""
    import openai._base_client as base

    return (getattr(base, "httpx2", None) or base.httpx).Response


def _price(endpoint: Endpoint) -> ApiPrice | None:
    """None, shown as unknown, where the list does not have the model; a name that was asked for must be there."""
    prices = load_prices()
    if endpoint.price_model is not None:
        return prices.api(endpoint.price_model)
    if not endpoint.is_openai:
        return None  # a name like gpt-4o-mini at another address is another offer
    return next((price for price in prices.api_tokens if price.model == endpoint.model.lower()), None)


def _cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Up to the first stop string, for endpoints that took only some of them."""
    ends = [text.find(string) for string in stop if string in text]
    return (text[: min(ends)], True) if ends else (text, False)


def _failed(message: str, *, answer: Answer | None = None, num_attempts: int | None = None) -> Reply:
    return Reply(
        text=answer.text if answer else "",
        stop_reason=StopReason.ERROR,
        prompt_tokens=0,
        generated_tokens=0,
        error=message,
        num_attempts=num_attempts,
    )


def _shared(answer: A, share: int) -> A:
    """One of several equal requests that were asked once: the price is paid once in the sum."""
    if share == 1 or answer.price_usd is None:
        return answer
    return replace(answer, price_usd=answer.price_usd / share)
