"""The store: one SQLite file a study, so that nothing is lost or doubled.

Everything that was observed is a row under the key of the job that observed it. Rows have unique keys and come in
transactions: after `kill -9` the file holds whole steps of work and no half ones.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stillmark.errors import UserError
from stillmark.records.connection import DAMAGED, connect
from stillmark.records.rows import (
    CheckpointRecord,
    ItemRecord,
    JobRecord,
    LedgerEntry,
    Method,
    Outcome,
    ProfileRecord,
    SampleDetail,
    SampleRecord,
    TextScore,
)
from stillmark.records.tables import TABLES, add_columns

FORMAT = 2  # of the store; a file of another format is refused

MEMBERS: dict[type[StrEnum], dict[str, Any]] = {
    enum: {str(member): member for member in enum} for enum in (Outcome, Method)
}  # ten times as quick as calling the enum


class Store:
    """The records of one study. Open it with `Store.create` to write, `Store.open` to read."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.folder = path.parent
        self.connection = connection

    @classmethod
    def create(cls, path: Path) -> "Store":
        """The store at a path, made where there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = connect(path, path)
        connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
        connection.executescript(TABLES)
        add_columns(connection)
        return cls(path, connection)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """The store at a path or in a folder, for reading. Raises UserError where there is none."""
        path = path / "records.sqlite" if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"{path}: there are no records", hint="`stillmark run STUDY` makes them")
        is_writable = os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)
        store = cls.create(path) if is_writable else cls.read_only(path)
        row = store.connection.execute("SELECT format FROM study").fetchone()
        if row is not None and row[0] != FORMAT:
            raise UserError(f"{path}: records of format {row[0]}; this version reads format {FORMAT}")
        return store

    @classmethod
    def read_only(cls, path: Path) -> "Store":
        """The store at a path where nothing can be written, held in memory: SQLite writes beside what it reads.

        It is read by way of a copy with what was not yet merged into it, which a reader that may not write leaves out.
        """
        memory = connect(":memory:", path)
        with TemporaryDirectory() as folder:
            for name in (path.name, f"{path.name}-wal"):
                if path.with_name(name).is_file():
                    shutil.copyfile(path.with_name(name), Path(folder) / name)
            copy = cls.create(Path(folder) / path.name)
            memory.named(copy.connection.backup, memory)
            copy.close()
        return cls(path, memory)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's writes, or none."""
        with self.connection:
            yield

    # ---- writing

    def put_study(self, text: str, resolved: Any, plan: Any, provenance: Mapping[str, Any]) -> None:
        with self.connection:
            self.connection.execute(
                "INSERT OR REPLACE INTO study VALUES (1, ?, ?, ?, ?, ?)",
                (
                    FORMAT,
                    text,
                    json.dumps(resolved),
                    canonical(plan),
                    canonical(provenance),
                ),  # arms keep their order
            )

    def begin_job(self, key: str, stage: str, inputs: Any, provenance: Mapping[str, Any]) -> None:
        """A job that was begun before keeps its first row."""
        with self.connection:
            self.connection.execute(
                "INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?, NULL)",
                (key, stage, canonical(inputs), canonical(provenance), now()),
            )

    def finish_job(self, key: str) -> None:
        with self.connection:
            self.connection.execute("UPDATE jobs SET finished_at = ? WHERE key = ?", (now(), key))

    def forget(self, key: str) -> None:
        """Drops what a job of files (a model, a capture) had recorded: it is done again from its beginning."""
        with self.transaction():
            for table in ("ledger", "checkpoints"):
                self.connection.execute(f"DELETE FROM {table} WHERE job_key = ?", (key,))
            self.connection.execute("UPDATE jobs SET finished_at = NULL WHERE key = ?", (key,))

    def add_items(self, items: Iterable[ItemRecord]) -> None:
        rows = [astuple(item) for item in items]
        self.connection.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?, ?)", rows)

    def add_prompts(self, prompts: Mapping[str, str]) -> None:
        """Prompts as sent, by their SHA-256."""
        self.connection.executemany("INSERT OR IGNORE INTO prompts VALUES (?, ?)", prompts.items())

    def drop_errors(self, job_key: str) -> None:
        """Takes out the samples of which asking or grading failed, so that they are asked again."""
        errors = "job_key = ? AND (job_key, item_id) IN (SELECT job_key, item_id FROM samples WHERE outcome = 'error')"
        with self.connection:
            for table in ("sample_details", "samples"):
                self.connection.execute(f"DELETE FROM {table} WHERE {errors}", (job_key,))

    def regrade(self, sample: SampleRecord, detail: SampleDetail) -> None:
        """Another outcome for a stored reply; the reply itself never changes."""
        key = (sample.job_key, sample.item_id, sample.repeat)
        where = "WHERE job_key = ? AND item_id = ? AND repeat = ?"
        self.connection.execute(f"UPDATE samples SET outcome = ? {where}", (sample.outcome, *key))
        self.connection.execute(
            f"UPDATE sample_details SET extracted = ?, extractor = ?, grades = ?, error = ? {where}",
            (detail.extracted, detail.extractor, detail.grades, detail.error, *key),
        )

    def add(self, *records: "Row") -> None:
        """Rows under their job; a row that is there already is an error, never a second one."""
        for record in records:
            values = astuple(record)
            marks = ", ".join("?" * len(values))
            table = f"{TABLE_OF[type(record)]} ({columns(type(record))})"
            self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)

    # ---- reading

    def query(self, sql: str) -> sqlite3.Cursor:
        """A question to the store in SQL, for reading."""
        return self.connection.execute(sql)

    def study(self) -> tuple[str, dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
        """The study's text, resolved form, plan (one mapping a job) and provenance, as last run."""
        row = self.connection.execute("SELECT text, resolved, plan, provenance FROM study").fetchone()
        if row is None:
            raise UserError(f"{self.path}: holds no study", hint="`stillmark run STUDY` writes one")
        return row[0], self._json(row[1]), self._json(row[2]), self._json(row[3])

    def finished_keys(self) -> set[str]:
        return {row[0] for row in self.connection.execute("SELECT key FROM jobs WHERE finished_at NOT NULL")}

    def jobs(self) -> list[JobRecord]:
        rows = self.connection.execute(f"SELECT {columns(JobRecord)} FROM jobs ORDER BY started_at, key")
        return [JobRecord(key=k, stage=s, inputs=self._json(i), provenance=self._json(p), started_at=b, finished_at=f)
                for k, s, i, p, b, f in rows]  # fmt: skip

    def items(self) -> dict[str, ItemRecord]:
        return {item.item_id: item for item in self._rows(ItemRecord, "items", "1", ())}

    def samples(self, job_key: str) -> list[SampleRecord]:
        return self._rows(
            SampleRecord, "samples", "job_key = ? ORDER BY position, repeat", (job_key,), outcome=Outcome
        )

    def outcomes(self, job_key: str) -> list[Outcome]:
        """How each sample of a job ended, in the order of `samples`: quicker where that is all that is wanted."""
        return [MEMBERS[Outcome][outcome] for (outcome,) in self.sample_columns(job_key, "outcome")]

    def sample_columns(self, job_key: str, *names: str) -> list[tuple[Any, ...]]:
        """These columns of a job's samples as they are written, in the order of `samples`: for sums over a million."""
        query = f"SELECT {', '.join(names)} FROM samples WHERE job_key = ? ORDER BY position, repeat"
        return self.connection.execute(query, (job_key,)).fetchall()

    def answer_sums(self, job_key: str) -> dict[str, float]:
        """Of a job's samples: how many, how many have seconds and a price, and the sums of these."""
        timed = "SELECT COUNT(*), COUNT(seconds), TOTAL(seconds) FROM samples WHERE job_key = ?"
        priced = "SELECT COUNT(price_usd), TOTAL(price_usd) FROM sample_details WHERE job_key = ?"
        row = [
            value
            for query in (timed, priced)
            for value in self.connection.execute(query, (job_key,)).fetchone()
        ]
        return dict(zip(("samples", "timed", "seconds", "priced", "usd"), row, strict=True))

    def replies(self, job_key: str, positions: Iterable[int]) -> dict[int, tuple[str, Outcome, str]]:
        """Position -> item, outcome and response of the first reply to each of these items of a job."""
        wanted = list(positions)
        marks = ", ".join("?" * len(wanted))
        query = (
            "SELECT position, item_id, outcome, response FROM samples "
            f"WHERE job_key = ? AND repeat = 0 AND position IN ({marks})"
        )
        rows = self.connection.execute(query, (job_key, *wanted))
        return {
            position: (item, MEMBERS[Outcome][outcome], response)
            for position, item, outcome, response in rows
        }

    def details(self, job_key: str) -> dict[tuple[str, int], SampleDetail]:
        """(item, repeat) -> what evaluation knows of the sample."""
        rows = self._rows(SampleDetail, "sample_details", "job_key = ?", (job_key,))
        return {(row.item_id, row.repeat): row for row in rows}

    def text_scores(self, job_key: str) -> list[TextScore]:
        return self._rows(TextScore, "text_scores", 'job_key = ? ORDER BY "index"', (job_key,))

    def prompt(self, sha256: str) -> str | None:
        """A prompt as it was sent."""
        row = self.connection.execute("SELECT text FROM prompts WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else row[0]

    def ledger(self, job_key: str) -> list[LedgerEntry]:
        where = 'job_key = ? ORDER BY part, "index"'
        return self._rows(LedgerEntry, "ledger", where, (job_key,), flops_method=Method)

    def checkpoints(self, job_key: str) -> list[CheckpointRecord]:
        return self._rows(CheckpointRecord, "checkpoints", 'job_key = ? ORDER BY "index"', (job_key,))

    def profiles(self, job_key: str) -> list[ProfileRecord]:
        where = "job_key = ? ORDER BY engine, format, setting, metric"
        return self._rows(ProfileRecord, "profiles", where, (job_key,), method=Method)

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise UserError(f"{self.path}: is not a sound file of records: {error}", DAMAGED) from error

    def _rows(
        self, kind: Any, table: str, where: str, values: tuple[Any, ...], **enums: type[StrEnum]
    ) -> list[Any]:
        """Rows as records; the columns named in `enums` become members of them."""
        names = [field.name for field in fields(kind)]
        positions = [(names.index(name), MEMBERS[enum]) for name, enum in enums.items()]
        records = []
        for row in self.connection.execute(f"SELECT {columns(kind)} FROM {table} WHERE {where}", values):
            cells = list(row)
            for position, members in positions:
                cells[position] = members[cells[position]]
            records.append(kind(**dict(zip(names, cells, strict=True))))
        return records


Row = SampleRecord | SampleDetail | TextScore | LedgerEntry | CheckpointRecord | ProfileRecord
TABLE_OF: dict[type, str] = {
    SampleRecord: "samples",
    SampleDetail: "sample_details",
    TextScore: "text_scores",
    LedgerEntry: "ledger",
    CheckpointRecord: "checkpoints",
    ProfileRecord: "profiles",
}


def columns(kind: Any) -> str:
    """The columns of a record's table, in the order of its fields."""
    return ", ".join(f'"{field.name}"' for field in fields(kind))


def canonical(value: Any) -> str:
    """JSON with one spelling for one value, so that its hash is a key."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
