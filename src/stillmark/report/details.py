"""What else a reader needs before believing the answer: the control, the sizes, what the bounds rest on."""

from collections.abc import Mapping, Sequence
from typing import Any

from stillmark.report import words
from stillmark.report.reading import (
    arm_named,
    controls_of,
    difference_from,
    effect_of,
    gain_over,
    ratio_phrase,
)

STILL_RISING = 0.02  # accuracy gained between the last two checkpoints


def details_of(
    conclusion: Mapping[str, Any], chosen: Mapping[str, Any], arm: Mapping[str, Any]
) -> Sequence[str]:
    """What else a reader needs before believing the sentence."""
    lines = [control_line(conclusion, chosen, row) for row in controls_of(conclusion)]
    lines += [shared_line(chosen)] if chosen["shared_accuracy"] is not None else []
    lines += students_lines(chosen) if arm["teacher"] else []
    lines += [size_line(chosen), *family_lines(conclusion, chosen)]
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
    difference = difference_from(conclusion, chosen["arm"], control["arm"])
    if difference is None:
        return lead + "."
    lead += f"; the student's difference from it is {words.points(difference)} points"
    shown = {
        "gain": ": so much comes from the teacher, and not from reasoning aloud alone.",
        "none": ": no gain from the teacher itself is shown over reasoning aloud.",
        "loss": ": the control does better without a teacher.",
    }
    return lead + shown[gain_over(difference)]


def students_lines(chosen: Mapping[str, Any]) -> list[str]:
    """From how many students of one teacher on a saving is shown with everything counted."""
    rows = [row for row in chosen.get("by_students", []) if row["boundary"] == words.WIDEST]
    if not rows or effect_of(rows[0]) == "saves":
        return []
    enough = [row for row in rows if effect_of(row) == "saves"]
    if not enough:
        most = max(row["students"] for row in rows)
        return [f"However many students share the teacher (1 to {most:,} were tried), no saving is shown with "
                "everything counted."]  # fmt: skip
    tried = ", ".join(str(row["students"]) for row in rows)
    return [f"With everything counted, a saving is shown once {enough[0]['students']:,} students share the teacher "
            f"(tried: {tried}): {ratio_phrase(enough[0])}."]  # fmt: skip


def family_lines(conclusion: Mapping[str, Any], chosen: Mapping[str, Any]) -> list[str]:
    """What the vanilla family's budgets leave open."""
    arms = [arm_named(conclusion, name) for name in chosen["vanilla"]]
    rising = [arm["arm"] for arm in arms if is_rising(arm)]
    lines = []
    if rising:
        lines.append(
            "Still improving at the end of their budgets, so that more compute would bring them further: "
            f"{', '.join(rising)}."
        )
    known = [arm["accuracy"]["value"] for arm in arms if arm["accuracy"]]
    if len(known) > 1 and known[-1] < max(known[:-1]):
        lines.append(
            "Within these budgets the largest vanilla model is not the best of them, so the size that a student is "
            "worth says what was trained, not what such a size can do."
        )
    return lines


def is_rising(arm: Mapping[str, Any]) -> bool:
    shares = [point["accuracy"] for point in arm["curve"]["student"]]
    return len(shares) > 1 and shares[-1] - shares[-2] > STILL_RISING


def shared_line(chosen: Mapping[str, Any]) -> str:
    rows = {row["boundary"]: row for row in chosen["ratios"] if row["at"] == "shared"}
    share = words.percent(chosen["shared_accuracy"], 0)
    narrow, wide = (ratio_phrase(rows[boundary]) for boundary in ("student", words.WIDEST))
    return (
        f"At {share}, the highest accuracy that both sides surely reach, vanilla models need {narrow} its "
        f"compute counting the training alone, and {wide} counting everything."
    )
