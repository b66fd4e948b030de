"""llama.cpp in this process (xllamacpp, extra `llamacpp`): GGUF files, quantised, as edge users run them.

llama.cpp batches requests itself over its slots, and keeps a slot's prompt for the next request that begins in
the same way; our requests go to it in the order of their tokens. It does not give the log-probabilities of a
prompt's tokens. So a continuation is scored token by token: the token is forced by a bias that is added after
the model's probabilities have been noted, and its own probability is read back.
"""

import hashlib
import json
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stillmark.backends.protocol import Loglikelihood, Reply, Sampling, StopReason
from stillmark.errors import UserError

FORCING_BIAS = 1e4
LOG_NOTHING = -1
TokenIds = tuple[int, ...]


class LlamaCppBackend:
    """One GGUF file, `num_parallel` requests at a time, each with up to `window_tokens` of prompt and reply."""

    def __init__(
        self,
        path: str | Path,
        *,
        num_threads: int | None = None,
        num_parallel: int = 4,
        window_tokens: int = 4096,
        num_gpu_layers: int = 0,
    ) -> None:
        try:
            import xllamacpp
        except ImportError as error:
            raise UserError(f"llama.cpp is not here: {error}", "pip install 'stillmark[llamacpp]'") from error
        if not Path(path).is_file():
            raise UserError(f"there is no GGUF file `{path}`", "give the path of a .gguf file")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = window_tokens * num_parallel
        parameters.n_parallel = num_parallel
        parameters.n_gpu_layers = num_gpu_layers
        parameters.verbosity = LOG_NOTHING
        parameters.cache_ram_mib = 0  # the slots' own caches do; this one would copy every prompt
        parameters.warmup = False
        if num_threads is not None:
            parameters.cpuparams.n_threads = num_threads
            parameters.cpuparams_batch.n_threads = num_threads
        self.window_tokens = window_tokens
        self.num_parallel = num_parallel
        self._server = xllamacpp.Server(parameters)

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[list[Reply]]:
        """For each prompt, `sampling.num_samples` replies, in the prompts' order."""
        num_written = 1 if sampling.temperature == 0 else sampling.num_samples
        jobs = [(prompt, sample) for prompt in dict.fromkeys(prompts) for sample in range(num_written)]
        with ThreadPoolExecutor(self.num_parallel) as pool:
            replies = dict(
                zip(jobs, pool.map(lambda job: self._reply(job[0], job[1], sampling), jobs), strict=True)
            )
        return [
            [replies[prompt, index % num_written] for index in range(sampling.num_samples)]
            for prompt in prompts
        ]

    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        """For each (prompt, continuation), its log-likelihood, in the requests' order."""
        pairs = [self._encode_pair(*request) for request in requests]
        steps = {
            (prompt + continuation[:index], token)
            for prompt, continuation in pairs
            for index, token in enumerate(continuation)
        }
        order = sorted(steps)
        with ThreadPoolExecutor(self.num_parallel) as pool:
            scored = dict(zip(order, pool.map(lambda step: self._score(*step), order), strict=True))
        results = []
        for prompt, continuation in pairs:
            tokens = [scored[prompt + continuation[:i], token] for i, token in enumerate(continuation)]
            results.append(
                Loglikelihood(
                    loglikelihood=sum(logprob for logprob, _, _ in tokens),
                    is_greedy=all(is_best for _, is_best, _ in tokens),
                    prompt_tokens=len(prompt),
                    continuation_tokens=len(continuation),
                    seconds=sum(seconds for _, _, seconds in tokens),
                )
            )
        return results

    def _reply(self, prompt: str, sample: int, sampling: Sampling) -> Reply:
        answer = self._server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                # Its other samplers are on unless they are told not to be
                "samplers": ["temperature", "top_p"],
                "top_k": 0,
                "min_p": 0.0,
                "repeat_penalty": 1.0,
                "seed": _seed(sampling.seed, prompt, sample),
                "stop": list(sampling.stop),
                "cache_prompt": True,
            }
        )
        if "error" in answer:
            return Reply(
                text="",
                stop_reason=StopReason.ERROR,
                prompt_tokens=int(answer["error"].get("n_prompt_tokens", 0)),
                generated_tokens=0,
                error=str(answer["error"].get("message", answer["error"])),
            )
        [choice] = answer["choices"]
        timings = answer.get("timings") or {}
        return Reply(
            text=choice["text"],
            stop_reason=StopReason.STOP if choice["finish_reason"] == "stop" else StopReason.LENGTH,
            prompt_tokens=answer["usage"]["prompt_tokens"],
            generated_tokens=answer["usage"]["completion_tokens"],
            prefill_seconds=_seconds(timings.get("prompt_ms")),
            decode_seconds=_seconds(timings.get("predicted_ms")),
        )

    def _score(self, ids: TokenIds, token: int) -> tuple[float, bool, float]:
        """log p(token | ids) in nats, whether it is the most likely one, and the seconds that it took."""
        start = time.perf_counter()
        answer = self._server.handle_completions(
            {
                "prompt": list(ids),
                "n_predict": 1,
                "temperature": 0.0,
                "samplers": ["temperature"],
                "logit_bias": [[token, FORCING_BIAS]],
                "logprobs": 1,
                "cache_prompt": True,
            }
        )
        if "error" in answer:
            raise UserError(
                f"llama.cpp refused a prompt of {len(ids)} tokens: {answer['error'].get('message')}",
                "load the backend with a larger window_tokens",
            )
        [noted] = answer["choices"][0]["logprobs"]["content"]
        if noted["id"] != token:
            raise RuntimeError(f"llama.cpp wrote token {noted['id']} where {token} was forced")
        return float(noted["logprob"]), noted["top_logprobs"][0]["id"] == token, time.perf_counter() - start

    def _encode_pair(self, prompt: str, continuation: str) -> tuple[TokenIds, TokenIds]:
        """As the transformers backend splits them (tokens.py)."""
        bare = prompt.rstrip()
        whole_ids = self._tokenize(bare + prompt[len(bare) :] + continuation)
        prompt_ids = self._tokenize(bare)
        num_prompt_tokens = len(prompt_ids)
        if not prompt_ids:
            # Nothing to start from: the beginning token, also where the model is not told to add it
            prompt_ids = self._tokenize(self._get("/props")["bos_token"])[:1]
        continuation_ids = whole_ids[num_prompt_tokens:]
        if not continuation_ids:
            raise UserError(
                f"the continuation {continuation!r} has no tokens of its own",
                "give one with at least one token",
            )
        return prompt_ids, continuation_ids

    def _tokenize(self, text: str) -> TokenIds:
        body = {"content": text, "add_special": True, "parse_special": True}
        return tuple(self._get("/tokenize", body)["tokens"])

    def _get(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the server's own address (loopback) what its Python side does not offer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._server.listening_address + path, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


def _seed(seed: int, prompt: str, sample: int) -> int:
    """32 bits that depend on (seed, prompt, sample) alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{sample}/{prompt}".encode(), digest_size=4).digest())


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
