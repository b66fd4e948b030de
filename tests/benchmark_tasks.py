"""A text study that is asked two benchmarks of its user's own: one of choices, one that is written."""

import json
from pathlib import Path

import yaml
from tests.test_text_study import study_of

CHOICES = [
    {"question": f"Which is {a} + {b}?", "options": [str(a + b), str(a + b + 1), str(a * b + 7)], "right": 0}
    for a in range(4)
    for b in range(4)
]
WRITTEN = [{"question": f"Write {word} again.", "answer": word} for word in ("sea", "sand", "maps", "wind")]
EQUAL = "What is 2 + 3?"  # of the training text: not to be learned from where a benchmark asks it


def write_tasks(folder: Path) -> None:
    def task(name: str, rows: list, **said: str) -> None:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "file": f"{name}.jsonl", **said}))

    task("sums", CHOICES, question="{question}", answer="{right}", choices="options", answer_is="index")
    task("words", WRITTEN, question="{question}", answer="{answer}", scorer="contains")
    task("known", [{"question": EQUAL, "answer": "5"}], question="{question}", answer="{answer}")


def benchmark_study(folder: Path) -> dict:
    write_tasks(folder)
    study = study_of(folder)
    del study["arms"]["cached"]
    names = [f"{folder}/sums.yaml@loglikelihood", f"{folder}/words.yaml"]
    asked = {
        "tasks": names,
        "limit": 12,
        "max_new_tokens": 8,
        "arms": ["teacher", "live"],
        "checkpoints": "all",
    }
    return study | {"conclusion": {"students": ["live"]}, "benchmarks": asked}
