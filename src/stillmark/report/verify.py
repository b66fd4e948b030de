"""`stillmark verify`: works out every number of a disclosure again from its records, and says what agrees.

Nothing in the archive is believed: names and hashes are held to the manifest, the manifest to a digest where one is
given, the records to themselves (`record_checks.py`), the conclusion to the records, and tables, page and picture to
the conclusion. Nothing of it is run.
"""

import hashlib
import json
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import stillmark
from stillmark.analysis.conclusion import conclude_study
from stillmark.errors import UserError
from stillmark.records import Store
from stillmark.report.checks import Check, checked
from stillmark.report.disclosure import FORMAT, MANIFEST, file_entry
from stillmark.report.record_checks import check_records
from stillmark.report.views import views_of

MAX_BYTES = 64 * 2**30  # unpacked
RELATIVE_TOLERANCE = 1e-9  # of a float: another machine's last digits
NEEDED = ("study.yaml", "records.sqlite", "conclusion.json", "report.html")


def verify(path: Path, digest: str | None = None) -> list[Check]:
    """All checks of an archive. Raises UserError for what is no disclosure at all."""
    try:
        with zipfile.ZipFile(path) as archive:
            files, faults = read_archive(archive, path)
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise UserError(f"{path}: not an archive that can be read: {error}") from error
    checks = [check_manifest(files, faults), *([check_digest(files, digest)] if digest else [])]
    missing = [name for name in NEEDED if name not in files]
    if missing:
        return [
            *checks,
            checked("the archive is whole", len(NEEDED), [f"{name} is not in it" for name in missing]),
        ]
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "records.sqlite").write_bytes(files["records.sqlite"])
        return checks + verify_records(Path(name), files)


def read_archive(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, bytes], list[str]]:
    """The files by name, and what is wrong with the archive itself."""
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise UserError(f"{path}: would unpack to more than {MAX_BYTES / 2**30:.0f} GiB")
    files: dict[str, bytes] = {}
    faults = []
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if entry.is_dir() or not parts or parts[0] == "/" or ".." in parts or "\\" in entry.filename:
            faults.append(f"an entry that is no plain file of the archive: {entry.filename!r}")
        elif entry.filename in files:
            faults.append(f"{entry.filename} is in the archive twice")
        else:
            try:
                files[entry.filename] = archive.read(entry)
            except zipfile.BadZipFile as error:
                faults.append(f"{entry.filename}: {error}")
    if MANIFEST not in files:
        raise UserError(
            f"{path}: holds no {MANIFEST}", hint="`stillmark disclose FOLDER` writes such an archive"
        )
    return files, faults


def check_manifest(files: dict[str, bytes], faults: list[str]) -> Check:
    """Every file is the one whose hash the manifest names, and none is missing or added."""
    manifest = parsed(files[MANIFEST], MANIFEST)
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or manifest.get("format") != FORMAT:
        return checked(
            "files have the hashes of the manifest", 0, [f"not a manifest of format {FORMAT}", *faults]
        )
    found = {name: file_entry(content) for name, content in files.items() if name != MANIFEST}
    for name in sorted(set(listed) | set(found)):
        if name not in found:
            faults.append(f"{name} is missing")
        elif name not in listed:
            faults.append(f"{name} is not in the manifest")
        elif found[name] != listed[name]:
            faults.append(f"{name} is not the file that was disclosed")
    return checked("files have the hashes of the manifest", len(listed), faults)


def check_digest(files: dict[str, bytes], digest: str) -> Check:
    """The manifest is the one whose digest was published."""
    found = hashlib.sha256(files[MANIFEST]).hexdigest()
    return checked(
        "the manifest has the digest that was given", 1, [] if found == digest else [f"it is {found}"]
    )


def verify_records(folder: Path, files: dict[str, bytes]) -> list[Check]:
    """Records against themselves, then everything that follows from them."""
    try:
        store = Store.open(folder)
    except UserError as error:
        return [checked("the records' file is whole", 1, [str(error)])]
    try:
        checks = attempted("records", lambda: check_records(store))
        checks += attempted("study.yaml is the study that was run", lambda: [check_text(store, files)])
        if any(check.outcome == "not checked" and not check.is_expected for check in checks):
            return checks
        return checks + attempted(
            "the conclusion and what follows from it", lambda: check_derived(store, files)
        )
    finally:
        store.close()


