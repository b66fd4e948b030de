"""One model in two engines: transformers in float32, and llama.cpp on GGUF files of several precisions.

    flock /tmp/bench.lock python -m benchmarks.engines --gguf SmolLM2-135M-Instruct.Q4_1.gguf

Items a second and the change in score, with its paired interval, on ARC-Easy (zero-shot, each answer's text scored
by log-likelihood), and generated tokens a second on GSM8K questions. All arms come from one file, so the weights of
`F32` are the float32 model's to the bit, and its row shows what the engine alone changes. CPU seconds are the whole
process's, every thread; loading is not in them. Prints Markdown; `engines.md` holds a run.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.paths import SHARED

from stillmark.analysis.paired import compare
from stillmark.backends.protocol import Backend, Reply, Sampling
from stillmark.profiling.quantise import quantise
from stillmark.provenance import package_version
from stillmark.tasks.arc import read

FORMATS = ("F32", "Q8_0", "Q4_1", "Q4_0")
WRITING = Sampling(max_new_tokens=48)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One arm: what it answered, and what that took."""

    name: str
    file_bytes: int
    correct: list[bool]
    loglikelihoods: list[float]
    replies: list[Reply]
    scoring_cpu_seconds: float
    scoring_wall_seconds: float
    writing_cpu_seconds: float
    writing_wall_seconds: float

    @property
    def generated_tokens(self) -> int:
        return sum(reply.generated_tokens for reply in self.replies)


def arc_requests(num_items: int) -> tuple[list[tuple[str, str]], list[tuple[int, int]]]:
    """(prompt, choice) of each item in turn, and for each item its number of choices and the right one."""
    assert SHARED is not None, "needs /work/shared/data (STILLMARK_SHARED)"
    rows = [read(raw) for raw in json.loads((SHARED / "data/arc/ARC-Easy/test.json").read_text())[:num_items]]
    requests = [
        (f"Question: {row.question}\nAnswer:", f" {choice}") for row in rows for choice in row.choices
    ]
    return requests, [(len(row.choices), "ABCDEFGH".index(str(row.answer))) for row in rows]


def gsm8k_prompts(num_prompts: int) -> list[str]:
    assert SHARED is not None
    lines = (SHARED / "peers/lmeval/requests/gsm8k_local.jsonl").read_text().splitlines()[:num_prompts]
    questions = [json.loads(line)["context"].rsplit("Question:", 1)[1] for line in lines]
    return [f"Question:{question}" for question in questions]


def measure(
    name: str, file_bytes: int, backend: Backend, items: tuple[Any, Any], prompts: Sequence[str]
) -> Measured:
    requests, shapes = items
    backend.loglikelihood(requests[:2])  # the first request also allocates
    scores, scoring_cpu, scoring_wall = _timed(lambda: backend.loglikelihood(requests))
    replies, writing_cpu, writing_wall = _timed(lambda: backend.generate(prompts, WRITING))
    values = [score.loglikelihood for score in scores]
    correct, start = [], 0
    for num_choices, right in shapes:
        choices = values[start : start + num_choices]
        correct.append(choices.index(max(choices)) == right)
        start += num_choices
    return Measured(
        name=name,
        file_bytes=file_bytes,
        correct=correct,
        loglikelihoods=values,
        replies=[samples[0] for samples in replies],
        scoring_cpu_seconds=scoring_cpu,
        scoring_wall_seconds=scoring_wall,
        writing_cpu_seconds=writing_cpu,
        writing_wall_seconds=writing_wall,
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def measure_all(gguf: Path, num_items: int, num_prompts: int, num_threads: int) -> list[Measured]:
    import torch

    from stillmark.backends.llamacpp import LlamaCppBackend
    from stillmark.backends.transformers import load_backend

    torch.set_num_threads(num_threads)
    items, prompts = arc_requests(num_items), gsm8k_prompts(num_prompts)
    backend: Backend = load_backend(str(gguf))
    arms = [measure("transformers, float32", gguf.stat().st_size, backend, items, prompts)]
    del backend
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            is_shipped = name in gguf.name
            path = gguf if is_shipped else quantise(gguf, Path(folder) / f"{name}.gguf", name).path
            engine = LlamaCppBackend(path, num_threads=num_threads, window_tokens=1024)
            label = f"llama.cpp, {name}" + (" (as shipped)" if is_shipped else "")
            arms.append(measure(label, path.stat().st_size, engine, items, prompts))
            del engine
    return arms


def table(arms: Sequence[Measured]) -> str:
    base = arms[0]
    lines = [
        "| engine, weights | ARC-Easy | difference, 95% | only base / only it | items/CPU s | items/s | "
        "generated tokens/CPU s | largest change of a log-likelihood | same greedy texts |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for arm in arms:
        num_items = len(arm.correct)
        compared = compare(arm.correct, base.correct) if arm is not base else None
        interval = compared.difference if compared else None
        difference = f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else "-"
        disagreements = f"{compared.num_second_only} / {compared.num_first_only}" if compared else "-"
        changes = [abs(a - b) for a, b in zip(arm.loglikelihoods, base.loglikelihoods, strict=True)]
        same = sum(a.text == b.text for a, b in zip(arm.replies, base.replies, strict=True))
        lines.append(
            f"| {arm.name} | {sum(arm.correct) / num_items:.3f} | {difference} | {disagreements} "
            f"| {num_items / arm.scoring_cpu_seconds:.2f} | {num_items / arm.scoring_wall_seconds:.2f} "
            f"| {arm.generated_tokens / arm.writing_cpu_seconds:.1f} | {max(changes):.4f} "
            f"| {same} of {len(arm.replies)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    arms = measure_all(options.gguf, options.items, options.prompts, options.threads)
    versions = ", ".join(f"{n} {package_version(n)}" for n in ("torch", "transformers", "xllamacpp"))
    print(
        f"{options.gguf.name}, {options.items} items, {options.prompts} prompts, {options.threads} thread(s)"
    )
    print(f"{versions}; {platform.machine()}, {platform.system()}\n")
    print(table(arms))


if __name__ == "__main__":
    main()
