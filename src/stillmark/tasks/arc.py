"""ARC-Easy and ARC-Challenge: science questions of school examinations (Clark et al., arXiv:1803.05457)."""

import re

from stillmark.tasks.benchmark import Benchmark, Row
from stillmark.tasks.choice_scorer import ChoiceScorer, choice_label, choice_target
from stillmark.tasks.forms import text_forms
from stillmark.tasks.sources import Hub, RawRow, Source

REVISION = "210d026faf9955653af8916fad021475a3f00453"  # as inspect_evals pins it
FOLDED = re.compile(  # LLM-Adapters' layout: question and choices in one string
    r"Please choose the correct answer to the question: (.*)\n\n(Answer1: .*)\n\nAnswer format: ", re.DOTALL
)


def read(raw: RawRow) -> Row:
    """The hub's columns (question, choices, answerKey), or `instruction` and `answer` of LLM-Adapters."""
    if "instruction" in raw:
        match = FOLDED.match(raw["instruction"])
        if not match:
            raise ValueError("`instruction` is not a question with its answers")
        choices = [part.strip() for part in re.split(r"Answer\d: ", match.group(2))[1:]]
        return choice_row(match.group(1).strip(), choices, int(raw["answer"].removeprefix("answer")) - 1)
    labels = list(raw["choices"]["label"])
    return choice_row(
        raw["question"].strip(), list(raw["choices"]["text"]), labels.index(str(raw["answerKey"]))
    )


def choice_row(
    question: str, choices: list[str], correct: int, group: str = "", worked: str | None = None
) -> Row:
    if not 0 <= correct < len(choices):
        raise ValueError(f"the answer {correct} is none of {len(choices)} choices")
    return Row(
        question=question,
        choices=tuple(choices),
        target=choice_target(correct, choices),
        answer=choice_label(correct),
        worked=worked,
        group=group,
    )


def arc(name: str, config: str) -> Benchmark:
    """Examples come from the train split; the local files have none, so there from the other test questions."""

    def source(split: str) -> Source:
        return Source(
            files=(
                f"arc/{config}/{split}.json",
                f"arc/{config}/{split}.jsonl",
                f"arc/{config}/{split}.parquet",
            ),
            hub=Hub(repository="allenai/ai2_arc", configs=(config,), split=split, revision=REVISION),
        )

    test, train = source("test"), source("train")
    return Benchmark(
        name=name,
        source=test,
        shots=Source(files=train.files + test.files, hub=train.hub),
        read=read,
        scorer=ChoiceScorer(),
        forms=text_forms(),
        settings={"config": config},
    )


ARC_EASY = arc("arc_easy", "ARC-Easy")
ARC_CHALLENGE = arc("arc_challenge", "ARC-Challenge")
