"""Rows of a data file: .json, .jsonl, .csv, .tsv, .parquet or .txt, each perhaps .gz. `_part` names the file."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillmark.errors import UserError

RawRow = Mapping[str, Any]
PART = "_part"


def read_file(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, one after the other: of a large .jsonl, one line is in memory."""
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix
    part = Path(name).stem
    try:
        if suffix == ".jsonl":
            rows: Any = read_jsonl(path)
        elif suffix in READERS:
            content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
            rows = READERS[suffix](content)
        else:
            known = ", ".join([".jsonl", *READERS])
            raise UserError(f"{path}: files are read that end in {known} (or these and .gz)")
        for row in rows:
            yield {**row, PART: part}
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not readable as {suffix}: {error}") from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as stream:
        for line in stream:  # bytes end at \n alone: a text may hold other line separators
            if line.strip():
                yield checked([json.loads(line)])[0]


def read_json(content: bytes) -> Sequence[dict[str, Any]]:
    value = json.loads(content)
    if isinstance(value, dict):  # {"canary": ..., "examples": [...]} and the like: the one list is the rows
        lists = [part for part in value.values() if isinstance(part, list)]
        if len(lists) != 1:
            raise ValueError("an object must hold exactly one list of rows")
        value = lists[0]
    return checked(value)


def read_table(content: bytes, delimiter: str) -> Iterator[dict[str, Any]]:
    yield from csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=delimiter)


def read_parquet(content: bytes) -> Sequence[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("a .parquet file needs pyarrow", hint="pip install pyarrow") from error
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    return rows


def checked(rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("the rows are not JSON objects")
    return rows


READERS: dict[str, Callable[[bytes], Any]] = {
    ".json": read_json,
    ".csv": lambda content: read_table(content, ","),
    ".tsv": lambda content: read_table(content, "\t"),
    ".parquet": read_parquet,
    ".txt": lambda content: [{"text": content.decode()}],
}
