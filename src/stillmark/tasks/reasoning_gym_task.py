"""Any task of reasoning-gym (arXiv:2505.24760), generated: `reasoning_gym:chain_sum`, `reasoning_gym:NAME*500`.

The generator and its seed give the same questions anywhere; its own scorer grades. A target names the generator,
seed and index, from which the scorer makes the entry again. Partial credit below 1 counts as wrong.
"""

import json
import re
from functools import cache
from typing import Any

from stillmark.errors import UserError, did_you_mean
from stillmark.tasks.benchmark import Benchmark, Form, Row
from stillmark.tasks.sources import Generated
from stillmark.tasks.verdict import Reading

SEED = 42
SIZE = 200
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
ASK = "Reason as you need, and give the final answer alone between <answer> and </answer>."


@cache
def generator(name: str, size: int) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError("reasoning-gym is not installed", hint="pip install reasoning-gym") from error
    if name not in DATASETS:
        near = did_you_mean(name, DATASETS)
        raise UserError(
            f"reasoning-gym has no task `{name}`; it has {len(DATASETS)}, such as chain_sum", hint=near
        )
    return reasoning_gym.create_dataset(name, size=size, seed=SEED)


class ReasoningGymScorer:
    """The generator's own `score_answer`: 1 is right."""

    version = 1

    def readings(self, answer: str, target: str) -> list[Reading]:
        wanted = json.loads(target)
        tagged = TAGGED.findall(answer)
        lines = [line.strip() for line in answer.splitlines() if line.strip()]
        found = {"tagged": tagged[-1].strip() if tagged else None, "last_line": lines[-1] if lines else None}
        return [
            Reading(
                extractor=name,
                value=text,
                is_right=None if text is None else is_right(text, wanted),
                is_explicit=name == "tagged",
            )
            for name, text in found.items()
        ]


def is_right(answer: str, wanted: dict[str, Any]) -> bool:
    dataset = generator(wanted["task"], wanted["size"])
    return float(dataset.score_answer(answer, dataset[wanted["index"]])) >= 1.0


def reasoning_gym_benchmark(part: str) -> Benchmark:
    """`chain_sum`, or `chain_sum*500` for another number of questions."""
    name, _, count = part.partition("*")
    if count and not (count.isdecimal() and int(count) > 0):
        raise UserError(f"reasoning_gym:{part}: `{count}` is not a number of questions")
    size = int(count) if count else SIZE
    dataset = generator(name, size)

    def rows() -> list[dict[str, Any]]:
        return [
            {"question": entry["question"], "answer": str(entry["answer"]), "index": index}
            for index, entry in ((index, dataset[index]) for index in range(size))
        ]

    return Benchmark(
        name=f"reasoning_gym_{name}",
        source=Generated(
            rows=rows, package="reasoning_gym", settings={"task": name, "seed": SEED, "size": size}
        ),
        read=lambda raw: Row(
            question=raw["question"].strip(),
            answer=raw["answer"],
            target=json.dumps({"task": name, "size": size, "index": raw["index"], "answer": raw["answer"]}),
        ),
        scorer=ReasoningGymScorer(),
        forms={
            "generation": Form(
                question=lambda row: f"Question: {row.question}\nAnswer:",
                answer=lambda row: f" <answer>{row.answer}</answer>",
                zero_shot_instruction=ASK,
                stop=("\nQuestion:",),
                max_new_tokens=1024,
            )
        },
    )
