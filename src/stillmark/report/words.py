"""How numbers and foreign text are written, everywhere in the report alike. Unknown is `unknown`, never 0."""

import math
import re
from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"
SI = (("Y", 24), ("Z", 21), ("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0))
BOUNDARIES = ("student", "generation", "teacher", "base", "everything")
WIDEST = "everything"
MAX_TEXT = 4000  # characters of one foreign text on a page; what is cut is said
# Invisible or direction-changing characters: shown by their code, so that a text reads as what it is.
# In order: controls but tab and line feed, zero-width and direction marks, embeddings, joiners, the byte order mark,
# annotations, tags, halves of surrogate pairs.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def percent(share: float | None, digits: int = 1) -> str:
    return UNKNOWN if share is None else f"{100 * share:.{digits}f}%"


def accuracy(interval: Mapping[str, Any] | None) -> str:
    """`93.2% (91.0 to 94.9)`"""
    if interval is None:
        return UNKNOWN
    return f"{percent(interval['value'])} ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"


def points(interval: Mapping[str, Any] | None) -> str:
    """A difference of accuracies in percentage points: `+2.1 (-0.4 to +4.5)`."""
    if interval is None:
        return UNKNOWN
    value, low, high = (f"{100 * interval[name]:+.1f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def quantity(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Three significant digits with an SI prefix: `3.41 TFLOP`, `50k`."""
    if value is None:
        return UNKNOWN
    scaled = {prefix: float(f"{value / 10**power:.{digits}g}") for prefix, power in SI}
    prefix = next((prefix for prefix, number in scaled.items() if abs(number) >= 1), "")
    number = plain(scaled[prefix], digits)
    return f"{number} {prefix}{unit}" if unit else f"{number}{prefix}"


def plain(value: float, digits: int = 3) -> str:
    """Significant digits without an exponent for ordinary sizes: 1000 stays 1000, 0.5 stays 0.5."""
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        places = 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits}g}"


def flops(value: float | None) -> str:
    return quantity(value, "FLOP")


def count(value: float | None) -> str:
    """A count in full: `1,234,567`."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if value < 60:
        return f"{plain(value)} s"
    if value < 3600:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h" if value < 172_800 else f"{value / 86_400:.1f} days"


def gibibytes(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value / 2**30:.1f} GiB"


def times(value: float) -> str:
    return f"{plain(value)}x"


def limits(low: float | None, high: float | None, unit: str = "") -> str:
    """The ends of an interval, open ones in words."""
    if low is None and high is None:
        return "no limit known"
    if low is None or high is None:
        return f"at most {plain(high)}{unit}" if high is not None else f"at least {plain(low or 0)}{unit}"
    return f"{plain(low)}{unit} to {plain(high)}{unit}"


def ratio(row: Mapping[str, Any]) -> str:
    """`12.3x`, `more than 40x`, `unknown`: the ratio without its interval."""
    if row["value"] is not None:
        return times(row["value"])
    if row["censored"] in ("more than", "less than") and row["bound"] is not None:
        return f"{row['censored']} {times(row['bound'])}"
    return str(row["text"]).split(" (")[0]


def ratio_limits(row: Mapping[str, Any]) -> str:
    return limits(row["low"], row["high"])


def size_limits(estimate: Mapping[str, Any]) -> str:
    """The ends of an equivalent size, in parameters."""
    low, high = (None if estimate[end] is None else quantity(estimate[end]) for end in ("low", "high"))
    if low is None or high is None:
        return "no limit known" if low == high else f"at most {high}" if low is None else f"at least {low}"
    return f"{low} to {high}"


def size(estimate: Mapping[str, Any]) -> str:
    """An equivalent size in parameters, censored where the family ends."""
    if estimate["value"] is not None:
        return quantity(estimate["value"])
    if estimate["censored"] == "more than":
        return f"more than {quantity(estimate['lower_bound'])}"
    if estimate["censored"] == "less than":
        return f"less than {quantity(estimate['upper_bound'])}"
    if estimate["censored"] == "between":
        return f"{quantity(estimate['lower_bound'])} to {quantity(estimate['upper_bound'])}"
    return UNKNOWN


def density(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is not None:
        return times(estimate["value"])
    if estimate["censored"] == "more than":
        return f"more than {times(estimate['lower_bound'])}"
    if estimate["censored"] == "less than":
        return f"less than {times(estimate['upper_bound'])}"
    return UNKNOWN


def visible_text(text: str, limit: int = MAX_TEXT) -> str:
    """Foreign text as it reads: hidden, control and direction-changing characters by code, cut with a note."""
    shown = HIDDEN.sub(lambda found: f"[U+{ord(found.group()):04X}]", text[:limit])
    left = len(text) - limit
    return shown if left <= 0 else f"{shown} [... {left:,} more characters of {len(text):,}]"
