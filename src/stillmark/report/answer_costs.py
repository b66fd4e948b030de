"""What one answer takes, as a table and as axes of the page's chart; the values are the conclusion's."""

from collections.abc import Mapping
from typing import Any

from stillmark.report import words
from stillmark.report.device import seconds, size
from stillmark.report.table import Cell, Column, Table, limited_cells, limited_columns, word

TITLES = {
    "seconds": "Seconds an answer",
    "joules": "Joules an answer",
    "money": "Money an answer",
    "memory": "Memory",
}
AXIS_TITLES = {
    "seconds": "seconds of the device for one answer",
    "joules": "joules of one answer",
    "money": "US dollars of one answer",
    "memory": "memory while answering, bytes",
}
UNITS = {"seconds": " s an answer", "joules": " J an answer", "money": " USD an answer", "memory": " bytes"}


def answer_costs_table(conclusion: Mapping[str, Any]) -> Table:
    """One row an arm: each value with its limits, or why it is unknown."""
    axes = conclusion["answer_axes"]
    columns = [Column(name="arm", title="Arm", is_number=False)]
    for axis in axes:
        columns += [
            *limited_columns(axis["name"], TITLES[axis["name"]]),
            Column(name=f"{axis['name']}_unknown_because", title="", is_number=False),
        ]
    rows = []
    for arm in conclusion["arms"]:
        cells = [word(arm["arm"])]
        for axis in axes:
            found = axis["arms"][arm["arm"]]
            cells += [
                *limited_cells(found, cell_text(axis["name"], found)),
                Cell(value=found["reason"], text=""),
            ]
        rows.append(tuple(cells))
    return Table(
        name="answer_costs", title="What an answer takes", columns=tuple(columns), rows=tuple(rows),
        note=". ".join(f"{TITLES[axis['name']]}: {axis['method']}, {axis['source']}" for axis in axes) + ".",
    )  # fmt: skip


def cell_text(name: str, found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return f"{words.UNKNOWN} ({found['reason']})"
    write = {"seconds": seconds, "memory": size}.get(name, words.plain)
    text = write(found["value"])
    return text if found["low"] is None else f"{text} ({write(found['low'])} to {write(found['high'])})"


def chart_axes(conclusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the script needs of each axis; none of a conclusion that was written before there were any."""
    return [
        {
            **axis,
            "title": AXIS_TITLES[axis["name"]],
            "short": TITLES[axis["name"]],
            "shown_unit": UNITS[axis["name"]],
        }
        for axis in conclusion.get("answer_axes", [])
    ]
