"""GSM8K: grade-school mathematics with a number as the answer (Cobbe et al., arXiv:2110.14168)."""

import re

from stillmark.tasks.benchmark import Benchmark, Form, Row
from stillmark.tasks.forms import bare
from stillmark.tasks.number_scorer import NumberScorer
from stillmark.tasks.sources import Hub, RawRow, Source

REVISION = "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"  # as inspect_evals pins it


def read(raw: RawRow) -> Row:
    """`answer` is a solution with calculator marks <<48/2=24>>, which are taken out, and `#### 24`."""
    solution, _, number = raw["answer"].rpartition("####")
    if not solution:
        raise ValueError("`answer` has no `####`")
    clean = re.sub(r"<<[^>]*>>", "", solution).strip()
    target = number.strip().replace(",", "")
    return Row(
        question=raw["question"].strip(),
        target=target,
        answer=f"#### {target}",
        worked=f"{clean}\n#### {target}",
    )


def source(split: str) -> Source:
    return Source(
        files=(f"gsm8k/{split}.jsonl", f"gsm8k_{split}.jsonl", f"gsm8k/{split}.parquet"),
        hub=Hub(repository="openai/gsm8k", configs=("main",), split=split, revision=REVISION),
    )


GSM8K = Benchmark(
    name="gsm8k",
    source=source("test"),
    shots=source("train"),
    read=read,
    scorer=NumberScorer(),
    num_fewshot=5,
    forms={
        "generation": Form(
            question=bare,
            answer=lambda row: f" {row.worked}",
            zero_shot_instruction="Solve the problem step by step. End with a line `#### ` and the number alone.",
            stop=("\nQuestion:",),
            max_new_tokens=512,
        )
    },
)
