"""The parts of the page that are neither text nor a plain table: tiles, the ratio grid, bars, examples."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillmark.report import words
from stillmark.report.reading import arm_named, best_student, effect_of
from stillmark.report.tables import OUTCOMES

EFFECT_WORDS = {
    "saves": "needs less",
    "costs": "needs more",
    "unclear": "not told apart",
    "unknown": "unknown",
}
PART_WORDS = {
    "prune": "pruning",
    "train": "training",
    "teacher_forward": "teacher's logits",
    "capture": "teacher's logits, kept",
    "generate_student": "student's own text",
    "generate": "teacher's traces",
    "evaluate": "evaluation",
    "judge": "teacher's reading of the held-out text",
}
OUTCOME_TEXT = {
    "correct": "correct",
    "wrong": "wrong",
    "truncated": "truncated",
    "unparsed": "no answer read",
    "error": "harness failed",
}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One number in large type. `link` is where it is said how it was obtained."""

    label: str
    value: str
    note: str
    link: str
    key: str = ""  # by which the script finds it


@dataclass(frozen=True, kw_only=True)
class Segment:
    name: str
    css: str
    share: float  # of the longest bar, in percent
    text: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    segments: tuple[Segment, ...]
    text: str


def tiles(conclusion: Mapping[str, Any]) -> list[Tile]:
    """The numbers of the student that the answer is about."""
    chosen = best_student(conclusion)
    if chosen is None:
        return []
    arm = arm_named(conclusion, chosen["arm"])
    row = next(row for row in chosen["ratios"] if (row["at"], row["boundary"]) == ("final", "student"))
    size = chosen["equivalent_params"]
    made = [
        Tile(label=f"accuracy of {arm['arm']}", value=words.percent((arm["accuracy"] or {"value": None})["value"]),
             note=accuracy_note(arm["accuracy"]), link="how-accuracy"),
        Tile(label="vanilla compute / its compute", value=words.ratio(row), link="how-ratio", key="ratio",
             note=f"95%: {words.ratio_limits(row)}; boundary: student"),
        Tile(label="parameters; worth a vanilla of", value=f"{words.quantity(chosen['params'])} → {words.size(size)}",
             note=f"95%: {words.size_limits(size)}", link="how-size"),
    ]  # fmt: skip
    control = next((row for row in conclusion.get("differences", [])
                    if row["first"] == chosen["arm"] and row["role"] == "control"), None)  # fmt: skip
    if control is not None:
        difference = control["difference"]
        made.append(
            Tile(label=f"points over the control {control['second']}", value=f"{100 * difference['value']:+.1f}",
                 note=f"95%: {100 * difference['low']:+.1f} to {100 * difference['high']:+.1f}", link="how-control")
        )  # fmt: skip
    return made


def accuracy_note(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return words.UNKNOWN
    return f"95%: {100 * interval['low']:.1f} to {100 * interval['high']:.1f}"


def ratio_grid(conclusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a student or control and accuracy; one cell a boundary."""
    grid = []
    for comparison in conclusion["comparisons"]:
        for at in ("final", "shared"):
            rows = {row["boundary"]: row for row in comparison["ratios"] if row["at"] == at}
            if not rows:
                continue
            grid.append(
                {
                    "arm": comparison["arm"],
                    "is_control": comparison["is_control"],
                    "at": at,
                    "has_shared": comparison["shared_accuracy"] is not None,
                    "params": words.quantity(comparison["params"]),
                    "accuracy": words.percent(rows["student"]["accuracy"]),
                    "cells": [ratio_cell(rows[boundary]) for boundary in words.BOUNDARIES],
                    "size": words.size(comparison["equivalent_params"]),
                    "density": words.density(comparison["capability_density"]),
                }
            )
    return grid


def ratio_cell(row: Mapping[str, Any]) -> dict[str, Any]:
    effect = effect_of(row)
    return {"boundary": row["boundary"], "value": words.ratio(row), "limits": words.ratio_limits(row),
            "effect": effect, "effect_words": EFFECT_WORDS[effect], "notes": "; ".join(row["notes"]),
            "vanilla": words.flops(row["vanilla_flops"]), "student": words.flops(row["student_flops"]),
            "reached_by": row["reached_by"]}  # fmt: skip


def ledger_bars(conclusion: Mapping[str, Any]) -> list[Bar]:
    """FLOPs of each arm by part, over all seeds: a stacked bar an arm. An unknown part is said, not drawn."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    unknown: dict[str, set[str]] = defaultdict(set)
    for row in conclusion["ledger"]:
        if row["flops"] is None:
            unknown[row["arm"]].add(row["part"])
        else:
            sums[row["arm"]][row["part"]] += row["flops"]
    longest = max((sum(parts.values()) for parts in sums.values()), default=0.0)
    bars = []
    for arm in dict.fromkeys(row["arm"] for row in conclusion["ledger"]):
        segments = tuple(
            Segment(name=PART_WORDS.get(part, part), css=part.replace("_", "-"), share=100 * amount / longest,
                    text=words.flops(amount))
            for part, amount in sorted(sums[arm].items(), key=lambda pair: part_order(pair[0])) if longest
        )  # fmt: skip
        text = words.flops(sum(sums[arm].values()) if sums[arm] else None)
        if unknown[arm]:
            text += " and unknown: " + ", ".join(sorted(PART_WORDS.get(part, part) for part in unknown[arm]))
        bars.append(Bar(label=arm, segments=segments, text=text))
    return bars


def part_order(part: str) -> int:
    return list(PART_WORDS).index(part) if part in PART_WORDS else len(PART_WORDS)


def outcome_bars(conclusion: Mapping[str, Any]) -> list[Bar]:
    """How each arm's answers ended, in shares."""
    bars = []
    for arm in conclusion["arms"]:
        num_samples = sum(arm["outcomes"].values())
        segments = tuple(
            Segment(name=OUTCOME_TEXT[outcome], css=outcome, share=100 * arm["outcomes"][outcome] / num_samples,
                    text=f"{arm['outcomes'][outcome]:,} of {num_samples:,}")
            for outcome in OUTCOMES if arm["outcomes"].get(outcome)
        )  # fmt: skip
        bars.append(Bar(label=arm["arm"], segments=segments, text=f"{num_samples:,} samples"))
    return bars


def task_examples(conclusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each task with an example, its settings and chance."""
    examples = []
    for name, task in conclusion["tasks"].items():
        settings = {key: value for key, value in task.items() if key not in ("chance", "example")}
        example = {part: None if text is None else words.visible_text(text)
                   for part, text in task["example"].items()}  # fmt: skip
        examples.append({"name": name, "settings": settings, "chance": task["chance"], **example})
    return examples