def attempted(name: str, work: Callable[[], list[Check]]) -> list[Check]:
    """The checks that the work gives; records so damaged that it fails do not agree."""
    try:
        return work()
    except (UserError, ValueError, LookupError, TypeError, AssertionError, sqlite3.Error) as error:
        return [checked(name, 0, [f"cannot be worked out: {error or type(error).__name__}"])]


def check_text(store: Store, files: dict[str, bytes]) -> Check:
    text, _, _, _ = store.study()
    same = [] if files["study.yaml"] == text.encode() else ["study.yaml is not the text in the records"]
    return checked("study.yaml is the study that was run", 1, same)


def check_derived(store: Store, files: dict[str, bytes]) -> list[Check]:
    """The conclusion from the records, and tables, page and picture from the conclusion."""
    conclusion = json.loads(json.dumps(conclude_study(store)))
    given = parsed(files["conclusion.json"], "conclusion.json")
    differences = list(compared(given, conclusion, ""))
    found = checked("the conclusion, worked out again from the records", count(conclusion), differences)
    return [found] if differences else [found, *derived(given, views_of(given).browse(store, given), files)]


def derived(
    conclusion: dict[str, Any], samples: Sequence[dict[str, Any]], files: dict[str, bytes]
) -> list[Check]:
    """Tables, page and picture, made again from the conclusion."""
    manifest = parsed(files[MANIFEST], MANIFEST)
    views = views_of(conclusion)
    made = {}
    for table in views.tables(conclusion):
        made[f"tables/{table.name}.csv"] = table.to_csv().encode()
        made[f"tables/{table.name}.md"] = table.to_markdown().encode()
        made[f"tables/{table.name}.tex"] = table.to_latex().encode()
    page = {"report.html": views.page(conclusion, samples).encode("utf-8", "backslashreplace")}
    picture = {name: content for name, content in views.pictures(conclusion).items() if name == "curve.svg"}
    if manifest.get("stillmark") != stillmark.__version__:
        why = (f"written by stillmark {manifest.get('stillmark')}, this is {stillmark.__version__}",)
        return [Check(name="tables and page, made again", outcome="not checked", num_checked=0, details=why)]
    return [same_files("tables, made again", made, files), same_files("the page, made again", page, files),
            same_files("the picture, made again", picture, files)]  # fmt: skip


def same_files(name: str, made: dict[str, bytes], files: dict[str, bytes]) -> Check:
    differences = [f"{file} is not what the records give" for file in made if files.get(file) != made[file]]
    return checked(name, len(made), differences)


def parsed(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(f"{name}: not JSON: {error}") from error


def compared(given: Any, made: Any, path: str) -> Iterator[str]:
    """Where two JSON values differ; floats may in their last digits."""
    if isinstance(given, dict) and isinstance(made, dict):
        for key in sorted(set(given) | set(made)):
            yield from compared(
                given.get(key, "missing"), made.get(key, "missing"), f"{path}.{key}".lstrip(".")
            )
    elif isinstance(given, list) and isinstance(made, list) and len(given) == len(made):
        for index, pair in enumerate(zip(given, made, strict=True)):
            yield from compared(*pair, f"{path}[{index}]")
    elif is_float(given) and is_float(made):
        if abs(given - made) > RELATIVE_TOLERANCE * max(abs(given), abs(made)):
            yield f"{path}: given {given}, worked out {made}"
    elif type(given) is not type(made) or given != made:
        yield f"{path}: given {str(given)[:80]!r}, worked out {str(made)[:80]!r}"


def is_float(value: Any) -> bool:
    """A number that may be rounded: a whole number is exact only against another whole number."""
    return isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53
    )


def count(value: Any) -> int:
    """Numbers and texts in a JSON value."""
    if isinstance(value, dict):
        return sum(count(part) for part in value.values())
    return sum(count(part) for part in value) if isinstance(value, list) else 1
