"""Every benchmark by its name, and the names that are made: a subject, a generator, a user's file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stillmark.errors import UserError, did_you_mean
from stillmark.tasks.arc import ARC_CHALLENGE, ARC_EASY
from stillmark.tasks.bbh import BBH
from stillmark.tasks.benchmark import Benchmark, Mode
from stillmark.tasks.code_benchmarks import HUMANEVAL, HUMANEVAL_PLUS, MBPP
from stillmark.tasks.gpqa import GPQA_DIAMOND
from stillmark.tasks.gsm8k import GSM8K
from stillmark.tasks.hellaswag import HELLASWAG
from stillmark.tasks.ifeval import IFEVAL
from stillmark.tasks.livecodebench import LIVECODEBENCH, livecodebench
from stillmark.tasks.mathematics import AIME_2024, AIME_2025, MATH_500
from stillmark.tasks.mmlu import MMLU, MMLU_PRO
from stillmark.tasks.reasoning_gym_task import reasoning_gym_benchmark
from stillmark.tasks.user_task import load_user_task

ALL = (
    GSM8K, MATH_500, AIME_2024, AIME_2025, GPQA_DIAMOND, MMLU, MMLU_PRO, ARC_EASY, ARC_CHALLENGE, HELLASWAG, BBH,
    HUMANEVAL, HUMANEVAL_PLUS, MBPP, LIVECODEBENCH, IFEVAL,
)  # fmt: skip
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in ALL}

MADE: dict[str, Callable[[str], Benchmark]] = {  # prefix -> from what follows it
    "yaml": load_user_task,
    "reasoning_gym": reasoning_gym_benchmark,
    "livecodebench": livecodebench,
}

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
