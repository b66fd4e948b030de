"""Numbers in replies: `#### 42`, `\\boxed{42}`, "the answer is $42", and at last the last number.

`$29.00` is 29, `1,234` is 1234, `3/4` is 0.75 (lm-evaluation-harness#3214: exact text is not equality). A minus
after a digit is a subtraction, not a sign.
"""

import re
from fractions import Fraction

from stillmark.tasks.verdict import Reading

NUMBER = r"(?:(?<![\w)])-)?[$€£]?\s?-?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+)?"
HASHES = re.compile(r"####\s*(" + NUMBER + ")")
BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\\$)?\s*(" + NUMBER + r")[^{}]*\}")
PHRASE = re.compile(
    r"\b(?:final answer|answer|total)\b(?:\s+(?:is|was|are|equals|would be|will be)\s*:?|\s*[:=])"
    r"[\s*_$\\(\[{]*(" + NUMBER + ")",
    re.IGNORECASE,
)
ANY = re.compile(NUMBER)


def number_of(text: str) -> Fraction | None:
    """The value of a number as people write it; None where it is none."""
    bare = re.sub(r"[,$€£\s%]", "", text).rstrip(".")
    try:
        return Fraction(bare)
    except (ValueError, ZeroDivisionError):
        return None


class NumberScorer:
    """Equality of numbers, whatever they are written like."""

    version = 1

    def readings(self, answer: str, target: str) -> list[Reading]:
        wanted = number_of(target)
        assert wanted is not None, f"the target {target!r} is not a number"
        found = {
            "hashes": first(HASHES, answer),
            "boxed": last(BOXED, answer),
            "phrase": last(PHRASE, answer),
            "last_number": last(ANY, answer),
        }
        return [
            Reading(
                extractor=name,
                value=text,
                is_right=None if text is None else number_of(text) == wanted,
                is_explicit=name != "last_number",
            )
            for name, text in found.items()
        ]


def first(pattern: re.Pattern[str], text: str) -> str | None:
    """The first match: what a model writes after its answer is often a next question of its own."""
    match = pattern.search(text)
    return match.group(1 if pattern.groups else 0).strip() if match else None


def last(pattern: re.Pattern[str], text: str) -> str | None:
    matches = list(pattern.finditer(text))
    return matches[-1].group(1 if pattern.groups else 0).strip() if matches else None
