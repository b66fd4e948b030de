"""Reads a conclusion: which student it is about, and what an interval of a ratio shows."""

from collections.abc import Mapping
from typing import Any, Literal

from stillmark.report import words

Effect = Literal["saves", "costs", "unclear", "unknown"]
Gain = Literal["gain", "none", "loss"]

COUNTING = {
    "student": "counting only the training of each model itself",
    "generation": "counting the teacher's traces and logits too",
    "teacher": "counting the making of the teacher too",
    "base": "counting the teacher's work for it and the making of its starting weights",
    "everything": "counting everything, the making of the teacher and of the starting weights included",
}


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


def known_end(row: Mapping[str, Any]) -> float:
    """The ratio, or the bound that is known of it."""
    value = row["value"] if row["value"] is not None else row["bound"]
    return float("nan") if value is None else float(value)


def ratio_phrase(row: Mapping[str, Any]) -> str:
    if effect_of(row) == "unknown":
        return "an unknown multiple of"
    return f"{words.ratio(row)} (95% interval: {words.ratio_limits(row)})"


def difference_from(conclusion: Mapping[str, Any], first: str, second: str) -> Mapping[str, Any] | None:
    """The difference in accuracy of two arms on the same items, where it was worked out."""
    rows = conclusion.get("differences", [])
    found = (row["difference"] for row in rows if (row["first"], row["second"]) == (first, second))
    return next(found, None)


def controls_of(conclusion: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in conclusion["comparisons"] if row["is_control"]]


def gain_over(difference: Mapping[str, Any]) -> Gain:
    """What the interval of a difference shows."""
    if difference["low"] > 0:
        return "gain"
    return "loss" if difference["high"] < 0 else "none"


def gain_over_controls(conclusion: Mapping[str, Any], student: str) -> Gain | None:
    """The least that the student gains over a control of its own size; None where there is none to hold it against."""
    params = arm_named(conclusion, student)["params"]
    found = [difference_from(conclusion, student, row["arm"])
             for row in controls_of(conclusion) if row["params"] == params]  # fmt: skip
    gains = [gain_over(difference) for difference in found if difference is not None]
    return min(gains, key=("loss", "none", "gain").index, default=None)
