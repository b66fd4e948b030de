"""The answer, first and in words: is the distilled student worth it, by how much, and under which boundary?

The rules are few and said beside the answer:
- the student is the one with the highest accuracy at the end; of equals, that which took least in all;
- a boundary shows a saving where the whole 95% interval of the ratio lies above 1, a loss where it lies below 1, and
  nothing where it holds 1 or is open on that side;
- a saving of less than 1.5x is called small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stillmark.report import words

SMALL_RATIO = 1.5
Effect = Literal["saves", "costs", "unclear", "unknown"]
Tone = Literal["good", "mixed", "bad", "none"]

COUNTING = {
    "student": "counting only the training of each model itself",
    "generation": "counting the teacher's traces and logits too",
    "teacher": "counting the making of the teacher too",
    "base": "counting the teacher's work for it and the making of its starting weights",
    "everything": "counting everything, the making of the teacher and of the starting weights included",
}
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


def arm_named(conclusion: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(row for row in conclusion["arms"] if row["arm"] == name)
    return found


def best_student(conclusion: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The comparison of the student that the rule chooses."""
    students = [row for row in conclusion["comparisons"] if not row["is_control"]]

    def rank(row: Mapping[str, Any]) -> tuple[float, float]:
        spent = arm_named(conclusion, row["arm"])["flops"][words.WIDEST]
        return -row["final_accuracy"], float("inf") if spent is None else spent

    return min(students, key=rank, default=None)


def effect_of(row: Mapping[str, Any]) -> Effect:
    """What the interval of a ratio (vanilla compute over the student's) shows."""
    if row["low"] is None and row["high"] is None:
        return "unknown" if row["value"] is None and row["bound"] is None else "unclear"
    if row["low"] is not None and row["low"] > 1:
        return "saves"
    if row["high"] is not None and row["high"] < 1:
        return "costs"
    return "unclear"


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


def known_end(row: Mapping[str, Any]) -> float:
    """The ratio, or the bound that is known of it."""
    value = row["value"] if row["value"] is not None else row["bound"]
    return float("nan") if value is None else float(value)


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


def ratio_phrase(row: Mapping[str, Any]) -> str:
    if effect_of(row) == "unknown":
        return "an unknown multiple of"
    return f"{words.ratio(row)} (95% interval: {words.ratio_limits(row)})"


def open_ends(rows: Mapping[str, Any]) -> str:
    """What "more than" rests on."""
    if any(rows[boundary]["censored"] == "more than" for boundary in ("student", words.WIDEST)):
        return '; "more than", because within their budgets none of them gets there'
    return ""


def details_of(
    conclusion: Mapping[str, Any], chosen: Mapping[str, Any], arm: Mapping[str, Any]
) -> Sequence[str]:
    """What else a reader needs before believing the sentence."""
    lines = [size_line(chosen)]
    lines += [control_line(conclusion, chosen, row) for row in conclusion["comparisons"] if row["is_control"]]
    lines += [shared_line(chosen)] if chosen["shared_accuracy"] is not None else []
    num_students = sum(not row["is_control"] for row in conclusion["comparisons"])
    if num_students > 1:
        lines.append(
            f"It is the best of {num_students} students on the items that it is judged by, which favours it a little."
        )
    if len(conclusion["seeds"]) < 3:
        many = {1: "One seed says nothing", 2: "Two seeds say little"}[len(conclusion["seeds"])]
        lines.append(f"{many} of how much another training run would differ.")
    return lines


def size_line(chosen: Mapping[str, Any]) -> str:
    equivalent = chosen["equivalent_params"]
    text = f"It has {words.quantity(chosen['params'])} parameters and does as well as a vanilla model of "
    if words.size(equivalent) == words.UNKNOWN:
        return text + "a size that is not known."
    return (
        text + f"{words.size(equivalent)} parameters (95% interval: {words.size_limits(equivalent)}): "
        f"{words.density(chosen['capability_density'])} its size."
    )


def control_line(conclusion: Mapping[str, Any], chosen: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    """The sceptic's question: is it the teacher, or is it reasoning aloud?"""
    arm = arm_named(conclusion, control["arm"])
    same = "same size" if control["params"] == chosen["params"] else f"{words.quantity(arm['params'])} params"
    text = {"solutions": "reference worked solutions", "answers": "answers"}.get(arm["text"], arm["text"])
    lead = f"The control {arm['arm']} ({same}, no teacher, trained on {text}) ends at "
    lead += words.accuracy(arm["accuracy"])
    row = next((row for row in conclusion.get("differences", [])
                if (row["first"], row["second"]) == (chosen["arm"], control["arm"])), None)  # fmt: skip
    if row is None:
        return lead + "."
    difference = row["difference"]
    lead += f"; the student's difference from it is {words.points(difference)} points"
    if difference["low"] > 0:
        return lead + ": so much comes from the teacher, and not from reasoning aloud alone."
    if difference["high"] < 0:
        return lead + ": the control does better without a teacher."
    return lead + ": no gain from the teacher itself is shown over reasoning aloud."


def shared_line(chosen: Mapping[str, Any]) -> str:
    rows = {row["boundary"]: row for row in chosen["ratios"] if row["at"] == "shared"}
    share = words.percent(chosen["shared_accuracy"], 0)
    narrow, wide = (ratio_phrase(rows[boundary]) for boundary in ("student", words.WIDEST))
    return (
        f"At {share}, the highest accuracy that both sides surely reach, vanilla models need {narrow} its "
        f"compute counting the training alone, and {wide} counting everything."
    )
