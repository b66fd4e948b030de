"""The paper report's charts as plain SVG: seen without a script, and every mark links to its source."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 900, 64, 36, 16, 46

MARKS = {
    "distilled": "circle",
    "vanilla": "square",
    "proprietary": "diamond",
    "teacher": "triangle",
    "rl-baseline": "cross",
}
"""One shape for each kind, so that colour is not needed to tell them apart."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point: its place, the ranges about it, what hovering says and what it links to."""

    kind: str
    series: str
    label: str
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float
    is_floor: bool
    title: str
    link: str
    """Attributes of the anchor, already escaped."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One range on a logarithmic axis."""

    label: str
    low: float | None
    high: float | None
    tone: str
    title: str
    link: str


def scatter(marks: Sequence[Mark], x_title: str, y_title: str, caption: str) -> str:
    """Marks over a logarithmic x axis, series joined by a line from small to large."""
    height = 440
    xs = [value for mark in marks for value in (mark.x_low, mark.x_high)]
    low, high = math.floor(math.log10(min(xs)) - 0.05), math.ceil(math.log10(max(xs)) + 0.05)
    top = max(mark.y_high for mark in marks)
    ceiling = 100 if top <= 100 else math.ceil(top / 500) * 500
    x_at = _log_scale(low, high)
    y_at = _linear_scale(0, ceiling, height)
    parts = [_svg_open(height, caption)]
    for power in range(low, high + 1):
        parts.append(_vertical(x_at(10.0**power), height, f"1e{power}"))
    for step in range(0, 6):
        value = ceiling * step / 5
        parts.append(_horizontal(y_at(value), f"{value:g}"))
    parts.append(_axis_titles(height, x_title, y_title))
    parts += _series_lines(marks, x_at, y_at)
    parts += [_mark(mark, x_at, y_at) for mark in marks]
    parts += _labels(marks, x_at, y_at)
    return "".join((*parts, "</svg>"))


def range_bars(bars: Sequence[Bar], claim: float, x_title: str, caption: str) -> str:
    """Ranges of a ratio, one line each, on a logarithmic axis with the claim and 1 marked."""
    left, row = 250, 20
    height = TOP + row * len(bars) + BOTTOM
    ends = [value for bar in bars for value in (bar.low, bar.high) if value] + [1.0, claim]
    low, high = math.floor(math.log10(min(ends))), math.ceil(math.log10(max(ends)))
    x_at = _log_scale(low, high, left)
    parts = [_svg_open(height, caption)]
    for power in range(low, high + 1):
        text = f"{10.0**power:,.0f}" if power >= 0 else f"{10.0**power:g}"
        parts.append(_vertical(x_at(10.0**power), height, text))
    for value, words in ((1.0, ""), (claim, f"{claim:,.0f} times")):
        x = x_at(value)
        parts.append(f'<line class="claim" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text class="small" x="{x + 4:.1f}" y="{TOP + 8}">{escape(words)}</text>')
    for index, bar in enumerate(bars):
        y = TOP + row * index + row / 2 + 6
        parts.append(f'<text class="name" x="{left - 8}" y="{y + 4:.1f}">{escape(bar.label)}</text>')
        parts.append(_bar(bar, y, x_at, left))
    parts.append(_axis_titles(height, x_title, "", left))
    return "".join((*parts, "</svg>"))


def _bar(bar: Bar, y: float, x_at: Callable[[float], float], left: int) -> str:
    """A line from low to high; an arrow to the left where there is a ceiling only."""
    if bar.high is None:
        return f'<text class="small" x="{left + 6}" y="{y + 4:.1f}">unknown</text>'
    right = x_at(bar.high)
    start = x_at(bar.low) if bar.low is not None else left
    body = f'<line class="bar" x1="{start:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    if bar.low is None:
        body = body.replace('class="bar"', 'class="bar open"')
        body += f'<path class="end" d="M{left} {y:.1f}l8 -4v8z"/>'
    else:
        body += f'<circle class="end" cx="{start:.1f}" cy="{y:.1f}" r="4"/>'
    body += f'<circle class="end" cx="{right:.1f}" cy="{y:.1f}" r="4"/>'
    return f'<a class="{escape(bar.tone)}" {bar.link}><title>{escape(bar.title)}</title>{body}</a>'


