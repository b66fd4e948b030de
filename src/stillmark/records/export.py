"""Records out of the store: Parquet and CSV files, and data frames, one a table, each row with whose job it is of.

Tables whose rows belong to a job get the columns arm, seed, stage and checkpoint in front, from the study's plan.
"""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from stillmark.errors import UserError, did_you_mean
from stillmark.records.store import Store

WHOSE = {"arm": "string", "seed": "int64", "stage": "string", "checkpoint": "int64"}
TYPES = {"INTEGER": "int64", "REAL": "float64", "TEXT": "string"}
ROWS_AT_ONCE = 100_000
FORMATS = ("parquet", "csv")


class Run:
    """A study's folder, opened for reading: `stillmark.open_run("runs/quickstart")`."""

    def __init__(self, folder: str | Path) -> None:
        self.store = Store.open(Path(folder))
        plan = self.store.study()[2]
        self.whose = {row["key"]: tuple(row[name] for name in WHOSE) for row in plan}

    @property
    def tables(self) -> list[str]:
        """The names of the tables that hold rows of records."""
        rows = self.store.query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in rows if name != "study"]

    def columns(self, table: str) -> dict[str, str]:
        """Arrow's type of each column, in order."""
        if table not in self.tables:
            raise UserError(f"there is no table `{table}`; tables: {', '.join(self.tables)}",
                            did_you_mean(table, self.tables))  # fmt: skip
        declared = self.store.query(f'SELECT name, type FROM pragma_table_info("{table}")')
        own = {name: TYPES[kind] for name, kind in declared}
        return WHOSE | own if self._job_column(table, own) else own

    def rows(self, table: str) -> Iterator[list[tuple[Any, ...]]]:
        """All rows, in the order of their keys, some at a time."""
        columns = self.columns(table)
        own = [name for name in columns if name not in WHOSE or not self._job_column(table, columns)]
        key = self._job_column(table, columns)
        selected = ", ".join(f'"{name}"' for name in own)
        cursor = self.store.query(f'SELECT {selected} FROM "{table}"')
        while batch := cursor.fetchmany(ROWS_AT_ONCE):
            if key is None:
                yield batch
            else:
                place = own.index(key)
                nobody = (None,) * len(WHOSE)  # a job of an earlier plan of the study
                yield [(*self.whose.get(row[place], nobody), *row) for row in batch]

    def _job_column(self, table: str, columns: dict[str, str]) -> str | None:
        if "job_key" in columns:
            return "job_key"
        return "key" if table == "jobs" else None

    def frame(self, table: str) -> Any:
        """A pandas DataFrame of a table; whole numbers that can be unknown are Int64 with NA."""
        pandas = needed("pandas", "data frames")
        columns = self.columns(table)
        frame = pandas.DataFrame([row for batch in self.rows(table) for row in batch], columns=list(columns))
        kinds = {"int64": "Int64", "float64": "Float64", "string": "string"}
        return frame.astype({name: kinds[kind] for name, kind in columns.items()})


def export_run(folder: Path, target: Path, kind: str) -> list[Path]:
    """Writes every table as TABLE.parquet or TABLE.csv, and the study's text; returns what was written."""
    if kind not in FORMATS:
        raise UserError(f"unknown format `{kind}`: {', '.join(FORMATS)}", did_you_mean(kind, FORMATS))
    run = Run(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for table in run.tables:
        path = target / f"{table}.{kind}"
        write_parquet(run, table, path) if kind == "parquet" else write_csv(run, table, path)
        written.append(path)
    text, resolved, _, provenance = run.store.study()
    for name, content in (("study.yaml", text), ("resolved.json", json.dumps(resolved, indent=1)),
                          ("provenance.json", json.dumps(provenance, indent=1))):  # fmt: skip
        (target / name).write_text(content, encoding="utf-8")
        written.append(target / name)
    return written


def write_parquet(run: Run, table: str, path: Path) -> None:
    arrow, parquet = needed("pyarrow", "Parquet files"), needed("pyarrow.parquet", "Parquet files")
    columns = run.columns(table)
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in columns.items()])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in run.rows(table):
            arrays = [
                arrow.array(values, field.type)
                for values, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def write_csv(run: Run, table: str, path: Path) -> None:
    """An unknown value is an empty field, and an empty text is `""`."""
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = (
            csv.writer(file, quoting=csv.QUOTE_NOTNULL) if hasattr(csv, "QUOTE_NOTNULL") else csv.writer(file)
        )
        writer.writerow(run.columns(table))
        for batch in run.rows(table):
            writer.writerows(batch)


def needed(module: str, purpose: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"{purpose} need {module}", hint="pip install 'stillmark[export]'") from error
