"""The answer, first and in words: is the distilled student worth it, by how much, and under which boundary?

The rules are few and said beside the answer:
- the student is the one with the highest accuracy at the end; of equals, that which took least in all;
- a boundary shows a saving where the whole 95% interval of the ratio lies above 1, a loss where it lies below 1, and
  nothing where it holds 1 or is open on that side;
- a saving of less than 1.5x is called small.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stillmark.report import words
from stillmark.report.details import details_of
from stillmark.report.reading import (
    COUNTING,
    Effect,
    arm_named,
    best_student,
    effect_of,
    gain_over_controls,
    known_end,
    ratio_phrase,
)

SMALL_RATIO = 1.5
Tone = Literal["good", "mixed", "bad", "none"]

LEFT_OUT = {
    "generation": "the teacher's work for it",
    "teacher": "the making of the teacher",
    "base": "the making of its starting weights",
    "everything": "everything",
}
RULE = (
    "The student shown is the one with the highest accuracy at the end of training; of equals, the one that took the "
    "least compute in all. A boundary shows a saving where the whole 95% interval of the ratio lies above 1, a loss "
    "where it lies below 1, and nothing in between. A saving below 1.5x is called small."
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the report says before anything else."""

    tone: Tone
    verdict: str  # a few words
    sentence: str  # with number, interval and boundary
    details: tuple[str, ...]
    rule: str
    student: str | None
    warning: str | None  # what is missing from the records

    @property
    def text(self) -> str:
        return f"{self.verdict} {self.sentence}"


def answer_of(conclusion: Mapping[str, Any]) -> Answer:
    """The answer that a conclusion gives."""
    warning = warning_of(conclusion)
    chosen = best_student(conclusion)
    if chosen is None:
        return Answer(tone="none", verdict="No answer yet.", sentence=why_none(conclusion), details=(), rule=RULE,
                      student=None, warning=warning)  # fmt: skip
    arm = arm_named(conclusion, chosen["arm"])
    rows = {row["boundary"]: row for row in chosen["ratios"] if row["at"] == "final"}
    effects = {boundary: effect_of(rows[boundary]) for boundary in words.BOUNDARIES}
    verdict, tone = verdict_of(effects, rows)
    gain = gain_over_controls(conclusion, chosen["arm"])
    if gain in ("none", "loss") and tone != "none":
        verdict += f" A control without a teacher does {'as well' if gain == 'none' else 'better'}."
        tone = "mixed" if tone == "good" else tone
    return Answer(
        tone=tone,
        verdict=verdict,
        sentence=sentence_of(arm, rows, effects),
        details=tuple(details_of(conclusion, chosen, arm)),
        rule=RULE,
        student=chosen["arm"],
        warning=warning,
    )


def warning_of(conclusion: Mapping[str, Any]) -> str | None:
    unfinished = conclusion["unfinished"]
    if not unfinished:
        return None
    shown = ", ".join(unfinished[:3]) + (f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else "")
    return (
        f"This study is not finished: {len(unfinished)} of its stages are not recorded whole ({shown}). Arms without "
        "a complete record are left out of everything below, and what is shown may change."
    )


def why_none(conclusion: Mapping[str, Any]) -> str:
    if conclusion["comparisons"]:
        return (
            "Only controls are recorded whole; no distilled student can be held against the vanilla models."
        )
    if conclusion["unfinished"]:
        return "No distilled student, or no vanilla model to hold it against, is recorded whole."
    return "The study names no students and vanilla models to compare (its `conclusion` part)."


def verdict_of(effects: Mapping[str, Effect], rows: Mapping[str, Any]) -> tuple[str, Tone]:
    narrow, wide = effects["student"], effects[words.WIDEST]
    if narrow == "unknown" and wide == "unknown":
        return "No ratio can be given.", "none"
    if narrow == wide == "saves":
        ends = [known_end(rows[boundary]) for boundary in ("student", words.WIDEST)]
        if min(ends) < SMALL_RATIO:
            return "Distilling saves compute whatever is counted, though little in all.", "good"
        return "Distilling saves compute, whatever is counted.", "good"
    if narrow == "saves":
        first = next(boundary for boundary in words.BOUNDARIES if effects[boundary] != "saves")
        if wide == "costs":
            return f"Distilling saves compute only while {LEFT_OUT[first]} is not counted.", "mixed"
        return (
            f"Distilling saves compute in training alone; with {LEFT_OUT[first]} counted, that is not shown.",
            "mixed",
        )
    if narrow == "costs":
        return "Distilling does not save compute here: it takes more.", "bad"
    if wide == "costs":
        return "Distilling takes more compute in all; in training alone no difference is shown.", "bad"
    return "No saving of compute is shown.", "none"


def sentence_of(arm: Mapping[str, Any], rows: Mapping[str, Any], effects: Mapping[str, Effect]) -> str:
    """One sentence: the accuracy, and the ratio with its interval under the narrowest and the widest boundary."""
    share = words.percent(rows["student"]["accuracy"])
    if effects["student"] == "unknown" and effects[words.WIDEST] == "unknown":
        notes = "; ".join(rows["student"]["notes"]) or "nothing is known of either side"
        return f"{arm['arm']} ends at {words.accuracy(arm['accuracy'])} (95% interval), and {notes}."
    narrow, wide = (ratio_phrase(rows[boundary]) for boundary in ("student", words.WIDEST))
    lead = f"{arm['arm']} ends at {words.accuracy(arm['accuracy'])}. To reach {share}, which it surely does, "
    text = (
        f"vanilla models need {narrow} its compute {COUNTING['student']} (boundary student), and {wide} "
        f"{COUNTING[words.WIDEST]} (boundary {words.WIDEST})"
    )
    return lead + text + open_ends(rows) + "."


def open_ends(rows: Mapping[str, Any]) -> str:
    """What "more than" rests on."""
    if any(rows[boundary]["censored"] == "more than" for boundary in ("student", words.WIDEST)):
        return '; "more than", because within their budgets none of them gets there'
    return ""