def _svg_open(height: float, caption: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(caption)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )


def _log_scale(low: int, high: int, left: int = LEFT) -> Callable[[float], float]:
    width = WIDTH - left - RIGHT
    return lambda value: left + width * (math.log10(value) - low) / (high - low)


def _linear_scale(low: float, high: float, height: int) -> Callable[[float], float]:
    span = height - TOP - BOTTOM
    return lambda value: height - BOTTOM - span * (value - low) / (high - low)


def _vertical(x: float, height: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
        f'<text class="tick" x="{x:.1f}" y="{height - BOTTOM + 16}">{text}</text>'
    )


def _horizontal(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick left" x="{LEFT - 8}" y="{y + 4:.1f}">{text}</text>'
    )


def _axis_titles(height: float, x_title: str, y_title: str, left: int = LEFT) -> str:
    centre = (left + WIDTH - RIGHT) / 2
    middle = (TOP + height - BOTTOM) / 2
    return (
        f'<text class="title" x="{centre:.0f}" y="{height - 10}">{escape(x_title)}</text>'
        f'<text class="title" transform="translate(14 {middle:.0f}) rotate(-90)">{escape(y_title)}</text>'
    )


def _middle(mark: Mark) -> float:
    """The place of a mark whose compute is a range: its middle on the logarithmic axis."""
    return math.sqrt(mark.x_low * mark.x_high)


def _series_lines(
    marks: Sequence[Mark], x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> list[str]:
    series: dict[str, list[Mark]] = {}
    for mark in marks:
        series.setdefault(mark.series, []).append(mark)
    lines = []
    for members in series.values():
        if len(members) > 1:
            ordered = sorted(members, key=_middle)
            path = " ".join(f"{x_at(_middle(mark)):.1f},{y_at(mark.y):.1f}" for mark in ordered)
            lines.append(f'<polyline class="family {escape(members[0].kind)}" points="{path}"/>')
    return lines


def _mark(mark: Mark, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> str:
    x, y = x_at(_middle(mark)), y_at(mark.y)
    body = ""
    if mark.x_high > mark.x_low:
        left, right = x_at(mark.x_low), x_at(mark.x_high)
        body += f'<line class="range" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    if mark.y_high > mark.y_low:
        low, high = y_at(mark.y_low), y_at(mark.y_high)
        body += f'<line class="range" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
    if mark.is_floor:
        body += f'<path class="range" d="M{x:.1f} {y:.1f}h16m-5 -3l5 3l-5 3" fill="none"/>'
    body += _shape(MARKS.get(mark.kind, "cross"), x, y)
    return f'<a class="mark {escape(mark.kind)}" {mark.link}><title>{escape(mark.title)}</title>{body}</a>'


def _shape(shape: str, x: float, y: float) -> str:
    match shape:
        case "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        case "square":
            return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'
        case "diamond":
            return f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"/>'
        case "triangle":
            return f'<path d="M{x:.1f} {y - 6:.1f}l6 11h-12z"/>'
        case _:
            return f'<path class="range" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'


def _labels(
    marks: Sequence[Mark], x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> list[str]:
    """A name for each series at its best mark, left out where it would lie on another."""
    best: dict[str, Mark] = {}
    for mark in marks:
        if mark.series not in best or mark.y > best[mark.series].y:
            best[mark.series] = mark
    taken: list[tuple[float, float, float]] = []
    labels = []
    for mark in sorted(best.values(), key=lambda mark: -mark.y):
        x, y, width = x_at(_middle(mark)) + 8, y_at(mark.y) - 6, 6.2 * len(mark.label)
        if x + width > WIDTH - 4:
            x -= width + 16
        free = all(abs(y - other) > 12 or x > right or x + width < left for left, right, other in taken)
        if free:
            taken.append((x, x + width, y))
            labels.append(f'<text class="label" x="{x:.1f}" y="{y:.1f}">{escape(mark.label)}</text>')
    return labels
