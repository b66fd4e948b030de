"""Hugging Face transformers, on the CPU or one CUDA device: the plain loop of a forward pass a token.

Prefill is one pass over the prompts with logits for the last position; each decode step feeds one token a
sequence and the KV cache. That is what `generate` does, without its per-step bookkeeping; greedy. On CUDA each
token is awaited before its time is taken. `options`: `device` (cpu), `dtype` (float32), `quantise` (torchao-int8 or
torchao-int4; nothing is rounded without it).
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmark.errors import UserError
from stillmark.profiling.engines import torchao
from stillmark.profiling.workload import Batch, EngineSpec, ModelFacts, Timeline, Workload

BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}


@dataclass(frozen=True, kw_only=True)
class Libraries:
    """Imported before the model is loaded, so that neither its time nor its memory holds them."""

    torch: Any
    transformers: Any


def prepare(spec: EngineSpec) -> Libraries:
    import torch
    import transformers

    if spec.options.get("dtype", "float32") not in BYTES:
        raise UserError(f"unknown dtype `{spec.options['dtype']}` (dtypes: {', '.join(BYTES)})")
    if spec.options.get("quantise", "torchao-int8") not in torchao.SETTINGS:
        possible = ", ".join(torchao.SETTINGS)
        raise UserError(
            f"cannot quantise to `{spec.options['quantise']}` in transformers (possible: {possible})"
        )
    if "quantise" in spec.options:
        torchao.library()
    if spec.options.get("device", "cpu") != "cpu" and not torch.cuda.is_available():
        raise UserError(f"no device `{spec.options['device']}`: torch sees no CUDA here")
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    # transformers loads its parts when they are first named
    _ = transformers.AutoModelForCausalLM, transformers.AutoTokenizer, transformers.DynamicCache
    return Libraries(torch=torch, transformers=transformers)


def load(spec: EngineSpec, prepared: Libraries) -> "TransformersEngine":
    return TransformersEngine(spec, prepared)


class TransformersEngine:
    """One causal language model and its tokenizer."""

    def __init__(self, spec: EngineSpec, libraries: Libraries) -> None:
        self._torch = libraries.torch
        self._device = spec.options.get("device", "cpu")
        dtype = spec.options.get("dtype", "float32")
        path = Path(spec.model)
        source, extra = spec.model, {"use_safetensors": True}
        if path.suffix == ".gguf":
            source, extra = str(path.parent), {"gguf_file": path.name}  # type: ignore[dict-item]
        auto = libraries.transformers
        began = time.perf_counter()
        try:
            model = auto.AutoModelForCausalLM.from_pretrained(
                source, dtype=getattr(self._torch, dtype), trust_remote_code=False, **extra
            )
        except OSError as error:
            raise UserError(f"the model `{spec.model}` could not be loaded: {error}") from error
        quantise = spec.options.get("quantise")
        self._model = model.to(self._device).eval()
        if quantise is not None:
            self._model = torchao.rounded(self._model, quantise)
        self.load_seconds = time.perf_counter() - began
        window = getattr(model.config, "max_position_embeddings", None)
        if window is not None and spec.context_tokens > window:
            raise UserError(
                f"a context of {spec.context_tokens} tokens is over the model's window of {window}"
            )
        self._tokenizer_source = (source, {} if "use_safetensors" in extra else extra)
        self._auto = auto
        self.facts = facts_of(model, spec.model, dtype, auto.__version__, self._torch.__version__, quantise)

    def run(self, workload: Workload, variant: int) -> Batch:
        prompts = workload.prompts(self.facts.vocab_size or 1, variant)
        arrivals, end, _ = self._write(prompts, workload.new_tokens, frozenset())
        line = Timeline(prompt_tokens=workload.prompt_tokens, token_seconds=arrivals, end_seconds=end)
        return Batch(timelines=(line,) * workload.batch)

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        source, extra = self._tokenizer_source
        tokenizer = self._auto.AutoTokenizer.from_pretrained(source, trust_remote_code=False, **extra)
        ids = tokenizer(prompt)["input_ids"]
        ends = self._model.generation_config.eos_token_id
        stops = frozenset(ends if isinstance(ends, list) else [ends])
        arrivals, end, written = self._write([ids], max_new_tokens, stops)
        text = tokenizer.decode(written, skip_special_tokens=True)
        return Timeline(prompt_tokens=len(ids), token_seconds=arrivals, end_seconds=end, text=text)

    def close(self) -> None:
        del self._model

    def _write(
        self, prompts: list[list[int]], new_tokens: int, stops: frozenset[int | None]
    ) -> tuple[tuple[float, ...], float, list[int]]:
        """Arrival of each step, the end, and the first sequence's ids. `stops` ends it; only for one prompt."""
        torch, arrivals, written = self._torch, [], []
        scheduled = time.perf_counter()
        with torch.inference_mode():
            ids = torch.tensor(prompts, device=self._device)
            cache = None
            for _ in range(new_tokens):
                output = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = output.past_key_values
                ids = output.logits[:, -1:].argmax(-1)
                written.append(int(ids[0, 0]))  # waits for the device
                arrivals.append(time.perf_counter() - scheduled)
                if written[-1] in stops:
                    break
        return tuple(arrivals), time.perf_counter() - scheduled, written


def facts_of(
    model: Any, name: str, dtype: str, version: str, torch_version: str, quantise: str | None = None
) -> ModelFacts:
    """Weights that a step reads: all parameters, but of an untied embedding only one row. No file holds torchao's."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    is_tied = head is not None and head.weight is embedding.weight
    unread = 0 if is_tied else torchao.stored_bytes(embedding.weight)
    weight_bytes = sum(torchao.stored_bytes(parameter) for parameter in model.parameters())
    return ModelFacts(
        name=name,
        engine="transformers",
        engine_version=f"transformers {version}, torch {torch_version}",
        file_bytes=size_on_disk(Path(name)) if quantise is None else None,
        weight_bytes_per_token=float(weight_bytes - unread),
        weight_format=quantise or dtype,
        cache_bytes_per_value=BYTES[dtype],
        config=model.config.to_dict() if not hasattr(model.config, "num_experts") else None,
        vocab_size=embedding.weight.shape[0],
    )


def size_on_disk(path: Path) -> int | None:
    """Bytes of the weight files; None for a hub id."""
    if path.is_file():
        return path.stat().st_size
    sizes = [file.stat().st_size for file in path.glob("*.safetensors")] if path.is_dir() else []
    return sum(sizes) or None
