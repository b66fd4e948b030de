"""Evaluation results for people (terminal tables) and for programs (JSON)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from stillmark.analysis.intervals import Interval
from stillmark.analysis.paired import PairedComparison
from stillmark.evaluate.rescore import AtBudget, Rescored
from stillmark.evaluate.run_text import TextResult
from stillmark.evaluate.summary import Result

UNKNOWN = "?"


def percent(interval: Interval | None) -> str:
    """Accuracy with its interval, in per cent."""
    if interval is None:
        return UNKNOWN
    return f"{100 * interval.value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def number(value: float | None, unit: str = "", digits: int = 3) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}g}{unit}"


def flops(value: float | None) -> str:
    """FLOPs with the prefix that leaves one to three digits before the point."""
    if value is None:
        return UNKNOWN
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {prefix}"
    return f"{value:.3g}"


def tokens(result: Result) -> str:
    """Mean tokens an answer: read, thought, written in all."""
    parts = [result.mean_prompt_tokens, result.mean_thinking_tokens, result.mean_generated_tokens]
    if result.mode == "loglikelihood":
        parts = parts[:1]
    elif not result.mean_thinking_tokens:
        parts = [parts[0], parts[2]]
    return " / ".join(UNKNOWN if part is None else f"{part:.0f}" for part in parts)


def outcome_text(result: Result) -> str:
    """How the samples ended, in few words: what is 0 is left out."""
    shown = [f"{count} {name}" for name, count in result.outcomes.items() if count]
    return ", ".join(shown)


def print_results(results: Sequence[Result], curves: Mapping[str, Sequence[AtBudget]]) -> None:
    console = Console()
    table = Table(title="Accuracy in % with its 95% interval; tokens, seconds and FLOPs are means an answer")
    for name in (
        "model",
        "task",
        "n",
        "accuracy %",
        "chance",
        "outcomes",
        "tokens in / out",
        "seconds",
        "FLOPs",
    ):
        justify: Any = (
            "right"
            if name in ("n", "chance", "seconds", "FLOPs", "accuracy %", "tokens in / out")
            else "left"
        )
        table.add_column(name, justify=justify, overflow="fold")
    for result in results:
        share = "" if result.num_items == result.num_items_in_task else f" of {result.num_items_in_task}"
        repeats = (
            "" if result.num_samples == result.num_items else f" x {result.num_samples / result.num_items:g}"
        )
        table.add_row(
            result.label,
            f"{result.task}\n{result.mode}",
            f"{result.num_items}{share}{repeats}",
            percent(result.accuracy),
            "" if result.chance is None else f"{100 * result.chance:.1f}",
            outcome_text(result),
            tokens(result),
            number(result.mean_seconds),
            flops(result.mean_flops),
        )
    console.print(table)
    for result in results:
        for line in notes(result, curves.get(result.job_key, ())):
            console.print(line, highlight=False, soft_wrap=True, markup=False)


def print_texts(texts: Sequence[TextResult]) -> None:
    table = Table(title="Bits per byte of a text with its 95% interval; less is better")
    for name in ("model", "text", "bytes", "bits per byte", "perplexity a token", "seconds", "FLOPs"):
        table.add_column(name, justify="left" if name in ("model", "text") else "right")
    for text in texts:
        bits = text.bits_per_byte
        table.add_row(
            text.label,
            text.task,
            str(text.num_bytes),
            UNKNOWN if bits is None else f"{bits.value:.4f} [{bits.low:.4f}, {bits.high:.4f}]",
            f"{text.perplexity_per_token:.4g}",
            number(text.seconds),
            flops(text.flops),
        )
    Console().print(table)


def notes(result: Result, curve: Sequence[AtBudget]) -> list[str]:
    """What a table's row has no room for."""
    head = f"{result.label} {result.task} {result.mode}: "
    lines = []
    if len(result.by_extractor) > 1 and result.disputed_share is not None:
        each = ", ".join(f"{name} {100 * share:.1f}%" for name, share in result.by_extractor.items())
        lines.append(
            f"{head}alone, {each} correct; two that found an answer disagree on {100 * result.disputed_share:.1f}%"
        )
    if result.mean_price_usd is not None:
        lines.append(f"{head}{1000 * result.mean_price_usd:.4g} USD for a thousand answers")
    if result.at_k:
        lines.append(head + ", ".join(f"{name} {percent(value)}" for name, value in result.at_k.items()))
    if curve:
        each = ", ".join(f"{point.max_new_tokens}: {percent(point.accuracy)}" for point in curve)
        lines.append(f"{head}within a limit of new tokens, {each}")
    if result.num_cached:
        lines.append(
            f"{head}{result.num_cached} replies are from the response cache; seconds are of the run that wrote them"
        )
    return lines


def print_comparison(
    names: tuple[str, str], compared: Mapping[str, PairedComparison | None], cautions: Sequence[str]
) -> None:
    console = Console()
    table = Table(
        title=f"{names[0]} less {names[1]}, paired by item; p after Holm over {len(compared)} task(s)"
    )
    for name in (
        "task",
        "items",
        "difference, points",
        "only first / second",
        "p",
        "verdict",
        "detects from",
    ):
        table.add_column(name, justify="left" if name in ("task", "verdict") else "right")
    for task, result in compared.items():
        if result is None:
            table.add_row(task, "0", UNKNOWN, "", "", "no item in common", "")
            continue
        table.add_row(
            task,
            str(result.num_items),
            percent(result.difference),
            f"{result.num_first_only} / {result.num_second_only}",
            number(result.adjusted_p_value, digits=2),
            result.verdict,
            UNKNOWN
            if result.smallest_detectable is None
            else f"{100 * result.smallest_detectable:.1f} points",
        )
    console.print(table)
    for caution in cautions:
        console.print(f"beware: {caution}", highlight=False, soft_wrap=True, markup=False)


def print_rescored(done: Sequence[Rescored]) -> None:
    console = Console()
    table = Table(title="Graded again")
    for name in ("model", "task", "samples", "changed", "from -> to"):
        table.add_column(name, justify="right" if name in ("samples", "changed") else "left")
    for job in done:
        kinds: dict[str, int] = {}
        for _, _, before, after in job.changes:
            kinds[f"{before} -> {after}"] = kinds.get(f"{before} -> {after}", 0) + 1
        moves = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        table.add_row(job.label, f"{job.task} {job.mode}", str(job.num_samples), str(len(job.changes)), moves)
    console.print(table)


def results_as_json(
    results: Sequence[Result], curves: Mapping[str, Sequence[AtBudget]]
) -> list[dict[str, Any]]:
    return [
        {**asdict(result), "at_budgets": [asdict(point) for point in curves.get(result.job_key, ())]}
        for result in results
    ]
