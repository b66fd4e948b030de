"""Every benchmark by its name, and the names that are made: a subject, a generator, a user's file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stillmark.errors import UserError, did_you_mean
from stillmark.tasks.arc import ARC_CHALLENGE, ARC_EASY
from stillmark.tasks.bbh import BBH
from stillmark.tasks.benchmark import Benchmark, Mode
from stillmark.tasks.gsm8k import GSM8K
from stillmark.tasks.mmlu import MMLU, MMLU_PRO

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (GSM8K, ARC_EASY, ARC_CHALLENGE, MMLU, MMLU_PRO, BBH)
}

MADE: dict[str, Callable[[str], Benchmark]] = {}  # prefix -> from what follows it

MODES: dict[str, Mode] = {"generation": "generation", "loglikelihood": "loglikelihood"}


def find_benchmark(name: str) -> tuple[Benchmark, Mode]:
    """`gsm8k`, `mmlu:anatomy`, `arc_easy@generation`, `reasoning_gym:chain_sum`, `my_task.yaml`."""
    base, _, asked = name.partition("@")
    if asked and asked not in MODES:
        raise UserError(f"task `{name}`: unknown mode `{asked}`", hint=f"modes: {', '.join(MODES)}")
    if Path(base).suffix in (".yaml", ".yml"):
        benchmark = MADE["yaml"](base)
    else:
        head, _, part = base.partition(":")
        if part and head in MADE:
            benchmark = MADE[head](part)
        elif head in BENCHMARKS:
            benchmark = replace(BENCHMARKS[head], name=base, group=part or None)
        else:
            known = [*BENCHMARKS, *(f"{prefix}:..." for prefix in MADE if prefix != "yaml"), "FILE.yaml"]
            raise UserError(
                f"unknown task `{name}`\ntasks: {', '.join(known)}", hint=did_you_mean(head, BENCHMARKS)
            )
    return benchmark, benchmark.form(MODES.get(asked))[0]
