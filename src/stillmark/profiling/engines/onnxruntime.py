"""ONNX Runtime GenAI (extra `onnxruntime`): a directory that its model builder wrote (genai_config.json).

Make one with `python -m onnxruntime_genai.models.builder -i HF_DIRECTORY -o OUT -p int4 -e cpu`. The thread
count goes in as the session's intra-op threads. One request at a time or a batch of equal lengths, greedy.
"""

import json
import time
from pathlib import Path
from typing import Any

from stillmark.errors import UserError
from stillmark.profiling.engines import required
from stillmark.profiling.workload import Batch, EngineSpec, ModelFacts, Timeline, Workload


def prepare(spec: EngineSpec) -> Any:
    library = required("onnxruntime_genai", "onnxruntime")
    if not (Path(spec.model) / "genai_config.json").is_file():
        raise UserError(
            f"{spec.model} holds no genai_config.json",
            hint="write it with `python -m onnxruntime_genai.models.builder`",
        )
    return library


def load(spec: EngineSpec, prepared: Any) -> "OnnxRuntimeEngine":
    return OnnxRuntimeEngine(spec, prepared)


class OnnxRuntimeEngine:
    """One model; a new generator for each request, so nothing is cached between them."""

    def __init__(self, spec: EngineSpec, library: Any) -> None:
        self._library = library
        self._context_tokens = spec.context_tokens
        config = library.Config(spec.model)
        if spec.threads is not None:
            options = {"intra_op_num_threads": spec.threads}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        began = time.perf_counter()
        self._model = library.Model(config)
        self.load_seconds = time.perf_counter() - began
        self._tokenizer = library.Tokenizer(self._model)
        self.facts = facts_of(Path(spec.model), getattr(library, "__version__", None))

    def run(self, workload: Workload, variant: int) -> Batch:
        prompts = workload.prompts(self.facts.vocab_size or 1, variant)
        arrivals, end, _ = self._write(prompts, workload.new_tokens, is_forced=True)
        line = Timeline(prompt_tokens=workload.prompt_tokens, token_seconds=arrivals, end_seconds=end)
        return Batch(timelines=(line,) * workload.batch)

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        ids = [int(token) for token in self._tokenizer.encode(prompt)]
        arrivals, end, written = self._write([ids], max_new_tokens, is_forced=False)
        text = self._tokenizer.decode(written)
        return Timeline(prompt_tokens=len(ids), token_seconds=arrivals, end_seconds=end, text=text)

    def close(self) -> None:
        del self._model

    def _write(
        self, prompts: list[list[int]], new_tokens: int, *, is_forced: bool
    ) -> tuple[tuple[float, ...], float, list[int]]:
        length = len(prompts[0]) + new_tokens
        options: dict[str, Any] = {"max_length": length, "batch_size": len(prompts), "do_sample": False}
        if is_forced:
            options["min_length"] = length  # the end token is not taken before
        arrivals: list[float] = []
        scheduled = time.perf_counter()
        parameters = self._library.GeneratorParams(self._model)
        parameters.set_search_options(**options)
        generator = self._library.Generator(self._model, parameters)
        import numpy as np

        generator.append_tokens(np.asarray(prompts, dtype=np.int32))
        while not generator.is_done() and len(arrivals) < new_tokens:
            generator.generate_next_token()
            arrivals.append(time.perf_counter() - scheduled)
        end = time.perf_counter() - scheduled
        return tuple(arrivals), end, [int(i) for i in generator.get_sequence(0)[len(prompts[0]) :]]


def facts_of(folder: Path, version: str | None) -> ModelFacts:
    """The weights lie beside the graph; how they divide into matrices is not read, so MBU is unknown."""
    described = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
    sizes = [file.stat().st_size for file in folder.glob("*.onnx*")]
    return ModelFacts(
        name=folder.name,
        engine="onnxruntime",
        engine_version=f"onnxruntime-genai {version}" if version else None,
        file_bytes=sum(sizes) or None,
        vocab_size=described.get("vocab_size"),
    )
