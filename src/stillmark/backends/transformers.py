"""The engine that evaluates and generates with any Hugging Face causal language model."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stillmark.backends.plain import plain_generate, plain_logprobs
from stillmark.backends.protocol import Loglikelihood, Reply, Sampling, StopReason
from stillmark.backends.sampling import UniformStream
from stillmark.backends.stopping import StopRule, end_ids_of, reason_of
from stillmark.backends.tokens import TextCodec, TokenIds
from stillmark.errors import UserError

DEFAULT_BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
MAX_ROWS = 256


class TransformersBackend:
    """One loaded model. `max_batch_tokens` is how many token positions one forward pass may hold."""

    def __init__(
        self, model: Any, tokenizer: Any, *, device: str = "cpu", max_batch_tokens: int | None = None
    ) -> None:
        self.model = model.to(device).eval()
        self.tokenizer = tokenizer
        kind = torch.device(device).type
        self.max_batch_tokens = max_batch_tokens or DEFAULT_BATCH_TOKENS.get(kind, 1024)
        self.codec = TextCodec(tokenizer)
        window = getattr(model.config, "max_position_embeddings", None)
        self.window_tokens: int | None = int(window) if window else None
        self._end_ids = end_ids_of(model, tokenizer)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[list[Reply]]:
        """For each prompt, `sampling.num_samples` replies, in the prompts' order."""
        prompt_ids = self.codec.encode_prompts(prompts)
        unique = [ids for ids in dict.fromkeys(prompt_ids) if self._room(ids) > 0]
        num_samples = sampling.num_samples if sampling.temperature > 0 else 1
        keys = [(ids, sample) for ids in unique for sample in range(num_samples)]
        rule = StopRule(self.codec, self._end_ids, sampling.stop)
        start = time.perf_counter()
        rows = [(ids, UniformStream(sampling.seed, ids, sample)) for ids, sample in keys]
        written = plain_generate(self.model, rows, sampling, rule, max_rows=MAX_ROWS)
        seconds = (time.perf_counter() - start) / max(1, len(keys))
        replies = {}
        for key, row in zip(keys, written, strict=True):
            replies[key] = Reply(
                text=rule.reply_text(row.ids),
                stop_reason=reason_of(len(row.ids), 0, row.is_stopped) or StopReason.LENGTH,
                prompt_tokens=len(key[0]),
                generated_tokens=len(row.ids),
                decode_seconds=seconds,
            )
        return [
            [
                replies.get((ids, i if num_samples > 1 else 0)) or self._too_long(ids)
                for i in range(sampling.num_samples)
            ]
            for ids in prompt_ids
        ]

    @torch.inference_mode()
    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        """For each (prompt, continuation), its log-likelihood, in the requests' order."""
        pairs = self.codec.encode_pairs(requests)
        unique = list(dict.fromkeys(pairs))
        start = time.perf_counter()
        scored = plain_logprobs(self.model, unique, max_batch_tokens=self.max_batch_tokens)
        seconds = (time.perf_counter() - start) / max(1, len(pairs))
        result_of = dict(zip(unique, scored, strict=True))
        return [
            Loglikelihood(
                loglikelihood=result_of[pair][0],
                is_greedy=result_of[pair][1],
                prompt_tokens=len(pair[0]),
                continuation_tokens=len(pair[1]),
                seconds=seconds,
            )
            for pair in pairs
        ]

    def _room(self, ids: TokenIds) -> int:
        """How many tokens fit after this prompt."""
        return 1 << 30 if self.window_tokens is None else self.window_tokens - len(ids)

    def _too_long(self, ids: TokenIds) -> Reply:
        return Reply(
            text="",
            stop_reason=StopReason.ERROR,
            prompt_tokens=len(ids),
            generated_tokens=0,
            error=f"the prompt has {len(ids)} tokens, and the model's window is {self.window_tokens}",
        )


def load_backend(
    path_or_id: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    gguf_file: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    max_batch_tokens: int | None = None,
) -> TransformersBackend:
    """A backend from a directory, a hub id, or (with `gguf_file`, or a path that ends in .gguf) a GGUF file.

    Only safetensors are read, so loading a model cannot run its author's code (a pickle can); code that comes
    with a model is run only where `trust_remote_code` asks for it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if path_or_id.endswith(".gguf") and gguf_file is None:
        path_or_id, gguf_file = str(Path(path_or_id).parent), Path(path_or_id).name
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    if gguf_file is not None:
        options["gguf_file"] = gguf_file
    tokenizer = AutoTokenizer.from_pretrained(path_or_id, **options)
    model_options = options if gguf_file is not None else {**options, "use_safetensors": True}
    try:
        model = AutoModelForCausalLM.from_pretrained(path_or_id, dtype=getattr(torch, dtype), **model_options)
    except OSError as error:
        raise UserError(
            f"the model `{path_or_id}` could not be loaded: {error}",
            "give a directory or hub id with safetensors weights, or a GGUF file",
        ) from error
    return TransformersBackend(model, tokenizer, device=device, max_batch_tokens=max_batch_tokens)
