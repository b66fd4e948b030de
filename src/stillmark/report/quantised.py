"""The table of quantised arms: what rounding the weights does to an arm, measured on the same items."""

from collections.abc import Mapping
from typing import Any

from stillmark.report import text_words, words
from stillmark.report.table import Table, limited_cells, limited_columns, text_columns, word

NOTE = (
    "The last checkpoint, written as GGUF in the format and run by llama.cpp, less the same one in float32 run by "
    "transformers, paired over the same items, with 95% intervals. F32 rounds nothing and shows the engines alone. "
)


def quantised_tables(conclusion: Mapping[str, Any]) -> list[Table]:
    """One table, or none where the study quantises no arm."""
    return [quantised_table(conclusion)] if conclusion.get("quantised") else []


def quantised_table(conclusion: Mapping[str, Any]) -> Table:
    """One row a quantised arm: accuracy, or bits per byte in a text study, less its parent's."""
    is_text = conclusion.get("kind") == "text"
    measure, title = ("bits_per_byte", "Bits per byte less") if is_text else ("accuracy", "Accuracy less")
    columns = text_columns(("arm", "Arm"), ("format", "Format"), ("parent", "Made from"))
    columns += limited_columns(measure, title + " that of the float arm")
    rows = []
    for row in conclusion["quantised"]:
        if row[measure] is None:
            text = words.UNKNOWN
        else:
            text = text_words.difference(row[measure]) if is_text else words.points(row[measure])
        cells = [word(row["arm"]), word(row["format"]), word(row["parent"])]
        rows.append((*cells, *limited_cells(row[measure], text)))
    less = "Less is better." if is_text else "In points of accuracy."
    return Table(name="quantised", title="What quantising changes", columns=tuple(columns), rows=tuple(rows),
                 note=NOTE + less)  # fmt: skip
