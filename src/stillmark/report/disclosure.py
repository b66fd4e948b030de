"""`stillmark disclose`: one archive with all that a reviewer needs to work out every number again.

After TPC's full disclosure report and MLPerf's submission rules: study, records, versions and system, the report and
its tables, the checks that were passed and those that were not, and a manifest with the hash of each file. The
archive's digest is the hash of that manifest: published elsewhere, it holds the archive to what it was.
"""

import hashlib
import json
import sqlite3
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import stillmark
from stillmark.analysis.conclusion import conclude_study
from stillmark.records import Store
from stillmark.report.checks import Check
from stillmark.report.record_checks import check_records
from stillmark.report.write import samples_of, write_report

FORMAT = 1  # of the archive
MANIFEST = "manifest.json"
ABOUT = """A Stillmark disclosure: everything that one study recorded, and what follows from it.

study.yaml       the study, as it was run
records.sqlite   every sample or text score, ledger entry and checkpoint (SQLite)
report.html      the report; open it in a browser
conclusion.json  all its numbers; tables/ has them as CSV, Markdown and LaTeX
system.json      versions and machines
checks.json      what was checked when this archive was written
manifest.json    the hash of every other file

Work everything out again, on any machine, without a model:   stillmark verify THIS-FILE
Weights are not in here; records.sqlite names each checkpoint by its hash.
"""


@dataclass(frozen=True, kw_only=True)
class Disclosure:
    """What was written."""

    path: Path
    digest: str  # SHA-256 of the manifest
    checks: tuple[Check, ...]


def disclose(folder: Path, target: Path | None = None) -> Disclosure:
    """Writes the archive of a study's folder: FOLDER/NAME-disclosure.zip, if not told otherwise."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        copy_records(folder, work / "records.sqlite")
        store = Store.open(work)
        try:
            text, _, _, provenance = store.study()
            conclusion = conclude_study(store)
            checks = check_records(store)
            write_report(work, conclusion, samples_of(store, conclusion))
            jobs = {json.dumps(job.provenance, sort_keys=True) for job in store.jobs()}
        finally:
            store.close()
        leave_one_file(work / "records.sqlite")
        system = {"last_run": provenance, "jobs": [json.loads(text) for text in sorted(jobs)]}
        (work / "study.yaml").write_text(text, encoding="utf-8")
        (work / "README.txt").write_text(ABOUT, encoding="utf-8")
        (work / "system.json").write_text(json_text(system), encoding="utf-8")
        (work / "checks.json").write_text(json_text([asdict(check) for check in checks]), encoding="utf-8")
        path = target or folder / f"{conclusion['name']}-disclosure.zip"
        digest = write_archive(work, path)
    return Disclosure(path=path, digest=digest, checks=tuple(checks))


def copy_records(folder: Path, target: Path) -> None:
    """A copy of the store as of one moment, also while a run is writing to it."""
    store = Store.open(folder)
    try:
        store.connection.execute("VACUUM INTO ?", (str(target),))
    finally:
        store.close()


def leave_one_file(path: Path) -> None:
    """No write-ahead log beside the copy: all of it is in the one file."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()


def write_archive(work: Path, path: Path) -> str:
    """All files of a folder and their manifest as a zip; returns the digest."""
    names = sorted(str(file.relative_to(work)) for file in work.rglob("*") if file.is_file())
    listed = {name: file_entry((work / name).read_bytes()) for name in names}
    manifest = json_text({"format": FORMAT, "stillmark": stillmark.__version__, "files": listed}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zip_entry(MANIFEST), manifest)
        for name in names:
            archive.writestr(zip_entry(name), (work / name).read_bytes())
    part.replace(path)
    return hashlib.sha256(manifest).hexdigest()


def zip_entry(name: str) -> zipfile.ZipInfo:
    """Without the time of writing, so that the same content is the same archive."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def file_entry(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def json_text(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
