"""A table: rows of plain values with headings, written as CSV, Markdown and on the page alike.

A cell is a value and the words that it is shown in. CSV takes the value in full, the others the words.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillmark.report import words


@dataclass(frozen=True, kw_only=True)
class Column:
    """`name` is the heading of the CSV; `title` what people read, empty for what only the CSV holds."""

    name: str
    title: str
    is_number: bool = True


@dataclass(frozen=True, kw_only=True)
class Cell:
    value: Any
    text: str

    @property
    def head(self) -> str:
        """The value, without the interval that follows it in brackets."""
        return self.text.partition(" (")[0] if self.text.endswith(")") else self.text

    @property
    def tail(self) -> str:
        return self.text[len(self.head) :].strip(" ()")


@dataclass(frozen=True, kw_only=True)
class Table:
    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def shown_columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.title)

    def shown(self, row: tuple[Cell, ...]) -> tuple[Cell, ...]:
        """The cells of a row that people read."""
        return tuple(cell for column, cell in zip(self.columns, row, strict=True) if column.title)

    def to_csv(self) -> str:
        """Values in full; unknown is an empty field."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        writer.writerows([["" if cell.value is None else cell.value for cell in row] for row in self.rows])
        return buffer.getvalue()

    def to_latex(self) -> str:
        """A booktabs table."""
        columns = self.shown_columns
        rows = [
            [column.title for column in columns],
            *([c.text for c in self.shown(row)] for row in self.rows),
        ]
        lines = [" & ".join(latex(text) for text in row) + r" \\" for row in rows]
        shape = "".join("r" if column.is_number else "l" for column in columns)
        head = [r"\begin{table}", r"\centering", rf"\caption{{{latex(f'{self.title}. {self.note}')}}}",
                rf"\label{{tab:{self.name}}}", rf"\begin{{tabular}}{{{shape}}}", r"\toprule"]  # fmt: skip
        foot = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
        return "\n".join([*head, lines[0], r"\midrule", *lines[1:], *foot])

    def to_markdown(self) -> str:
        columns = self.shown_columns
        lines = [
            f"**{self.title}**",
            "",
            "| " + " | ".join(escaped(column.title) for column in columns) + " |",
        ]
        lines.append("|" + "|".join("---:" if column.is_number else "---" for column in columns) + "|")
        lines += [
            "| " + " | ".join(escaped(cell.text) for cell in self.shown(row)) + " |" for row in self.rows
        ]
        return "\n".join([*lines, "", self.note, ""])


LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
         "|": r"\textbar{}"}  # fmt: skip


def latex(text: str) -> str:
    """Text as LaTeX text."""
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))


def escaped(text: str) -> str:
    """Text in one cell of a Markdown table, as text."""
    for character in ("\\", "|", "<", ">", "`", "*", "_", "[", "]"):
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def word(value: str | None) -> Cell:
    return Cell(value=value, text="none" if value is None else words.visible_text(value, 200))


def number(value: float | None, text: str) -> Cell:
    return Cell(value=value, text=text)


def text_columns(*pairs: tuple[str, str]) -> list[Column]:
    """Columns of words, by (name, title)."""
    return [Column(name=name, title=title, is_number=False) for name, title in pairs]


def limited_columns(name: str, title: str) -> tuple[Column, Column, Column]:
    """A number's column, and its interval's two limits, which the CSV holds in columns of their own."""
    return (
        Column(name=name, title=title),
        Column(name=f"{name}_low", title=""),
        Column(name=f"{name}_high", title=""),
    )


def limited_cells(
    found: Mapping[str, Any] | None, text: str, value: str = "value"
) -> tuple[Cell, Cell, Cell]:
    """The cells of those columns; the text shows the limits too. None: unknown."""
    known = found or {}
    return number(known.get(value), text), number(known.get("low"), ""), number(known.get("high"), "")
