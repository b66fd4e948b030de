"""Where a benchmark's rows come from: files under a data folder, or the hub through `datasets`.

A row is a mapping with the columns of the hub's data set, or those of a local file that says the same in another
layout; a benchmark's reader takes both. `_part` names the file or hub configuration that a row came from.
"""

import csv
import glob
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmark.errors import UserError
from stillmark.provenance import package_version

RawRow = Mapping[str, Any]
PART = "_part"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A data set on the Hugging Face hub. Without a revision, today's is resolved, used and recorded."""

    repository: str
    split: str
    revision: str | None
    configs: tuple[str, ...] = ("default",)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Local files (patterns relative to the data folder, the first that matches is taken), else the hub."""

    files: tuple[str, ...] = ()
    hub: Hub | None = None


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Rows that a package makes, the same for the same version and settings."""

    rows: Callable[[], list[dict[str, Any]]]
    package: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Rows and where they came from: file names with the hash of their bytes, or repository and revision."""

    rows: list[dict[str, Any]]
    origin: dict[str, Any]


def load(source: Source | Generated, data: Path | None, what: str) -> Loaded:
    """The rows of a source. With a data folder only local files are read; without one, only the hub."""
    if isinstance(source, Generated):
        version = package_version(source.package)
        return Loaded(
            rows=source.rows(), origin={"package": source.package, "version": version, **source.settings}
        )
    if data is not None or any(Path(file).is_absolute() for file in source.files):
        return load_files(source, data or Path(), what)
    if source.hub is None:
        raise UserError(f"{what} is not on the hub", hint="give --data DIR with its files")
    return load_hub(source.hub, what)


def load_files(source: Source, data: Path, what: str) -> Loaded:
    if not data.is_dir():
        raise UserError(f"{data}: no such folder")
    for pattern in source.files:
        paths = [Path(path) for path in sorted(glob.glob(str(data / pattern)))]
        if paths:
            rows = [row for path in paths for row in read_file(path)]
            hashes = {
                str(path.relative_to(data) if path.is_relative_to(data) else path.name): hashlib.sha256(
                    path.read_bytes()
                ).hexdigest()
                for path in paths
            }
            whole = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
            files = hashes if len(hashes) <= 3 else {pattern: f"{len(hashes)} files"}
            return Loaded(rows=rows, origin={"files": files, "sha256": whole})
    raise UserError(
        f"{what}: no file in {data} matches {' or '.join(source.files) or '(none is known)'}",
        hint="put the file there under one of these names"
        + (f", or leave --data out to take {source.hub.repository} from the hub" if source.hub else ""),
    )


def load_hub(hub: Hub, what: str) -> Loaded:
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError(
            f"{what} comes from the hub, and `datasets` is not installed",
            hint="pip install datasets, or give --data DIR with local files",
        ) from error
    rows: list[dict[str, Any]] = []
    try:
        revision = hub.revision or HfApi().dataset_info(hub.repository).sha
        for config in hub.configs:
            table = datasets.load_dataset(hub.repository, config, split=hub.split, revision=revision)
            rows += [{**row, PART: config} for row in table]
    except Exception as error:  # the hub's errors have no common base: each is about the network, or the name
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{what}: {hub.repository} could not be had from the hub: {reason}",
            hint="give --data DIR with local files",
        ) from error
    return Loaded(rows=rows, origin={"hub": hub.repository, "split": hub.split, "revision": revision})


def read_file(path: Path) -> list[dict[str, Any]]:
    """The rows of a .json, .jsonl, .csv, .tsv, .parquet or .txt file, each perhaps .gz."""
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in READERS:
        raise UserError(f"{path}: files are read that end in {', '.join(READERS)} (or these and .gz)")
    content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    try:
        rows = list(READERS[suffix](content))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not readable as {suffix}: {error}") from error
    part = Path(name).stem
    return [{**row, PART: part} for row in rows]


def read_json(content: bytes) -> Sequence[dict[str, Any]]:
    value = json.loads(content)
    if isinstance(value, dict):  # {"canary": ..., "examples": [...]} and the like: the one list is the rows
        lists = [part for part in value.values() if isinstance(part, list)]
        if len(lists) != 1:
            raise ValueError("an object must hold exactly one list of rows")
        value = lists[0]
    return checked(value)


def read_jsonl(content: bytes) -> Sequence[dict[str, Any]]:
    return checked([json.loads(line) for line in content.decode().split("\n") if line.strip()])


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
    ".jsonl": read_jsonl,
    ".csv": lambda content: read_table(content, ","),
    ".tsv": lambda content: read_table(content, "\t"),
    ".parquet": read_parquet,
    ".txt": lambda content: [{"text": content.decode()}],
}
