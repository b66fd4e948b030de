"""The curve in plain characters: quality over training compute, one letter an arm, in 80 columns and without colour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillmark.report import words

WIDTH, HEIGHT = 64, 14  # of the field, in characters
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SHARED = "*"  # where two arms' points fall on one character


@dataclass(frozen=True, kw_only=True)
class Mark:
    """An arm's points as (FLOPs, quality)."""

    arm: str
    points: Sequence[tuple[float, float]]


def accuracy_plot(conclusion: Mapping[str, Any], boundary: str = "student") -> str:
    """Mean accuracy over seeds against the FLOPs within a boundary; empty where no arm has a curve."""
    marks = [
        Mark(arm=arm["arm"], points=[(row["flops"], row["accuracy"]) for row in arm["curve"][boundary]])
        for arm in conclusion["arms"]
    ]
    return plot(marks, title=f"accuracy over training FLOPs (boundary {boundary})", label=words.percent)


def bits_plot(conclusion: Mapping[str, Any], boundary: str = "generation") -> str:
    """Bits per byte of held-out text against FLOPs within a boundary; a model whose FLOPs are unknown is left out."""
    marks = [
        Mark(
            arm=arm["arm"],
            points=[
                (row["flops"][boundary], row["bits_per_byte"]["value"])
                for row in arm["curve"]
                if row["flops"][boundary] is not None and row["bits_per_byte"]["value"] is not None
            ],
        )
        for arm in conclusion["arms"]
    ]
    title = f"bits per byte of held-out text over training FLOPs (boundary {boundary}; less is better)"
    return plot(marks, title=title, label=lambda value: f"{value:.3f}")


def plot(marks: Sequence[Mark], *, title: str, label: Any) -> str:
    """A scatter over log FLOPs with its legend; `label` writes a value of the quality."""
    marks = [mark for mark in marks if mark.points][: len(LETTERS)]
    points = [point for mark in marks for point in mark.points if point[0] > 0]
    if not points:
        return ""
    left, right = (f(math.log10(flops) for flops, _ in points) for f in (min, max))
    low, high = (f(quality for _, quality in points) for f in (min, max))
    field = [[" "] * WIDTH for _ in range(HEIGHT)]
    for letter, mark in zip(LETTERS, marks, strict=False):
        for flops, quality in mark.points:
            if flops <= 0:
                continue  # a log axis has no place for it
            column = place(math.log10(flops), left, right, WIDTH)
            row = HEIGHT - 1 - place(quality, low, high, HEIGHT)
            field[row][column] = letter if field[row][column] in (" ", letter) else SHARED
    margin = max(len(label(high)), len(label(low)))
    frame = framed(field, label(high), label(low), margin)
    return "\n".join([title, *frame, *axis(left, right, margin), *legend(marks)])


def place(value: float, low: float, high: float, count: int) -> int:
    """Which of `count` cells a value falls in; the middle one where all values are one."""
    return count // 2 if high == low else round((value - low) / (high - low) * (count - 1))


def framed(field: Sequence[Sequence[str]], top: str, bottom: str, margin: int) -> list[str]:
    heads = [top, *[""] * (len(field) - 2), bottom]
    return [f"{head:>{margin}} |{''.join(row).rstrip()}" for head, row in zip(heads, field, strict=True)]


def axis(left: float, right: float, margin: int) -> list[str]:
    first, last = (f"{words.quantity(10**value)}FLOP" for value in (left, right))
    gap = " " * (margin + 1)
    return [f"{gap}+{'-' * WIDTH}", f"{gap} {first}{last:>{max(1, WIDTH - len(first))}}"]


def legend(marks: Sequence[Mark]) -> list[str]:
    lines, line = [], ""
    for letter, mark in zip(LETTERS, marks, strict=False):
        entry = f"{letter} {mark.arm}"
        if line and len(line) + len(entry) > 76:
            lines.append(line)
            line = ""
        line += ("   " if line else "") + entry
    return [*lines, line + (f"   {SHARED} several" if line else "")]
