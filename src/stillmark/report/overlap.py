"""Training questions that overlap with held-out items, as a table."""

from collections.abc import Mapping
from typing import Any

from stillmark.analysis.overlap_rows import MAX_LOOKED_AT
from stillmark.report import words
from stillmark.report.table import Column, Table, number, word

COUNTS = (
    ("held_out_items", "Held-out items"),
    ("samples_read", "Samples read in training"),
    ("questions_looked_at", "Different questions looked at"),
    ("equal", "Equal to a held-out item"),
    ("shared_run", "Share 13 words in a row with one"),
)


def overlap_table(conclusion: Mapping[str, Any]) -> Table:
    """One row a trained arm."""
    columns = [
        Column(name="arm", title="Arm", is_number=False),
        Column(name="text", title="Text", is_number=False),
    ]
    columns += [Column(name=name, title=title) for name, title in COUNTS]
    rows = [
        (
            word(row["arm"]),
            word(row["text"]),
            *(number(row[name], words.count(row[name])) for name, _ in COUNTS),
        )
        for row in conclusion.get("overlap", ())
    ]
    return Table(
        name="overlap",
        title="Training questions held against the held-out items",
        columns=tuple(columns),
        rows=tuple(rows),
        note=f"Over all seeds; of texts without end, the first {MAX_LOOKED_AT:,} questions of each seed are looked at. "
        "Equal: up to case and white space; a trace of such a question is not learned from. Shared runs are counted "
        "alone: questions composed of few words share some by chance.",
    )
