"""Writes a study's report from its store alone: the page, the conclusion, the figures and the tables.

runs/NAME/report.html        the page, self-contained
runs/NAME/conclusion.json    everything that the page, the tables and `--json` show
runs/NAME/curve.svg .png .pdf
runs/NAME/tables/*.csv .md .tex
"""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stillmark.analysis.conclusion import conclude_study
from stillmark.records import Store
from stillmark.report.terminal import print_conclusion

__all__ = ["conclude", "conclusion_of", "print_conclusion"]


def conclude(folder: Path, *, is_changed: bool) -> dict[str, Any]:
    """The conclusion of the records in a folder, with the report written beside them where it is not up to date."""
    store = Store.open(folder)
    try:
        conclusion = None if is_changed else standing_conclusion(folder, store)
        if conclusion is None:
            conclusion = conclude_study(store)
            write_report(folder, conclusion, samples_of(store, conclusion))
    finally:
        store.close()
    print(f"report: {folder / 'report.html'}", file=sys.stderr)
    return conclusion


def conclusion_of(folder: Path) -> dict[str, Any]:
    """The conclusion of the records in a folder; nothing is written."""
    store = Store.open(folder)
    try:
        return conclude_study(store)
    finally:
        store.close()


def standing_conclusion(folder: Path, store: Store) -> dict[str, Any] | None:
    """The conclusion written before, where the report stands and is of this study, code and machine; else None.

    A study may change without a job to run (another `conclusion` part), so its text is compared.
    """
    written = folder / "conclusion.json"
    if not (written.is_file() and (folder / "report.html").is_file()):
        return None
    try:
        conclusion: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    except ValueError:
        return None
    text, _, _, provenance = store.study()
    is_same = isinstance(conclusion, dict) and conclusion.get("study_text") == text
    return conclusion if is_same and conclusion.get("provenance") == provenance else None


def samples_of(store: Store, conclusion: dict[str, Any]) -> list[dict[str, Any]]:
    """The replies that the page lets one read, where a study has any."""
    from stillmark.report.views import views_of

    return views_of(conclusion).browse(store, conclusion)


def write_report(folder: Path, conclusion: dict[str, Any], samples: Sequence[dict[str, Any]] = ()) -> None:
    """All files of the report; each is written whole, and the page last."""
    from stillmark.report.views import views_of

    views = views_of(conclusion)
    files: dict[str, bytes] = {}
    with ThreadPoolExecutor(max_workers=1) as beside:  # the renderer is not Python: it has a core of its own
        pictures = beside.submit(views.pictures, conclusion)
        for table in views.tables(conclusion):
            files[f"tables/{table.name}.csv"] = table.to_csv().encode()
            files[f"tables/{table.name}.md"] = table.to_markdown().encode()
            files[f"tables/{table.name}.tex"] = table.to_latex().encode()
        text = json.dumps(conclusion, indent=1, ensure_ascii=False, allow_nan=False)
        files["conclusion.json"] = (text + "\n").encode("utf-8", "backslashreplace")
        page = views.page(conclusion, samples).encode("utf-8", "backslashreplace")
        files |= pictures.result() | {"report.html": page}
    (folder / "tables").mkdir(exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)


def replace_file(path: Path, content: bytes) -> None:
    """Never a half-written file under its name."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
