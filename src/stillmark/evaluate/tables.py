"""Evaluation results for people (terminal tables) and for programs (JSON)."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stillmark.analysis.intervals import Interval
from stillmark.analysis.paired import PairedComparison
from stillmark.evaluate.rescore import AtBudget, Rescored
from stillmark.evaluate.run_lm_eval import LmEvalResult
from stillmark.evaluate.run_text import TextResult
from stillmark.evaluate.summary import Result
from stillmark.records import Outcome

UNKNOWN = "?"
LEAST_WIDTH = 140  # columns, where the output is no terminal


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


def console_and_table(title: str, names: Sequence[str], *, left: Sequence[str]) -> tuple[Console, Table]:
    """A table that fits 80 columns: only what is named in `left` wraps. Files and pipes get a fixed width."""
    console = Console(width=None if sys.stdout.isatty() else LEAST_WIDTH, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for name in names:
        is_text = name in left
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    return console, table


def print_results(results: Sequence[Result], curves: Mapping[str, Sequence[AtBudget]]) -> None:
    labels = {result.label for result in results}
    of_whom = f"{next(iter(labels))}: a" if len(labels) == 1 else "A"
    columns = ("task", "items", "accuracy % [95%]", "outcomes", "tokens\nin / out", "seconds", "FLOPs")
    console, table = console_and_table(
        escape(f"{of_whom}ccuracy; tokens, seconds and FLOPs are means an answer"),
        columns if len(labels) == 1 else ("model", *columns),
        left=("model", "task", "outcomes"),
    )
    for result in results:
        share = "" if result.num_items == result.num_items_in_task else f"\nof {result.num_items_in_task}"
        repeats = (
            "" if result.num_samples == result.num_items else f" x {result.num_samples / result.num_items:g}"
        )
        chance = "" if result.chance is None else f"\nchance {100 * result.chance:.1f}"
        cells = (
            f"{result.task}\n{result.mode}",
            f"{result.num_items}{repeats}{share}",
            percent(result.accuracy) + chance,
            outcome_text(result),
            tokens(result),
            number(result.mean_seconds),
            flops(result.mean_flops),
        )
        table.add_row(*map(escape, cells if len(labels) == 1 else (result.label, *cells)))
    console.print(table)
    for result in results:
        for line in notes(result, curves.get(result.job_key, ())):
            console.print(line, highlight=False, soft_wrap=True, markup=False)


def print_texts(texts: Sequence[TextResult]) -> None:
    console, table = console_and_table(
        "Bits per byte of a text with its 95% interval; less is better",
        ("model", "text", "bytes", "bits per byte", "perplexity\na token", "seconds", "FLOPs"),
        left=("model", "text"),
    )
    for text in texts:
        bits = text.bits_per_byte
        table.add_row(
            text.label,
            text.task,
            str(text.num_bytes),
            UNKNOWN if bits is None else escape(f"{bits.value:.4f} [{bits.low:.4f}, {bits.high:.4f}]"),
            f"{text.perplexity_per_token:.4g}",
            number(text.seconds),
            flops(text.flops),
        )
    console.print(table)


def print_lm_eval(results: Sequence[LmEvalResult]) -> None:
    console, table = console_and_table(
        "lm-evaluation-harness's metrics, with its standard error",
        ("model", "task", "metric", "n", "value", "stderr"),
        left=("model", "task", "metric"),
    )
    for result in results:
        count = UNKNOWN if result.num_samples is None else str(result.num_samples)
        stderr = UNKNOWN if result.stderr is None else f"{result.stderr:.4f}"
        table.add_row(result.label, result.task, result.metric, count, f"{result.value:.4f}", stderr)
    console.print(table)


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
        total = result.mean_price_usd * (result.num_samples - result.outcomes[Outcome.ERROR])
        lines.append(
            f"{head}{1000 * result.mean_price_usd:.4g} USD for a thousand answers, {total:.4g} USD for these "
            f"({result.price or 'price list not recorded'}; failed attempts may have cost more)"
        )
    if result.served_models and result.served_models != (result.label,):
        lines.append(f"{head}beware: the endpoint says that it answered as {', '.join(result.served_models)}")
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
    console, table = console_and_table(
        escape(
            f"{names[0]} less {names[1]}, paired by item; p (McNemar) after Holm over {len(compared)} task(s)"
        ),
        ("task", "items", "points [95%]", "only first\n/ second", "p", "verdict", "detects\nfrom"),
        left=("task", "verdict"),
    )
    for task, result in compared.items():
        if result is None:
            table.add_row(task, "0", UNKNOWN, "", "", "no item in common", "")
            continue
        table.add_row(
            task,
            str(result.num_items),
            escape(percent(result.difference)),
            f"{result.num_first_only} / {result.num_second_only}",
            number(result.adjusted_p_value, digits=2),
            result.verdict,
            UNKNOWN if result.smallest_detectable is None else f"{100 * result.smallest_detectable:.1f}",
        )
    console.print(table)
    for caution in cautions:
        console.print(f"beware: {caution}", highlight=False, soft_wrap=True, markup=False)


def print_rescored(done: Sequence[Rescored]) -> None:
    console, table = console_and_table(
        "Graded again",
        ("model", "task", "samples", "changed", "from -> to"),
        left=("model", "task", "from -> to"),
    )
    for job in done:
        kinds: dict[str, int] = {}
        for _, _, before, after in job.changes:
            kinds[f"{before} -> {after}"] = kinds.get(f"{before} -> {after}", 0) + 1
        moves = job.left_as_is or ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        table.add_row(job.label, f"{job.task} {job.mode}", str(job.num_samples), str(len(job.changes)), moves)
    console.print(table)


def results_as_json(
    results: Sequence[Result], curves: Mapping[str, Sequence[AtBudget]]
) -> list[dict[str, Any]]:
    return [
        {**asdict(result), "at_budgets": [asdict(point) for point in curves.get(result.job_key, ())]}
        for result in results
    ]
