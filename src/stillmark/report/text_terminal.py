"""A text study's conclusion as tables in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from stillmark.report import words
from stillmark.report.table import Table as ReportTable
from stillmark.report.text_tables import text_tables_of
from stillmark.report.text_words import COMPARED, MEASURES

# The columns that are shown of each table, by its name
SHOWN = {
    "arms": ("arm", "params", *MEASURES, "flops_student", "flops_generation"),
    "sources": ("arm", "source", "sequences", *MEASURES),
    "differences": ("student", "other", "when", "source", *COMPARED),
    "ratios": ("student", "other", "measure", "at", "quality", "boundary", "ratio", "ratio_low"),
    "benchmarks": ("arm", "benchmark", "accuracy", "chance", "num_items", "truncated"),
    "benchmark_differences": ("arm", "benchmark", "other", "difference", "told_apart"),
}


def text_terminal_tables(conclusion: Mapping[str, Any]) -> list[Table]:
    """The tables of `SHOWN`: rows without a number under an unknown boundary are left to the page."""
    tables = {table.name: table for table in text_tables_of(conclusion)}
    shown = [(tables[name], names) for name, names in SHOWN.items() if name in tables and tables[name].rows]
    return [
        terminal_table(f"{conclusion['name']}: {table.title}" if index == 0 else table.title, table, names)
        for index, (table, names) in enumerate(shown)
    ]


def terminal_table(title: str, table: ReportTable, names: tuple[str, ...]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, title=escape(title))
    places = [index for index, column in enumerate(table.columns) if column.name in names]
    for place in places:
        column = table.columns[place]
        made.add_column(
            escape(column.title), justify="right" if column.is_number else "left", overflow="fold"
        )
    is_ratio = [index for index, column in enumerate(table.columns) if column.name == "ratio"]
    for row in table.rows:
        if is_ratio and row[is_ratio[0]].text == words.UNKNOWN:
            continue
        made.add_row(*(escape(row[place].text) for place in places))
    return made
