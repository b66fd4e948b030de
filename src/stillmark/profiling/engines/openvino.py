"""OpenVINO GenAI (extra `openvino`): a GGUF file or a directory in OpenVINO's format, on the CPU.

Tokens are timed as they reach the streamer's callback. Prompts go in as token ids.
"""

import time
from pathlib import Path
from typing import Any

from stillmark.compute.gguf_file import read_gguf
from stillmark.profiling.engines import required
from stillmark.profiling.engines.transformers import size_on_disk
from stillmark.profiling.workload import Batch, EngineSpec, ModelFacts, Timeline, Workload


def prepare(spec: EngineSpec) -> Any:
    required("openvino", "openvino")
    return required("openvino_genai", "openvino")


def load(spec: EngineSpec, prepared: Any) -> "OpenVinoEngine":
    return OpenVinoEngine(spec, prepared)


class OpenVinoEngine:
    """One pipeline. A batch is refused: its streamer sees one sequence."""

    def __init__(self, spec: EngineSpec, library: Any) -> None:
        self._library = library
        options = {"INFERENCE_NUM_THREADS": spec.threads} if spec.threads is not None else {}
        began = time.perf_counter()
        self._pipeline = library.LLMPipeline(spec.model, "CPU", **options)
        self.load_seconds = time.perf_counter() - began
        self.facts = facts_of(Path(spec.model), getattr(library, "__version__", None))

    def run(self, workload: Workload, variant: int) -> Batch:
        if workload.batch > 1:
            error = "batches are not timed with OpenVINO GenAI: its streamer sees one sequence"
            failed = Timeline(prompt_tokens=0, token_seconds=(), end_seconds=0.0, error=error)
            return Batch(timelines=(failed,) * workload.batch)
        ids = workload.prompts(self.facts.vocab_size or 1, variant)[0]
        return Batch(timelines=(self._write(ids, workload.new_tokens, is_forced=True),))

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        ids = [int(i) for i in self._pipeline.get_tokenizer().encode(prompt).input_ids.data[0]]
        return self._write(ids, max_new_tokens, is_forced=False)

    def close(self) -> None:
        del self._pipeline

    def _write(self, ids: list[int], new_tokens: int, *, is_forced: bool) -> Timeline:
        import numpy as np

        openvino = required("openvino", "openvino")
        config = self._library.GenerationConfig()
        config.max_new_tokens = new_tokens
        config.ignore_eos = is_forced
        config.do_sample = False
        config.apply_chat_template = False
        arrivals: list[float] = []
        running = self._library.StreamingStatus.RUNNING
        scheduled = time.perf_counter()

        class Clock(self._library.StreamerBase):  # type: ignore[name-defined, misc]
            def write(self, tokens: Any) -> Any:
                number = len(tokens) if isinstance(tokens, list) else 1
                arrivals.extend([time.perf_counter() - scheduled] * number)
                return running

            def end(self) -> None:
                pass

        tensor = openvino.Tensor(np.asarray([ids], dtype=np.int64))
        result = self._pipeline.generate(tensor, config, Clock())
        end = time.perf_counter() - scheduled
        text = self._pipeline.get_tokenizer().decode(list(result.tokens[0]))
        return Timeline(prompt_tokens=len(ids), token_seconds=tuple(arrivals), end_seconds=end, text=text)


def facts_of(path: Path, version: str | None) -> ModelFacts:
    version_text = f"openvino-genai {version}" if version else None
    if path.suffix == ".gguf":
        file = read_gguf(path)
        return ModelFacts(
            name=file.name,
            engine="openvino",
            engine_version=version_text,
            file_bytes=path.stat().st_size,
            weight_format=file.weight_format,
            config=file.config,
            vocab_size=file.vocab_size,
            notes=("weights are converted when they are loaded: the bytes that a step reads are not known",),
        )
    return ModelFacts(
        name=path.name,
        engine="openvino",
        engine_version=version_text,
        file_bytes=size_on_disk(path) or sum(file.stat().st_size for file in path.glob("*.bin")) or None,
    )
