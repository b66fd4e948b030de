"""GGUF models, quantised or not, in llama.cpp (xllamacpp, which carries it as a wheel).

llama.cpp batches what is asked at once over `num_parallel` sequences, and each slot keeps the keys and values of its
latest prompt, so prompts with the same beginning, asked one after the other, are computed once a slot. Its numbers
depend on what runs beside a request by rounding: `num_parallel=1` where greedy texts must come again to the letter.

Sampling is temperature, then top_p, from the whole vocabulary, as in the other engines: llama.cpp's own defaults
(top_k 40, min_p 0.05, top_p before temperature) are switched off.

A log-likelihood is read a token at a time: the token is forced by a logit bias, and llama.cpp reports the
probability of what it wrote from the logits before the bias. Of a token that ends within a character (a byte of an
emoji) it reports none, so there a letter is forced and every token's probability listed, in half a second at V = 49k.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from stillmark.backends.api_request import sample_seed
from stillmark.backends.llamacpp_tokens import GgufTokenizer
from stillmark.backends.protocol import Loglikelihood, Reply, Sampling, StopReason
from stillmark.backends.tokens import TextCodec, TokenIds
from stillmark.errors import UserError

T = TypeVar("T")
FORCING_BIAS = 1e6  # added to one logit: no other token can win
EVERY_TOKEN = 1 << 24  # more than any vocabulary has: llama.cpp lists what there is
SMALLEST_LOGPROB = (
    -87.0
)  # below exp of this a float32 probability loses digits, and llama.cpp reports no logits


@dataclass(frozen=True, kw_only=True)
class _Scored:
    logprob: float
    is_best: bool
    seconds: float


class LlamaCppBackend:
    """One GGUF file, loaded. `window_tokens` is the window of each of the `num_parallel` sequences.

    `tokenizer`: reads the prompts in place of the file's own, for a file without rules of how text is split.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        num_threads: int | None = None,
        num_parallel: int = 4,
        window_tokens: int = 4096,
        num_gpu_layers: int = 0,
        tokenizer: Any = None,
    ) -> None:
        self.path = Path(path)
        self.num_parallel = num_parallel
        self._server = _load(self.path, num_threads, num_parallel, window_tokens, num_gpu_layers)
        own = GgufTokenizer(self._server.listening_address)
        self.tokenizer = own if tokenizer is None else tokenizer
        self.codec = TextCodec(self.tokenizer)
        self.window_tokens = own.window_tokens
        self.work = None  # what its slots found in their caches is told, what they multiplied is not

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[list[Reply]]:
        """For each prompt, `sampling.num_samples` replies, in the prompts' order. Equal prompts are asked once."""
        ids_of = dict(zip(prompts, self.codec.encode_prompts(prompts), strict=True))
        times_asked = Counter(prompts)
        num_written = 1 if sampling.temperature == 0 else sampling.num_samples  # greedy samples are one text
        jobs = [(prompt, sample) for prompt in times_asked for sample in range(num_written)]
        started = time.perf_counter()
        answers = self._spread(
            jobs,
            lambda job, slot: self._write(ids_of[job[0]], sampling, sample_seed(sampling.seed, *job), slot),
        )
        answer_of = dict(zip(jobs, answers, strict=True))
        scale = _share(time.perf_counter() - started, (_slot_seconds(answer) for answer in answers))
        replies = {}
        for prompt, num_times in times_asked.items():
            share = scale * num_written / (num_times * sampling.num_samples)
            replies[prompt] = [
                _reply(answer_of[prompt, sample % num_written], len(ids_of[prompt]), share)
                for sample in range(sampling.num_samples)
            ]
        return [replies[prompt] for prompt in prompts]

    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        """For each (prompt, continuation), its log-likelihood, in the requests' order.

        Where both do not fit a slot's window, the prompt loses tokens from its left (`truncated_tokens`).
        """
        whole = self.codec.encode_pairs(requests)
        pairs = [self._fitted(*pair) for pair in whole]
        times_asked = Counter(pairs)
        by_prompt: dict[TokenIds, list[TokenIds]] = {}
        for prompt, continuation in times_asked:
            by_prompt.setdefault(prompt, []).append(continuation)
        started = time.perf_counter()
        groups = self._spread(list(by_prompt.items()), lambda group, slot: self._score_group(*group, slot))
        elapsed = time.perf_counter() - started
        scored = {pair: tokens for group in groups for pair, tokens in group.items()}
        scale = _share(elapsed, (token.seconds for tokens in scored.values() for token in tokens))
        return [
            Loglikelihood(
                loglikelihood=sum(token.logprob for token in scored[pair]),
                is_greedy=all(token.is_best for token in scored[pair]),
                prompt_tokens=len(pair[0]),
                continuation_tokens=len(pair[1]),
                seconds=scale * sum(token.seconds for token in scored[pair]) / times_asked[pair],
                truncated_tokens=len(full[0]) - len(pair[0]),
            )
            for pair, full in zip(pairs, whole, strict=True)
        ]

    def token_nats(self, token_ids: Sequence[int], targets: Sequence[int | None]) -> list[float]:
        """-ln P(target | tokens up to its place) for each place that has a target, in one slot, in order."""
        ids = tuple(token_ids)
        return [
            -self._score_token(ids[: place + 1], target, 0).logprob
            for place, target in enumerate(targets)
            if target is not None
        ]

    def _write(self, ids: TokenIds, sampling: Sampling, seed: int, slot: int) -> dict[str, Any]:
        return self._complete(
            ids,
            slot,
            n_predict=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed,
            stop=list(sampling.stop),
            samplers=["temperature", "top_p"],
        )

    def _score_group(
        self, prompt: TokenIds, continuations: Iterable[TokenIds], slot: int
    ) -> dict[tuple[TokenIds, TokenIds], list[_Scored]]:
        """All continuations of one prompt in one slot; a beginning that two share is read once."""
        known: dict[TokenIds, _Scored] = {}
        results = {}
        for continuation in sorted(continuations):
            tokens = []
            for end in range(1, len(continuation) + 1):
                part = continuation[:end]
                is_new = part not in known
                if is_new:
                    known[part] = self._score_token(prompt + part[:-1], part[-1], slot)
                scored = known[part]
                seconds = scored.seconds if is_new else 0.0
                tokens.append(_Scored(logprob=scored.logprob, is_best=scored.is_best, seconds=seconds))
            results[prompt, continuation] = tokens
        return results

    def _score_token(self, before: TokenIds, token: int, slot: int) -> _Scored:
        answer = self._forced(before, token, slot, num_listed=1)
        if answer["choices"][0]["logprobs"] is None:  # it is held back: the token ends within a character
            letter = self.codec.encode_prompts(["a"])[0][-1]
            answer = self._forced(before, letter, slot, num_listed=EVERY_TOKEN)
            [other] = answer["choices"][0]["logprobs"]["content"]
            [written] = [listed for listed in other["top_logprobs"] if listed["id"] == token]
            best = other["top_logprobs"][0]
        else:
            [written] = answer["choices"][0]["logprobs"]["content"]
            best = written["top_logprobs"][0]
        if written["id"] != token:
            raise RuntimeError(f"llama.cpp wrote token {written['id']} where {token} was forced")
        logprob = float(written["logprob"])
        if logprob < SMALLEST_LOGPROB:
            raise UserError(
                f"token {token} has a probability too small for llama.cpp to report (log {logprob:.3g})",
                "score this text with the transformers engine",
            )
        is_best = best["id"] == token or best["logprob"] <= logprob
        return _Scored(logprob=logprob, is_best=is_best, seconds=_slot_seconds(answer))

    def _forced(self, before: TokenIds, token: int, slot: int, *, num_listed: int) -> dict[str, Any]:
        """llama.cpp's answer where it can write nothing but this token, with the likeliest tokens listed."""
        bias = [[token, FORCING_BIAS]]
        answer = self._complete(
            before, slot, n_predict=1, temperature=0, n_probs=num_listed, logit_bias=bias, samplers=[]
        )
        if "error" in answer:
            raise RuntimeError(f"llama.cpp could not score a token: {answer['error']}")
        return answer

    def _complete(self, ids: TokenIds, slot: int, **options: Any) -> dict[str, Any]:
        body = {"prompt": list(ids), "id_slot": slot, "cache_prompt": True, **options}
        answer: dict[str, Any] = self._server.handle_completions(body)
        return answer

    def _spread(self, jobs: Sequence[T], work: Callable[[T, int], Any]) -> list[Any]:
        """Runs the jobs on all slots, in order, each slot with its own thread; their results in order."""
        waiting: SimpleQueue[int] = SimpleQueue()
        for index in range(len(jobs)):
            waiting.put(index)
        results: dict[int, Any] = {}
        stopped = threading.Event()

        def serve(slot: int) -> None:
            while not stopped.is_set():
                try:
                    index = waiting.get_nowait()
                except Empty:
                    return
                try:
                    results[index] = work(jobs[index], slot)
                except BaseException:
                    stopped.set()
                    raise

        with ThreadPoolExecutor(self.num_parallel) as pool:
            for future in [pool.submit(serve, slot) for slot in range(self.num_parallel)]:
                future.result()
        return [results[index] for index in range(len(jobs))]

    def _fitted(self, prompt: TokenIds, continuation: TokenIds) -> tuple[TokenIds, TokenIds]:
        room = self.window_tokens - len(continuation)
        if room < 1:
            raise UserError(
                f"a continuation has {len(continuation)} tokens; a slot's window is {self.window_tokens}",
                "give more window_tokens, or score shorter texts",
            )
        return prompt[-room:], continuation


