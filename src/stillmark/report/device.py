"""Inference on a device: the table of what was measured, the data of the page's picker, a choice in the terminal."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as TerminalTable

from stillmark.analysis.choose import THIS_MACHINE, Choice
from stillmark.compute.hardware import devices
from stillmark.compute.predictor import MEMORY_SHARE, Limits
from stillmark.report import words
from stillmark.report.table import Cell, Column, Table, limited_cells, limited_columns, number, word

LEAST_WIDTH = 140  # columns, where the output is no terminal
MEMORY_WORDS = (
    "Memory: measured, the peak of the engine's whole process; predicted, weights and KV cache without the engine's "
    "own work space, against 90% of the device's"
)
MEASURED = (  # metric, heading, unit in words
    ("end_to_end_seconds", "An answer"),
    ("ttft_seconds", "First token"),
    ("tpot_seconds", "Each further token"),
    ("peak_memory_bytes", "Peak memory"),
    ("file_bytes", "On disk"),
    ("joules_per_answer", "Joules an answer"),
)


def profiles_tables(conclusion: Mapping[str, Any]) -> list[Table]:
    """One table, or none where nothing was profiled."""
    return [profiles_table(conclusion)] if conclusion.get("profiles") else []


def profiles_table(conclusion: Mapping[str, Any]) -> Table:
    """One row an arm, engine, format and setting."""
    columns = [
        Column(name=name, title=name.capitalize(), is_number=False) for name in ("arm", "engine", "format")
    ]
    columns += [
        Column(name="threads", title="Threads"),
        Column(name="prompt_tokens", title=""),
        Column(name="new_tokens", title="Tokens in + out"),
        Column(name="batch", title="Batch"),
        Column(name="memory_cap_bytes", title="Memory cap"),
    ]
    for metric, title in MEASURED:
        columns += limited_columns(metric, title)
    columns += [
        Column(name="seconds_per_correct", title="A correct answer"),
        Column(name="verdict", title="The run is", is_number=False),
        Column(name="reason", title="", is_number=False),
    ]
    costs = {name_of(row): row["per_correct"]["seconds"]["value"] for row in conclusion["choose"]}
    variants = {(row["parent"], row["format"]): row["arm"] for row in conclusion.get("quantised", [])}
    rows = []
    for row in conclusion["profiles"]:
        cap = row["memory_cap_bytes"]
        cells = [
            word(row["arm"]),
            word(row["engine"]),
            word(row["format"]),
            number(row["threads"], str(row["threads"])),
            number(row["prompt_tokens"], ""),
            number(row["new_tokens"], f"{row['prompt_tokens']} + {row['new_tokens']}"),
            number(row["batch"], str(row["batch"])),
            number(cap, "none" if cap is None else size(cap)),
        ]
        for metric, _ in MEASURED:
            figure = row["figures"].get(metric) or {"value": None, "low": None, "high": None}
            cells += limited_cells(figure, shown(metric, figure))
        variant = variants.get((row["arm"], row["format"])) if row["engine"] == "llamacpp" else None
        evaluated = name_of({**row, "arm": variant or row["arm"]})
        cost = costs.get(evaluated) if cap is None else None
        said = row["verdict"] + (f": {row['reason']}" if row["reason"] else "")
        cells += [
            number(cost, words.UNKNOWN if cost is None else seconds(cost)),
            Cell(value=row["verdict"], text=words.visible_text(said, 400)),
            word(row["reason"]),
        ]
        rows.append(tuple(cells))
    return Table(
        name="profiles",
        title="Inference as measured on the machine of the study",
        columns=tuple(columns),
        rows=tuple(rows),
        note=note_of(conclusion["profiles"]),
    )


def note_of(rows: Sequence[Mapping[str, Any]]) -> str:
    note = (
        "Medians with 95% intervals (widened by how far the machine's pace moved from earlier sessions, where any "
        "are known), of the arm's last checkpoint of the first seed, alone on the machine, all arms in turn in a "
        "random order; lengths are the means of the arm's own answers where the study gives none. A correct "
        "answer: seconds of an answer over accuracy. A run that broke a rule is INVALID and its seconds choose "
        "nothing."
    )
    num_sessions = len({row["session"] for row in rows})
    if num_sessions == 1:
        return note
    return f"{note} Memory did not hold all engines at once: they were measured in {num_sessions} sessions, at random."


def name_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["arm"], row["engine"], row["format"]


def shown(metric: str, figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return words.UNKNOWN
    write = size if metric.endswith("_bytes") else seconds if metric.endswith("_seconds") else words.plain
    if figure["low"] is None or figure["high"] is None:
        return write(figure["value"])
    return f"{write(figure['value'])} ({write(figure['low'])} to {write(figure['high'])})"


def seconds(value: float) -> str:
    return f"{words.plain(value)} s" if value >= 1 else f"{words.plain(1000 * value)} ms"


def size(value: float) -> str:
    return f"{words.plain(value / 2**30)} GiB" if value >= 2**30 else f"{words.plain(value / 2**20)} MiB"


def picker_data(conclusion: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's picker works with: the conclusion's rows, and every device's ceilings."""
    limits = [Limits.of_device(device) for device in devices().values()]
    names = ("name", "memory_bytes", "bytes_per_second", "flops_per_second")
    return {
        "rows": conclusion.get("choose", []),
        "devices": [{name: getattr(limit, name) for name in names} for limit in limits],
        "memory_share": MEMORY_SHARE,
        "this_machine": THIS_MACHINE,
        "memory_words": MEMORY_WORDS,
    }


def print_choice(choice: Choice) -> None:
    """The answer first, then every candidate with its reason."""
    console = Console(width=None if sys.stdout.isatty() else LEAST_WIDTH, highlight=False)
    console.print(f"[bold]{escape(choice.sentence)}[/]", soft_wrap=True)
    table = TerminalTable(title=f"on {escape(choice.device)}", title_justify="left")
    for heading in ("arm", "engine", "format", "accuracy", "an answer", "memory", "", "because"):
        table.add_column(
            heading,
            justify="right" if heading in ("accuracy", "an answer", "memory") else "left",
            overflow="fold",
            ratio=1 if heading == "because" else None,
        )
    for row in choice.rows:
        table.add_row(
            escape(row.arm),
            row.engine,
            row.format,
            words.percent(row.accuracy),
            words.UNKNOWN if row.seconds is None else f"{seconds(row.seconds)}\n{row.method}",
            words.UNKNOWN
            if row.memory_bytes is None
            else f"{size(row.memory_bytes)}\n{row.method.removesuffix(' bound')}",
            row.verdict + (" ◀ best" if row is choice.best else ""),
            escape(row.reason),
        )
    console.print(table)
    console.print(f"- {MEMORY_WORDS}", style="dim", soft_wrap=True)
