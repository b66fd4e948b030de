"""IFEval: 541 prompts with instructions that a program can check (Zhou et al., arXiv:2311.07911).

A reply is right where it follows every instruction of its prompt ("prompt-level, strict"). `loose` is the paper's
second grade: each instruction is also followed where it would be without the first or last line, or without asterisks.
"""

import json

from stillmark.tasks.benchmark import Benchmark, Form, Row
from stillmark.tasks.ifeval_rules import RULES
from stillmark.tasks.sources import Hub, RawRow, Source
from stillmark.tasks.verdict import Reading, ScorerError


def read(raw: RawRow) -> Row:
    names, arguments = list(raw["instruction_id_list"]), list(raw["kwargs"])
    if len(names) != len(arguments):
        raise ValueError("`instruction_id_list` and `kwargs` differ in length")
    kept = [{key: value for key, value in one.items() if value is not None} for one in arguments]
    return Row(
        question=raw["prompt"],
        target=json.dumps([[name, given] for name, given in zip(names, kept, strict=True)]),
        answer="",
    )


class InstructionScorer:
    """All instructions of the target, strictly and loosely."""

    version = 2

    def readings(self, answer: str, target: str) -> list[Reading]:
        if not answer.strip():
            return [Reading(extractor="strict", value=None, is_right=None)]
        rules = json.loads(target)
        strict = [follows(answer, *rule) for rule in rules]
        loose = [
            is_followed or any(follows(text, *rule) for text in loosened(answer))
            for is_followed, rule in zip(strict, rules, strict=True)
        ]
        return [
            Reading(extractor="strict", value=answer, is_right=all(strict), is_explicit=False),
            Reading(extractor="loose", value=answer, is_right=all(loose), is_explicit=False),
        ]


def follows(text: str, name: str, arguments: dict[str, object]) -> bool:
    if name not in RULES:
        raise ScorerError(f"IFEval's instruction `{name}` is not known")
    if not text.strip():
        return False
    try:
        return RULES[name](text, arguments)
    except ImportError as error:
        raise ScorerError("the language of a reply is told by langdetect: pip install langdetect") from error


def loosened(text: str) -> list[str]:
    """The seven other readings of the paper: without first line, last line, both; each without asterisks."""
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut[1:], *(part.replace("*", "") for part in cut)]


IFEVAL = Benchmark(
    name="ifeval",
    source=Source(
        files=("ifeval/*.jsonl", "ifeval*.jsonl"),
        hub=Hub(
            repository="google/IFEval", split="train", revision="966cd89545d6b6acfd7638bc708b98261ca58e84"
        ),
    ),
    read=read,
    scorer=InstructionScorer(),
    forms={"generation": Form(question=lambda row: row.question, answer=lambda row: "", max_new_tokens=1280)},
)
