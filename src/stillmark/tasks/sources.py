"""Where a benchmark's rows come from: files under a data folder, the hub, or a package that makes them.

A row is a mapping with the columns of the hub's data set, or those of a local file that says the same in another
layout; a benchmark's reader takes both. `_part` names the file or hub configuration that a row came from.
"""

import glob
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmark.errors import UserError
from stillmark.provenance import package_version
from stillmark.tasks.hub import Hub as Hub
from stillmark.tasks.hub import load_hub
from stillmark.tasks.row_files import PART as PART
from stillmark.tasks.row_files import RawRow as RawRow
from stillmark.tasks.row_files import read_file


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
    """Rows, to be read once, and where they came from: file names with the hash of their bytes, or repository and
    revision."""

    rows: Iterable[dict[str, Any]]
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
    rows, revision = load_hub(source.hub, what, source.files)
    origin: dict[str, Any] = {"hub": source.hub.repository, "split": source.hub.split, "revision": revision}
    if source.hub.files:
        origin["files"] = list(source.hub.files)
    return Loaded(rows=rows, origin=origin)


def load_files(source: Source, data: Path, what: str) -> Loaded:
    if not data.is_dir():
        raise UserError(f"{data}: no such folder")
    for pattern in source.files:
        paths = [Path(path) for path in sorted(glob.glob(str(data / pattern)))]
        if paths:
            rows = (row for path in paths for row in read_file(path))
            hashes = {
                str(path.relative_to(data) if path.is_relative_to(data) else path.name): file_hash(path)
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


def file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
