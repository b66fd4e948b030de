"""HumanEval (Chen et al., arXiv:2107.03374), HumanEval+ (Liu et al., 2305.01210), MBPP (Austin et al., 2108.07732)."""

import json
import re

from stillmark.tasks.benchmark import Benchmark, Form, Row
from stillmark.tasks.code_scorer import CodeScorer
from stillmark.tasks.sources import Hub, RawRow, Source

# What HumanEval+'s tests take from numpy, which the sandbox does not have: is one number, or are the numbers of two
# equal lists, within a tolerance, with numpy's own default (relative 1e-7)
NUMPY = """
class np:
    class ndarray: pass
    float32 = float64 = None
    def allclose(out, exp, rtol=1e-7, atol=0.0, equal_nan=True):
        if isinstance(exp, (list, tuple)):
            return isinstance(out, (list, tuple)) and len(out) == len(exp) and all(
                np.allclose(one, other, rtol, atol, equal_nan) for one, other in zip(out, exp))
        return out == exp or (equal_nan and out != out and exp != exp) or abs(out - exp) <= atol + rtol * abs(exp)
    class testing:
        def assert_allclose(out, exp, rtol=1e-7, atol=0.0):
            assert np.allclose(out, exp, rtol, atol)
"""


def read_humaneval(raw: RawRow) -> Row:
    """The function's head is completed; `check` of the tests is then called with the function."""
    test = re.sub(r"^import numpy as np$", NUMPY, raw["test"], flags=re.MULTILINE)
    target = {
        "prefix": raw["prompt"],
        "before": "",
        "after": f"{test}\n\ncheck({raw['entry_point']})",
        "entry_point": raw["entry_point"],
    }
    return Row(question=raw["prompt"], target=json.dumps(target), answer=raw["canonical_solution"], group="")


def humaneval(name: str, files: tuple[str, ...], hub: Hub) -> Benchmark:
    return Benchmark(
        name=name,
        source=Source(files=files, hub=hub),
        read=read_humaneval,
        scorer=CodeScorer(),
        forms={
            "generation": Form(
                question=lambda row: row.question,
                answer=lambda row: row.answer,
                # In the published form nothing is said before the function; a chat model needs to be told.
                chat_instruction="Complete the function. Reply with the whole function in one ```python block.",
                stop=("\nclass ", "\ndef ", "\n#", "\nif __name__", "\nprint("),
                chat_stop=(),
                max_new_tokens=1024,
            )
        },
    )


HUMANEVAL = humaneval(
    "humaneval",
    ("humaneval/HumanEval.jsonl.gz", "humaneval/HumanEval.jsonl", "HumanEval.jsonl*"),
    Hub(
        repository="openai/openai_humaneval",
        configs=("openai_humaneval",),
        split="test",
        revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
    ),
)
HUMANEVAL_PLUS = humaneval(
    "humaneval_plus",
    ("humaneval_plus/*.jsonl*", "HumanEvalPlus*.jsonl*"),
    Hub(
        repository="evalplus/humanevalplus",
        split="test",
        revision="d32357cf319e50e9c8d8dab5ea876c72b0fd321b",
    ),
)

FIRST_TEST, END_TEST = 11, 510  # task ids of the test split; 1-10 are the examples


def read_mbpp(raw: RawRow) -> Row | None:
    return mbpp_row(raw) if FIRST_TEST <= int(raw["task_id"]) <= END_TEST else None


def read_mbpp_shots(raw: RawRow) -> list[Row]:
    """Tasks 2, 3 and 4 are the three examples of the paper."""
    return [mbpp_row(raw)] if int(raw["task_id"]) in (2, 3, 4) else []


def mbpp_row(raw: RawRow) -> Row:
    tests = list(raw["test_list"])
    called = set(re.findall(r"\b(\w+)\s*\(", " ".join(tests)))
    defined = re.findall(r"^def\s+(\w+)", raw["code"], re.MULTILINE)
    entry = next((function for function in defined if function in called), "")
    target = {
        "prefix": "",
        "before": "",
        # After the code: the set-up of task 367 builds objects of a class that the code defines
        "after": "\n".join([str(raw.get("test_setup_code") or ""), *tests]),
        "entry_point": entry,
    }
    shown = "\n".join(tests)
    code = raw["code"].replace("\r\n", "\n").strip()
    return Row(
        question=f"{raw['text'].strip()} Your code should pass these tests:\n\n{shown}",
        target=json.dumps(target),
        answer=code,
    )


def mbpp_source(split: str) -> Source:
    return Source(
        files=("mbpp/mbpp.jsonl", "mbpp.jsonl"),
        hub=Hub(
            repository="google-research-datasets/mbpp",
            configs=("full",),
            split=split,
            revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c",
        ),
    )


MBPP = Benchmark(
    name="mbpp",
    source=mbpp_source("test"),
    shots=mbpp_source("prompt"),
    read=read_mbpp,
    read_shots=read_mbpp_shots,
    scorer=CodeScorer(),
    num_fewshot=3,
    shot_order="fixed",
    forms={
        "generation": Form(
            question=lambda row: (
                f"You are an expert Python programmer, and here is your task: {row.question}\n```python\n"
            ),
            answer=lambda row: f"{row.answer}\n```",
            stop=("\n```",),
            chat_stop=(),
            max_new_tokens=512,
        )
    },
)
