"""HellaSwag: the ending that makes sense (Zellers et al., arXiv:1905.07830). Texts cleaned as lm-eval does it."""

import re

from stillmark.tasks.arc import choice_row
from stillmark.tasks.benchmark import Benchmark, Row
from stillmark.tasks.choice_scorer import ChoiceScorer
from stillmark.tasks.forms import text_forms
from stillmark.tasks.sources import Hub, RawRow, Source

REVISION = "218ec52e09a7e7462a5400043bb9a69a41d06b76"  # as inspect_evals pins it


def read(raw: RawRow) -> Row:
    context = raw["ctx_a"] + " " + raw["ctx_b"].capitalize()
    endings = [clean(ending) for ending in raw["endings"]]
    return choice_row(clean(f"{raw['activity_label']}: {context}"), endings, int(raw["label"]))


def clean(text: str) -> str:
    """WikiHow's marks, such as [header], are taken out."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def source(split: str) -> Source:
    return Source(
        files=(f"hellaswag/{split}.jsonl", f"hellaswag_{split}.jsonl", f"hellaswag/{split}*.parquet"),
        hub=Hub(repository="Rowan/hellaswag", split=split, revision=REVISION),
    )


def lettered_ending(row: Row) -> str:
    options = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", row.choices, strict=True))
    return f"Question: Which ending makes sense?\n{row.question}\n{options}\nAnswer:"


HELLASWAG = Benchmark(
    name="hellaswag",
    source=source("validation"),  # the test split has no published answers
    shots=source("train"),
    read=read,
    scorer=ChoiceScorer(),
    forms=text_forms(question=lambda row: row.question, shown=lettered_ending),
)
