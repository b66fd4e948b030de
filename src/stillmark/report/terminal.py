"""The conclusion as tables in the terminal."""

import sys
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stillmark.report import words
from stillmark.report.answer import answer_of
from stillmark.report.terminal_plot import accuracy_plot, bits_plot
from stillmark.report.text_answer import text_answer_of
from stillmark.report.text_terminal import terminal_table, text_terminal_tables
from stillmark.report.training import training_table

LEAST_WIDTH = 140  # columns, where the output is no terminal


def print_conclusion(conclusion: Mapping[str, Any]) -> None:
    """Arms, then each student's ratio under each boundary, then the answer: on stdout."""
    console = Console(width=None if sys.stdout.isatty() else LEAST_WIDTH, highlight=False)
    is_text = conclusion.get("kind") == "text"
    answer = text_answer_of(conclusion) if is_text else answer_of(conclusion)
    if answer.warning:
        console.print(f"[bold yellow]NOT FINISHED[/] {escape(answer.warning)}\n")
    if is_text:
        for table in text_terminal_tables(conclusion):
            console.print(table)
    else:
        console.print(arms_table(conclusion))
        if conclusion["comparisons"]:
            console.print(ratios_table(conclusion))
    if conclusion.get("training"):
        console.print(terminal_training_table(conclusion))
    if picture := bits_plot(conclusion) if is_text else accuracy_plot(conclusion):
        console.print(f"{escape(picture)}\n", soft_wrap=True)
    console.print(f"[bold]{escape(answer.verdict)}[/] {escape(answer.sentence)}")
    for line in answer.details:
        console.print(f"- {escape(line)}")


def terminal_training_table(conclusion: Mapping[str, Any]) -> Table:
    table = training_table(conclusion)
    return terminal_table(table.title, table, ("arm", "part", "tokens", "flops", "seconds", "mfu"))


def arms_table(conclusion: Mapping[str, Any]) -> Table:
    num_seeds = len(conclusion["seeds"])
    table = Table(
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        title=f"{escape(conclusion['name'])}: arms at "
        f"the end of training, over {num_seeds} seed{'s' if num_seeds > 1 else ''}",
    )
    table.add_column("arm", overflow="fold")
    table.add_column("kind")
    headings = (
        "accuracy [95% CI]",
        "params",
        "FLOPs: student",
        "generation",
        "teacher",
        "base",
        "everything",
        "tokens/answer",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=heading.startswith("accuracy"))
    for arm in conclusion["arms"]:
        table.add_row(
            escape(arm["arm"]),
            arm["kind"],
            bracketed(arm["accuracy"]),
            words.quantity(arm["params"]),
            *(words.quantity(arm["flops"][boundary]) for boundary in words.BOUNDARIES),
            f"{arm['generated_tokens']:.1f}",
        )
    return table


def bracketed(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return words.UNKNOWN
    return escape(
        f"{words.percent(interval['value'])} [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"
    )


def ratios_table(conclusion: Mapping[str, Any]) -> Table:
    """Vanilla compute over the student's at equal accuracy, and the vanilla size that it is worth."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        title="compute that vanilla models need over "
        "the student's, at equal accuracy, by boundary (counted over counted)",
    )
    table.add_column("student", overflow="fold")
    table.add_column("at", justify="right")
    for boundary in words.BOUNDARIES:
        table.add_column(boundary, justify="right")
    table.add_column("worth a", justify="right")
    for comparison in conclusion["comparisons"]:
        for at in ("final", "shared"):
            rows = {row["boundary"]: row for row in comparison["ratios"] if row["at"] == at}
            if not rows:
                continue
            name = (
                comparison["arm"] + (" (control)" if comparison["is_control"] else "")
                if at == "final"
                else ""
            )
            size = f"{words.size(comparison['equivalent_params'])}\nvanilla params" if at == "final" else ""
            cells = [stacked(rows[boundary]) for boundary in words.BOUNDARIES]
            table.add_row(escape(name), words.percent(rows["student"]["accuracy"]), *cells, size)
    return table


def stacked(row: Mapping[str, Any]) -> str:
    text = words.ratio(row)
    return text if text == words.UNKNOWN else escape(f"{text}\n[{words.ratio_limits(row)}]")
