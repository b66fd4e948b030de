"""How the numbers of a text study are written."""

from collections.abc import Mapping, Sequence
from typing import Any

from stillmark.report import words

MEASURES = ("bits_per_byte", "perplexity", "kl_per_token")
COMPARED = ("bits_per_byte", "kl_per_token")  # that differences and ratios are worked out of
TITLES = {
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity",
    "kl_per_token": "KL to the teacher, nats a token",
}
HEADINGS = {
    "bits_per_byte": "Bits per byte",
    "perplexity": "Perplexity",
    "kl_per_token": "KL, nats a token",
}
MATCH_WORDS = {
    "tokens": "the same number of training tokens",
    "steps": "the same number of steps",
    "compute": "the same training compute",
    "compute_with_teacher": "the student's compute and what the teacher's work took beside it",
}


def value(measure: str, number: float | None) -> str:
    """`1.234` bits per byte or nats, `56.1` of perplexity."""
    if number is None:
        return words.UNKNOWN
    if measure != "perplexity":
        return f"{number:.3f}"
    return f"{number:#.4g}" if number < 1000 else words.count(number)


def estimate(measure: str, row: Mapping[str, Any] | None) -> str:
    """`1.234 (1.200 to 1.268)`"""
    if row is None:
        return words.UNKNOWN
    if row["low"] is None or row["high"] is None:
        return value(measure, row["value"])
    return f"{value(measure, row['value'])} ({value(measure, row['low'])} to {value(measure, row['high'])})"


def difference(row: Mapping[str, Any] | None) -> str:
    """`-0.051 (-0.060 to -0.042)`: more digits where the number is small."""
    if row is None:
        return words.UNKNOWN
    known = [abs(row[end]) for end in ("low", "high") if row[end] is not None]
    digits = 3 if max([abs(row["value"]), *known]) >= 0.02 else 5
    if row["low"] is None or row["high"] is None:
        return f"{row['value']:+.{digits}f}"
    return f"{row['value']:+.{digits}f} ({row['low']:+.{digits}f} to {row['high']:+.{digits}f})"


def share(row: Mapping[str, Any] | None) -> str:
    """`42.1% (40.0 to 44.2)`"""
    return words.UNKNOWN if row is None or row["low"] is None else words.accuracy(row)


def ratio(row: Mapping[str, Any]) -> str:
    """`3.1x`, `> 3.1x`, `< 0.4x`, `unknown`."""
    if row["value"] is not None:
        return words.times(row["value"])
    if row["bound"] is not None and row["censored"] in ("more than", "less than"):
        return f"{'>' if row['censored'] == 'more than' else '<'} {words.times(row['bound'])}"
    return words.UNKNOWN


def sign_of(row: Mapping[str, Any] | None) -> str:
    """What the interval of a difference (student less other; less is better) shows: better, worse, unclear."""
    if row is None or row["low"] is None or row["high"] is None:
        return "unclear"
    return "better" if row["high"] < 0 else "worse" if row["low"] > 0 else "unclear"


def least(measure_rows: Mapping[str, Any], measure: str) -> float:
    row = measure_rows[measure]
    return float("inf") if row is None else float(row["value"])


def tokenizer_note(arms: Sequence[Mapping[str, Any]]) -> str:
    """What not to compare where arms read with tokenizers of their own; empty where they share one."""
    of_model: dict[str, list[str]] = {}
    for arm in arms:
        of_model.setdefault(arm.get("tokenizer", ""), []).append(arm["arm"])
    if len(of_model) < 2:
        return ""
    listed = "; ".join(f"{model}'s: {', '.join(names)}" for model, names in of_model.items())
    return (
        f"Arms read the same text with several tokenizers ({listed}), and a perplexity is per token: compare it within "
        "one tokenizer, and bits per byte across them. "
    )
