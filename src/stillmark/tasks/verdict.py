"""From a reply to exactly one outcome.

A scorer reads a reply in several ways (extractors), the most explicit first. The first that finds an answer
decides; how the others would have graded it is kept, so that a ranking never rests on one regular expression
unseen. There is no fall-back answer: a reply in which nothing is found is truncated or unparsed, never wrong.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stillmark.records import Outcome
from stillmark.tasks.thinking import DEFAULT_TAGS, ThinkingTags, split_thinking


class ScorerError(Exception):
    """Grading itself failed (a sandbox that does not start, a checker that hangs): no fault of the model's."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one extractor found in a reply."""

    extractor: str
    value: str | None  # None: nothing found
    is_right: bool | None  # None: nothing found, or the checker could not decide
    is_explicit: bool = (
        True  # the reply marks it as its answer; else a guess, which a cut reply does not allow
    )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a reply ended, what was read from it, and how each extractor alone would have graded it."""

    outcome: Outcome
    extracted: str | None = None
    extractor: str | None = None
    grades: Mapping[str, bool | None] = field(default_factory=dict)
    error: str | None = None

    @property
    def is_disputed(self) -> bool:
        """Two extractors that both found an answer grade it differently."""
        return is_disputed(self.grades)


class Scorer(Protocol):
    """Reads answers in replies. `version` is raised whenever its judgement changes, and is recorded."""

    version: int

    def readings(self, answer: str, target: str) -> Sequence[Reading]:
        """What each extractor finds in the answer (thinking already taken off), the most explicit first."""
        ...


def judge(
    scorer: Scorer, reply: str, target: str, stop_reason: str, *,
    tags: ThinkingTags | None = DEFAULT_TAGS, starts_thinking: bool = False,
) -> Verdict:  # fmt: skip
    """The one outcome of a reply. A reply cut at its limit counts only if its answer was given before."""
    if stop_reason == "error":
        return Verdict(outcome=Outcome.ERROR, error="the engine failed")
    is_cut = stop_reason == "length"
    parts = split_thinking(reply, tags, starts_thinking=starts_thinking)
    answer = parts.answer
    if not parts.is_closed:
        return Verdict(outcome=Outcome.TRUNCATED if is_cut else Outcome.UNPARSED)
    try:
        # The last word of a cut reply may be half a word: "#### 4" of "#### 42"
        if is_cut:
            read = getattr(scorer, "readings_when_cut", scorer.readings)  # of those that save work so
            readings = read(without_last_word(answer), target)
        else:
            readings = scorer.readings(answer, target)
    except ScorerError as error:
        return Verdict(outcome=Outcome.ERROR, error=str(error))
    grades = {reading.extractor: reading.is_right for reading in readings}
    for reading in readings:
        if reading.value is None or (is_cut and not reading.is_explicit):
            continue
        if reading.is_right is None:
            reason = f"{reading.extractor} could not decide on {reading.value!r}"
            return Verdict(outcome=Outcome.ERROR, extracted=reading.value, grades=grades, error=reason)
        return Verdict(
            outcome=Outcome.CORRECT if reading.is_right else Outcome.WRONG,
            extracted=reading.value,
            extractor=reading.extractor,
            grades=grades,
        )
    return Verdict(outcome=Outcome.TRUNCATED if is_cut else Outcome.UNPARSED, grades=grades)


def is_disputed(grades: Mapping[str, bool | None]) -> bool:
    return len({grade for grade in grades.values() if grade is not None}) > 1


def without_last_word(text: str) -> str:
    return re.sub(r"\S+\Z", "", text)
