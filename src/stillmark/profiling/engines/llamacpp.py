"""llama.cpp through xllamacpp (extra `llamacpp`): GGUF files in any quantisation, on the CPU.

Prompts go in as token ids and nothing is cached between requests. Tokens are timed as they come out of the
engine's stream. llama.cpp's own times come with them (`timings`): `prompt_ms`, and `predicted_ms` from the
first token to the last. Its `predicted_per_second` divides all tokens by that time, the first one included,
which no decode step wrote: with n tokens it is n/(n-1) too high, so it is not used.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stillmark.compute.gguf_file import GgufFile, read_gguf
from stillmark.errors import UserError
from stillmark.profiling.engines import required
from stillmark.profiling.workload import Batch, EngineSpec, ModelFacts, Timeline, Workload

CACHE_BYTES = {"F32": 4.0, "F16": 2.0, "Q8_0": 34 / 32}


def prepare(spec: EngineSpec) -> GgufFile:
    required("xllamacpp", "llamacpp")
    return read_gguf(spec.model)


def load(spec: EngineSpec, prepared: GgufFile) -> "LlamaCppEngine":
    return LlamaCppEngine(spec, prepared)


class LlamaCppEngine:
    """One llama.cpp server inside this process, with `batch` slots of `context_tokens` each."""

    def __init__(self, spec: EngineSpec, file: GgufFile) -> None:
        xllamacpp = required("xllamacpp", "llamacpp")
        window = file.metadata.get(f"{file.architecture}.context_length")
        if window is not None and spec.context_tokens > int(window):
            raise UserError(
                f"a context of {spec.context_tokens} tokens is over the model's window of {window}"
            )
        parameters = xllamacpp.CommonParams()
        parameters.model.path = spec.model
        parameters.n_ctx = spec.context_tokens * spec.batch
        parameters.n_parallel = spec.batch
        parameters.n_gpu_layers = 0
        parameters.warmup = False  # the procedure warms up, and counts it
        parameters.verbosity = -1
        parameters.cache_ram_mib = 0
        parameters.n_ctx_checkpoints = 0  # for later requests; with sliding windows they split the prompt
        parameters.fit_params = False  # would shrink the context to the memory that is there
        if spec.threads is not None:
            parameters.cpuparams.n_threads = spec.threads
            parameters.cpuparams_batch.n_threads = spec.threads
        began = time.perf_counter()
        self._server = xllamacpp.Server(parameters)
        self.load_seconds = time.perf_counter() - began
        self.facts = facts_of(file, xllamacpp.__version__, xllamacpp.get_system_info())
        self._slots = ThreadPoolExecutor(max_workers=spec.batch)

    def run(self, workload: Workload, variant: int) -> Batch:
        prompts = workload.prompts(self.facts.vocab_size or 1, variant)
        requests = [
            {"prompt": prompt, "n_predict": workload.new_tokens, "ignore_eos": True} for prompt in prompts
        ]
        scheduled = time.perf_counter()
        if len(requests) == 1:
            return Batch(timelines=(self._timed(requests[0], scheduled),))
        futures = [self._slots.submit(self._timed, request, scheduled) for request in requests]
        return Batch(timelines=tuple(future.result() for future in futures))

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        return self._timed({"prompt": prompt, "n_predict": max_new_tokens}, time.perf_counter())

    def close(self) -> None:
        self._slots.shutdown()
        del self._server

    def _timed(self, request: dict[str, Any], scheduled: float) -> Timeline:
        arrivals: list[tuple[float, bytes]] = []

        def on_chunk(chunk: bytes) -> bool:
            arrivals.append((time.perf_counter() - scheduled, chunk))
            return False  # go on

        asked = {"temperature": 0.0, "stream": True, "cache_prompt": False, "timings_per_token": True}
        # bytes in, bytes out: chunks are read as JSON afterwards, as that would take a core from the next token
        self._server.handle_completions(json.dumps({**asked, **request}).encode(), on_chunk)
        end = time.perf_counter() - scheduled
        return timeline_of([(at, json.loads(chunk)) for at, chunk in arrivals], end)


def timeline_of(arrivals: list[tuple[float, dict[str, Any]]], end_seconds: float) -> Timeline:
    """Tokens by the count in each chunk's timings: bytes of one character may hold several tokens back."""
    seconds: list[float] = []
    timings: dict[str, Any] = {}
    error = None
    for at, chunk in arrivals:
        if "error" in chunk or "code" in chunk:
            error = str(chunk.get("error") or chunk.get("message") or chunk)
        timings = chunk.get("timings") or timings
        arrived = int(timings.get("predicted_n", 0)) - len(seconds)
        seconds += [at] * max(arrived, 0)
    return Timeline(
        prompt_tokens=int(timings.get("prompt_n", 0)) + int(timings.get("cache_n", 0)),
        token_seconds=tuple(seconds),
        end_seconds=end_seconds,
        engine_prefill_seconds=timings["prompt_ms"] / 1e3 if timings else None,
        engine_decode_seconds=timings["predicted_ms"] / 1e3 if timings else None,
        error=error or (None if timings else "the engine sent no token"),
        text="".join(
            choice.get("text") or "" for _, chunk in arrivals for choice in chunk.get("choices", [])
        ),
    )


def facts_of(file: GgufFile, version: str, system_info: str) -> ModelFacts:
    return ModelFacts(
        name=file.name,
        engine="llamacpp",
        engine_version=f"xllamacpp {version}",
        file_bytes=file.path.stat().st_size,
        weight_bytes_per_token=file.weight_bytes_per_token,
        weight_format=file.weight_format,
        cache_bytes_per_value=CACHE_BYTES["F16"],
        config=file.config,
        vocab_size=file.vocab_size,
        notes=(system_info.strip(),),
    )
