"""Multiple choice: the likeliest continuation, or the letter that a reply names.

The target is JSON, `{"label": "B", "choices": ["...", ...]}`, so that stored replies can be scored again without
the data set.
"""

import json
import math
import re
from collections.abc import Sequence

from stillmark.records import Outcome
from stillmark.tasks.verdict import Reading, Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def choice_label(index: int) -> str:
    """A to Z, then AA, AB, ..., as the columns of a spreadsheet."""
    label = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, len(LETTERS))
        label = LETTERS[letter] + label
    return label


def choice_target(correct: int, choices: Sequence[str]) -> str:
    return json.dumps({"label": choice_label(correct), "choices": list(choices)}, ensure_ascii=False)


class ChoiceScorer:
    """Reads which of the lettered choices a reply names. A lone letter inside a sentence is not an answer."""

    version = 1

    def readings(self, answer: str, target: str) -> list[Reading]:
        wanted = json.loads(target)
        letters = LETTERS[: len(wanted["choices"])]
        found = {
            "phrase": phrase_letter(answer, letters),
            "leading": leading_letter(answer, letters),
            "boxed": last_group(rf"\\boxed\{{\s*(?:\\text\{{)?\s*\(?([{letters}])\)?\s*\}}", answer),
            "text": choice_by_text(answer, wanted["choices"]),
            "bracketed": last_group(rf"\(([{letters}])\)", answer),
        }
        return [
            Reading(
                extractor=name,
                value=letter,
                is_right=None if letter is None else letter == wanted["label"],
                is_explicit=name not in ("bracketed", "text"),
            )
            for name, letter in found.items()
        ]


def phrase_letter(answer: str, letters: str) -> str | None:
    """The last "answer is (B)", "Answer: B", "correct choice is **B**". Words are read in any case, the letter
    in capitals."""
    pattern = (
        r"(?i:\b(?:answer|choice|option)\b\s*(?:is\b|are\b|would be\b|:|=)\s*:?\s*(?:(?:option|choice|letter)\s*)?)"
        rf"[\s*_$(\[{{\\]*(?:text\{{|boxed\{{)?\(?([{letters}])(?![\w'’])"
    )
    return last_group(pattern, answer)


def leading_letter(answer: str, letters: str) -> str | None:
    """A reply that begins with its letter: "B", "(B)", "B. Because", "**B)**", "B: 7"; not "A dog"."""
    match = re.match(rf"[\s*_]*(?:\(([{letters}])\)|([{letters}])(?=[*_]*(?:[.:),\n]|\s*\Z)))", answer)
    return (match.group(1) or match.group(2)) if match else None


def choice_by_text(answer: str, choices: Sequence[str]) -> str | None:
    """The one choice whose whole text is the reply."""
    bare = plain(answer)
    hits = [letter for letter, choice in zip(LETTERS, choices, strict=False) if plain(choice) == bare]
    return hits[0] if len(hits) == 1 and bare else None


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" .*\"'").casefold()


def last_group(pattern: str, text: str) -> str | None:
    found: list[str] = re.findall(pattern, text)
    return found[-1] if found else None


def judge_likelihoods(nats: Sequence[float], target: str, rule: str) -> Verdict:
    """The choice of highest likelihood, by `rule`: "sum" over its tokens, or "per_character" of its text.

    `per_character` is lm-evaluation-harness's acc_norm: divided by the characters of the choice.
    """
    wanted = json.loads(target)
    unknown = [choice_label(index) for index, value in enumerate(nats) if math.isnan(value)]
    if unknown:
        return Verdict(outcome=Outcome.ERROR, error=f"the likelihood of choice {unknown[0]} is not a number")
    picks = {
        "sum": likeliest(nats),
        "per_character": likeliest(
            [value / max(1, len(text)) for value, text in zip(nats, wanted["choices"], strict=True)]
        ),
    }
    grades = {name: letter == wanted["label"] for name, letter in picks.items()}
    return Verdict(
        outcome=Outcome.CORRECT if grades[rule] else Outcome.WRONG,
        extracted=picks[rule],
        extractor=rule,
        grades=grades,
    )


def likeliest(nats: Sequence[float]) -> str:
    return choice_label(max(range(len(nats)), key=lambda index: nats[index]))
