"""BIG-Bench Hard, 27 sub-tasks with the authors' three worked examples (Suzgun et al., arXiv:2210.09261)."""

import re

from stillmark.tasks.benchmark import Benchmark, Form, Row
from stillmark.tasks.sources import PART, Hub, RawRow, Source
from stillmark.tasks.verdict import Reading

COT = "Let's think step by step."
GROUPS = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "dyck_languages",
    "formal_fallacies", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects",
    "logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation",
    "multistep_arithmetic_two", "navigate", "object_counting", "penguins_in_a_table",
    "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks",
    "sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies",
    "word_sorting",
)  # fmt: skip


def read(raw: RawRow) -> Row:
    return Row(
        question=raw["input"].strip(),
        target=raw["target"].strip(),
        answer=raw["target"].strip(),
        group=raw[PART],
    )


def examples_of(text: str, group: str) -> list[Row]:
    """A cot-prompts file: canary, a line of dashes, the task in a sentence, then `Q:` and `A:` three times."""
    body = text.partition("-----\n")[2] or text
    instruction, *questions = re.split(r"\n\nQ: ", "\n\n" + body.strip() if body.startswith("Q: ") else body)
    rows = []
    for question in questions:
        asked, _, worked = question.partition(f"\nA: {COT}")
        answer = phrase(worked)
        if answer is None:
            raise ValueError(f"a worked example of {group} has no `the answer is`")
        rows.append(
            Row(
                question=asked.strip(),
                worked=worked.rstrip(),  # the space or line break before it is the sub-task's own
                target=answer,
                answer=answer,
                group=group,
                instruction=instruction.strip(),
            )
        )
    return rows


def phrase(text: str) -> str | None:
    """What follows the last "the answer is", to the end of its line and without the full stop."""
    found: list[str] = re.findall(r"\b(?:the answer is|answer:)[ \t]*(.+)", text, re.IGNORECASE)
    return found[-1].strip().removesuffix(".").strip() if found else None


class BbhScorer:
    """Equality of the answer after "the answer is"; spaces, case, quotes and a final stop do not count.

    Of a choice `(B)` the letter alone counts, so that "B" and "(B) 12/25/1937" are right. A reply that is one
    line without the phrase is the answer itself.
    """

    version = 1

    def readings(self, answer: str, target: str) -> list[Reading]:
        lines = [line for line in answer.strip().splitlines() if line.strip()]
        found = {"phrase": phrase(answer), "whole": lines[0].strip() if len(lines) == 1 else None}
        return [
            Reading(
                extractor=name,
                value=text,
                is_right=None if text is None else plain(text, target) == plain(target, target),
                is_explicit=name == "phrase",
            )
            for name, text in found.items()
        ]


def plain(text: str, target: str) -> str:
    if re.fullmatch(r"\([A-Z]\)", target):
        match = re.match(r"[\s*\"']*\(?([A-Z])\)?(?![\w'])", text)
        return match.group(1) if match else text
    return re.sub(r"[\s,]+", "", text.strip().strip("\"'*`").rstrip(".")).casefold()


BBH = Benchmark(
    name="bbh",
    source=Source(
        files=("bbh/bbh/*.json", "bbh/*.json"),
        hub=Hub(repository="lukaemon/bbh", configs=GROUPS, split="test", revision=None),
    ),
    shots=Source(files=("bbh/cot-prompts/*.txt",)),
    read=read,
    read_shots=lambda raw: examples_of(raw["text"], raw[PART]),
    scorer=BbhScorer(),
    num_fewshot=3,
    shot_order="fixed",
    forms={
        "generation": Form(
            question=lambda row: f"Q: {row.question}\nA: {COT}",
            answer=lambda row: row.worked or f" So the answer is {row.answer}.",
            instruction=lambda row: row.instruction,
            zero_shot_instruction='End with "So the answer is" and the answer.',
            stop=("\n\nQ:", "\nQ:"),
            max_new_tokens=512,
        )
    },
)