def _load(
    path: Path, num_threads: int | None, num_parallel: int, window_tokens: int, num_gpu_layers: int
) -> Any:
    """llama.cpp's server in this process. It also listens on loopback, for its tokenizer's sake."""
    try:
        import xllamacpp
    except ImportError as error:
        raise UserError("xllamacpp is not installed", "pip install 'stillmark[llamacpp]'") from error
    if not path.is_file():
        raise UserError(f"there is no GGUF file `{path}`", "give the path of a .gguf file")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel = num_parallel
    parameters.n_ctx = window_tokens * num_parallel
    parameters.n_gpu_layers = num_gpu_layers
    if num_threads is not None:  # else llama.cpp takes the number of cores
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = num_threads
    parameters.fit_params = False  # it would change the window to what memory allows, without a word
    parameters.cache_ram_mib = 0  # old prompts kept outside the slots: up to 8 GiB by default
    parameters.ctx_shift = False  # it would drop the prompt's beginning, without a word
    parameters.endpoint_props = False  # the settings can be read, not changed
    parameters.verbosity = 0
    try:
        return xllamacpp.Server(parameters)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: llama.cpp could not load it: {error}") from error


def _slot_seconds(answer: dict[str, Any]) -> float:
    timings = answer.get("timings", {})
    return float(timings.get("prompt_ms", 0.0) + timings.get("predicted_ms", 0.0)) / 1000


