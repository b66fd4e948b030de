"""A store that is damaged, or where nothing can be written: what is read is right, or one line names the file."""

import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.report.fabricate import SMALL, fabricated_store

from stillmark.errors import UserError
from stillmark.records import Store
from stillmark.report.write import conclusion_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    fabricated_store(path, SMALL).close()
    return path


def damaged(intact: Path, folder: Path, old: bytes, new: bytes) -> Path:
    """A copy of the records in which these bytes stand for those, wherever they are."""
    path = folder / "records.sqlite"
    source = sqlite3.connect(intact / "records.sqlite")
    source.execute("VACUUM INTO ?", (str(path),))  # one file, nothing beside it
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seed"', b'"s\xff\xffd"'),  # no UTF-8, in a job's inputs
        (b'":', b'";'),  # no JSON
        (b"SQLite format 3", b"SQLite Format 3"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", b"\xff" * 12),  # pages that refer nowhere
    ],
)
def test_damage_is_one_line_that_names_the_file(folder: Path, tmp_path: Path, old: bytes, new: bytes):
    path = damaged(folder, tmp_path, old, new)
    with pytest.raises(UserError, match=re.escape(f"{path}: is not a sound file of records: ")) as error:
        conclusion_of(tmp_path)
    assert len(error.value.message) < 300
    assert "\n" not in error.value.message


def test_a_row_twice_stays_an_error_of_ours(tmp_path: Path):
    store = Store.create(tmp_path / "records.sqlite")
    with pytest.raises(sqlite3.IntegrityError):
        store.connection.executemany("INSERT INTO prompts VALUES (?, ?)", [("a", "b"), ("a", "b")])
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store.query("SELECT * FROM nowhere")


def test_records_are_read_where_nothing_can_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As root writes everywhere, the system's answer is put in its place; nothing may change in the folder."""
    folder = shutil.copytree(folder, tmp_path / "run")
    expected = conclusion_of(folder)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(folder)))
    assert conclusion_of(folder) == expected
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")} == before


def test_what_a_kill_left_beside_the_file_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store.create(tmp_path / "written.sqlite")
    with store.transaction():
        store.add_prompts({"a": "in the file or beside it"})
    (tmp_path / "left").mkdir()
    for name in ("", "-wal"):  # as they are while the writer lives
        shutil.copyfile(tmp_path / f"written.sqlite{name}", tmp_path / "left" / f"records.sqlite{name}")
    assert (tmp_path / "left" / "records.sqlite-wal").stat().st_size
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert Store.open(tmp_path / "left").prompt("a") == "in the file or beside it"


def test_a_full_disk_says_that_the_command_goes_on(tmp_path: Path):
    store = Store.create(tmp_path / "records.sqlite")
    (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
    store.connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to be full

    def fill() -> None:
        with store.transaction():
            store.add_prompts({str(number): "a" * 5000 for number in range(10)})

    with pytest.raises(
        UserError, match=re.escape(f"{store.path}: there is no room left on the disk")
    ) as error:
        fill()
    assert "the same command goes on" in str(error.value)
    assert store.prompt("0") is None
