"""The paper study's report: from published figures to tables and one page. Seconds, and no torch.

tables = paper_study(PublishedSettings())
write_paper_report(tables, Path("runs/paper"))
"""

import csv
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stillmark.analysis.claims import PaperClaims, study_claims
from stillmark.published.settings import PublishedSettings
from stillmark.report.paper_cells import Cell, Row, Table
from stillmark.report.paper_compute import (
    headline_table,
    inputs_table,
    not_computable_table,
    ratios_table,
    thresholds_table,
)
from stillmark.report.paper_hours import (
    distillation_hours_table,
    hours_table,
    implied_mfu_table,
    purchases_table,
)
from stillmark.report.paper_page import page
from stillmark.report.paper_scores import answers_table, curve_table, density_table, disagreements_table
from stillmark.report.paper_size import own_base_table, size_summary_table, size_table

BUILDERS = (
    headline_table,
    ratios_table,
    thresholds_table,
    inputs_table,
    not_computable_table,
    hours_table,
    implied_mfu_table,
    distillation_hours_table,
    purchases_table,
    size_summary_table,
    size_table,
    own_base_table,
    curve_table,
    answers_table,
    density_table,
    disagreements_table,
)


@dataclass(frozen=True, kw_only=True)
class PaperTables:
    """The claims and the tables made from them, by key."""

    claims: PaperClaims
    tables: dict[str, Table]


def paper_study(settings: PublishedSettings) -> PaperTables:
    """Work out every claim and lay it out in tables."""
    claims = study_claims(settings)
    built = [build(claims) for build in BUILDERS]
    return PaperTables(claims=claims, tables={table.key: table for table in built})


def write_paper_report(result: PaperTables, directory: Path) -> Path:
    """Write report.html and tables/NAME.json, .csv and .md; the path of the page."""
    folder = directory / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for key, table in result.tables.items():
        (folder / f"{key}.json").write_text(table_json(table), encoding="utf-8")
        (folder / f"{key}.csv").write_text(table_csv(table), encoding="utf-8")
        (folder / f"{key}.md").write_text(table_markdown(table), encoding="utf-8")
    path = directory / "report.html"
    path.write_text(page(result.claims, result.tables), encoding="utf-8")
    return path


def paper_as_dict(result: PaperTables) -> dict[str, Any]:
    """The verdicts and the tables behind them as plain data: what `--json` prints. The rest is in the files."""
    claims = result.claims
    verdicts = {
        boundary: {item.inputs.model.id: item.ranges[boundary].verdict for item in claims.ratios}
        for boundary in claims.headline.ranges
    }
    return {
        "compute_ratio_claim": claims.settings.claims.compute_ratio,
        "headline_model": claims.headline.inputs.model.id,
        "headline": {
            boundary: {"low": span.low, "high": span.high, "verdict": span.verdict}
            for boundary, span in claims.headline.ranges.items()
        },
        "verdicts": verdicts,
        "not_computable": {item.model.id: item.reason for item in claims.not_computable},
        "tables": {key: plain_rows(result.tables[key]) for key in ("headline", "ratios", "size_summary")},
        "table_rows": {key: len(table.rows) for key, table in result.tables.items()},
    }


def print_paper(result: PaperTables) -> None:
    """The headline, the verdicts under each boundary and the headline model's comparisons, on stdout."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    claims = result.claims
    console = Console() if sys.stdout.isatty() else Console(width=200)

    def show(table: Table, rows: Iterable[Row], leave_out: tuple[str, ...] = ()) -> None:
        columns = [column for column in table.columns if column.key not in leave_out]
        grid = Grid(title=table.title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for column in columns:
            grid.add_column(column.title, justify="right" if column.is_number else "left")
        for row in rows:
            cells = [row.cells.get(column.key) for column in columns]
            grid.add_row(*(Text(cell.text if cell else "") for cell in cells))
        console.print(grid)
        console.print()

    show(result.tables["headline"], result.tables["headline"].rows)
    claim = claims.settings.claims.compute_ratio
    for boundary in claims.headline.ranges:
        verdicts = [item.ranges[boundary].verdict for item in claims.ratios]
        counts = ", ".join(f"{name} for {verdicts.count(name)}" for name in dict.fromkeys(verdicts))
        console.print(Text(f"{claim:,.0f} times under {boundary}: {counts}"))
    console.print()
    name = claims.headline.inputs.model.name
    size = result.tables["size"]
    show(
        size, (row for row in size.rows if row.cells["student"].text == name), ("student", "differs", "area")
    )


def plain_rows(table: Table) -> list[dict[str, Any]]:
    """A table's values by column."""
    return [{column.key: _value(row.cells.get(column.key)) for column in table.columns} for row in table.rows]


def table_json(table: Table) -> str:
    """A table with its plain values and, for each, the references it rests on (numbered, listed once)."""
    known: dict[Any, int] = {}
    rows = []
    for row in table.rows:
        plain = {column.key: _value(row.cells.get(column.key)) for column in table.columns}
        links = {
            key: [known.setdefault(reference, len(known)) for reference in cell.references]
            for key, cell in row.cells.items()
            if cell.references
        }
        rows.append({**plain, "_references": links})
    content = {
        "title": table.title,
        "about": table.intro,
        "columns": {column.key: column.title for column in table.columns},
        "rows": rows,
        "references": [asdict(reference) for reference in known],
    }
    return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def table_csv(table: Table) -> str:
    """A table with its plain values and one column of addresses."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(column.key for column in table.columns), "sources"])
    for row in table.rows:
        urls = dict.fromkeys(
            reference.url for cell in row.cells.values() for reference in cell.references if reference.url
        )
        values = [_value(row.cells.get(column.key)) for column in table.columns]
        writer.writerow([*("" if value is None else value for value in values), " ".join(urls)])
    return out.getvalue()


def table_markdown(table: Table) -> str:
    """A table as it is shown, each number a link to its first source."""
    lines = [f"# {table.title}", "", table.intro, ""]
    lines.append("| " + " | ".join(column.title or " " for column in table.columns) + " |")
    lines.append("|" + "|".join("---:" if column.is_number else "---" for column in table.columns) + "|")
    for row in table.rows:
        lines.append(
            "| " + " | ".join(_markdown(row.cells.get(column.key)) for column in table.columns) + " |"
        )
    return "\n".join(lines) + "\n"


def _value(cell: Cell | None) -> float | int | str | bool | None:
    return cell.value if cell else None


def _markdown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = cell.text.replace("|", "\\|").replace("\n", " ").replace("[", "\\[")
    url = next((reference.url for reference in cell.references if reference.url), None)
    return f"[{text}]({url})" if url and text else text