def _share(elapsed_seconds: float, slot_seconds: Iterable[float]) -> float:
    """What a slot's second is worth: slots run side by side, and shares are to add up to the time that passed."""
    total = sum(slot_seconds)
    return elapsed_seconds / total if total else 0.0


def _reply(answer: dict[str, Any], prompt_tokens: int, share: float) -> Reply:
    if "error" in answer:
        message = str(answer["error"].get("message", answer["error"]))
        reason = StopReason.ERROR
        return Reply(
            text="", stop_reason=reason, prompt_tokens=prompt_tokens, generated_tokens=0, error=message
        )
    choice, timings = answer["choices"][0], answer["timings"]
    reasons = {"stop": StopReason.STOP, "length": StopReason.LENGTH}
    reason = reasons.get(choice["finish_reason"], StopReason.ERROR)
    return Reply(
        text=choice["text"],
        stop_reason=reason,
        prompt_tokens=prompt_tokens,
        generated_tokens=answer["usage"]["completion_tokens"],
        prefill_seconds=share * timings["prompt_ms"] / 1000,
        decode_seconds=share * timings["predicted_ms"] / 1000,
        cached_tokens=timings["cache_n"],
        error=None if reason is not StopReason.ERROR else f"llama.cpp ended with `{choice['finish_reason']}`",
    )
