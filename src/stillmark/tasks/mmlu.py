"""MMLU, 57 subjects (Hendrycks et al., arXiv:2009.03300), and MMLU-Pro, ten choices (arXiv:2406.01574)."""

import re

from stillmark.tasks.arc import choice_row
from stillmark.tasks.benchmark import Benchmark, Row
from stillmark.tasks.choice_scorer import ChoiceScorer
from stillmark.tasks.forms import letter_forms
from stillmark.tasks.sources import PART, Hub, RawRow, Source

MMLU_REVISION = "c30699e8356da336a370243923dbaf21066bb9fe"  # both as inspect_evals pins them
MMLU_PRO_REVISION = "527feea0afed1de15a8c115abf7be4c912123315"


def read(raw: RawRow) -> Row:
    """The hub's columns (question, subject, choices, answer 0-3), or a subject's CSV with choice0..choice3."""
    choices = list(raw["choices"]) if "choices" in raw else [raw[f"choice{index}"] for index in range(4)]
    subject = raw.get("subject") or re.sub(r"_(test|dev|val)$", "", str(raw[PART]))
    return choice_row(raw["question"].strip(), choices, int(raw["answer"]), subject)


def read_pro(raw: RawRow) -> Row:
    """`cot_content` of the validation split is a worked reply that ends in "The answer is (X)."."""
    worked = str(raw.get("cot_content") or "").removeprefix("A: ").strip()
    return choice_row(
        raw["question"].strip(),
        [str(option) for option in raw["options"] if option != "N/A"],
        int(raw["answer_index"]),
        raw["category"],
        worked or None,
    )


def about(row: Row) -> str:
    subject = row.group.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {subject}." if subject else ""


def source(split: str) -> Source:
    hub_split = {"dev": "dev", "test": "test"}[split]
    return Source(
        files=(f"mmlu/{split}/*.csv", f"mmlu/{split}.jsonl", f"mmlu/{split}.parquet"),
        hub=Hub(repository="cais/mmlu", configs=("all",), split=hub_split, revision=MMLU_REVISION),
    )


def pro_source(split: str) -> Source:
    return Source(
        files=(f"mmlu_pro/{split}.jsonl", f"mmlu_pro/{split}.json", f"mmlu_pro/{split}*.parquet"),
        hub=Hub(repository="TIGER-Lab/MMLU-Pro", split=split, revision=MMLU_PRO_REVISION),
    )


MMLU = Benchmark(
    name="mmlu",
    source=source("test"),
    shots=source("dev"),
    read=read,
    scorer=ChoiceScorer(),
    num_fewshot=5,
    shot_order="fixed",  # the five development questions of each subject, in their order, as published
    forms=letter_forms(instruction=about),
)

MMLU_PRO = Benchmark(
    name="mmlu_pro",
    source=pro_source("test"),
    shots=pro_source("validation"),
    read=read_pro,
    scorer=ChoiceScorer(),
    num_fewshot=5,
    shot_order="fixed",
    forms=letter_forms("generation", instruction=about, max_new_tokens=2048),
)
