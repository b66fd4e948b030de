"""An OpenAI-compatible server, timed from outside: what a client sees, network and queueing included.

`model` is the base URL, such as http://127.0.0.1:8080/v1; `options`: `model_name`, `api_key_variable` (the
environment variable that holds the key; OPENAI_API_KEY if not given) and `stream_usage` (0 where the server
refuses stream_options). Completions are streamed over plain HTTP with the standard library, so that no client
library's time is in it. Each chunk is one arrival. The number of tokens is the server's own (`usage`); where it
says none, chunks are counted and the facts say so.

Fixed work needs `ignore_eos`, which llama.cpp, vLLM and SGLang understand; a server that stops earlier did
other work, and the setting is then INVALID. Prompts are words here, since not every server takes token ids.
"""

import http.client
import json
import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from stillmark.errors import UserError
from stillmark.profiling.workload import Batch, EngineSpec, ModelFacts, Timeline, Workload

TIMEOUT_SECONDS = 600


def prepare(spec: EngineSpec) -> None:
    if urlsplit(spec.model).scheme not in ("http", "https"):
        raise UserError(f"`{spec.model}` is not a URL", hint="for example http://127.0.0.1:8080/v1")


def load(spec: EngineSpec, prepared: None = None) -> "EndpointEngine":
    return EndpointEngine(spec)


class EndpointEngine:
    """Opens one connection a request, as a new client does."""

    def __init__(self, spec: EngineSpec) -> None:
        prepare(spec)
        self._url = urlsplit(spec.model.rstrip("/"))
        self._options = spec.options
        self._slots = ThreadPoolExecutor(max_workers=max(spec.batch, 1))
        self.load_seconds = 0.0
        name = spec.options.get("model_name", "")
        self.facts = ModelFacts(
            name=name or spec.model,
            engine="endpoint",
            notes=("timed by the client, network included; memory and energy are the server's own",),
        )

    def run(self, workload: Workload, variant: int) -> Batch:
        """Prompts of about `prompt_tokens` tokens: their number is what the server says it was."""
        prompts = [" ".join(words(ids)) for ids in workload.prompts(100_000, variant)]
        extra = {"ignore_eos": True, "max_tokens": workload.new_tokens, "cache_prompt": False}
        scheduled = time.perf_counter()
        futures = [self._slots.submit(self._timed, prompt, extra, scheduled) for prompt in prompts]
        return Batch(timelines=tuple(future.result() for future in futures))

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        return self._timed(prompt, {"max_tokens": max_new_tokens}, time.perf_counter())

    def close(self) -> None:
        self._slots.shutdown()

    def _timed(self, prompt: str, extra: dict[str, Any], scheduled: float) -> Timeline:
        body = {"prompt": prompt, "temperature": 0, "stream": True, **extra}
        if self._options.get("model_name"):
            body["model"] = self._options["model_name"]
        if self._options.get("stream_usage", "1") == "1":
            body["stream_options"] = {"include_usage": True}
        arrivals: list[tuple[float, dict[str, Any]]] = []
        error = None
        try:
            connection = self._connection()
            connection.request("POST", f"{self._url.path}/completions", json.dumps(body), self._headers())
            reply = connection.getresponse()
            if reply.status != 200:
                error = f"HTTP {reply.status}: {reply.read(300).decode(errors='replace')}"
            for line in reply:
                if line.startswith(b"data:") and b"[DONE]" not in line:
                    arrivals.append((time.perf_counter() - scheduled, json.loads(line[5:])))
            connection.close()
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return timeline_of(arrivals, time.perf_counter() - scheduled, error)

    def _connection(self) -> http.client.HTTPConnection:
        host = self._url.netloc
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, timeout=TIMEOUT_SECONDS, context=context)
        return http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self._options.get("api_key_variable", "OPENAI_API_KEY"))
        return headers | ({"Authorization": f"Bearer {key}"} if key else {})


def timeline_of(
    arrivals: list[tuple[float, dict[str, Any]]], end_seconds: float, error: str | None
) -> Timeline:
    """Chunks with text are arrivals; where the server counted more tokens than chunks, the rest came with the
    last one."""
    seconds: list[float] = []
    is_answer: list[bool] = []
    text, usage = "", dict[str, Any]()
    for at, chunk in arrivals:
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            written = choice.get("text") or delta.get("content") or ""
            reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
            if written or reasoning:
                seconds.append(at)
                is_answer.append(bool(written))
                text += written
    counted = int(usage.get("completion_tokens") or len(seconds))
    missing = max(counted - len(seconds), 0) if seconds else 0
    first_answer = is_answer.index(True) if True in is_answer else None
    return Timeline(
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        token_seconds=tuple(seconds + seconds[-1:] * missing),
        end_seconds=end_seconds,
        first_answer_token=first_answer,
        error=error or (None if seconds else "the server sent no token"),
        text=text,
    )


def words(ids: list[int]) -> list[str]:
    """A word for each id: common short ones, which most tokenizers keep whole."""
    return [COMMON[number % len(COMMON)] for number in ids]


COMMON_WORDS = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work number night point home water "
    "room mother area money story fact month lot right study book eye job word business issue side kind"
)
COMMON = COMMON_WORDS.split()
