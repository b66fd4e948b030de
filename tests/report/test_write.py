"""From a store to the files of a report, torch never imported."""

import json
import subprocess
import sys

import pytest
from tests.paths import ROOT
from tests.report.fabricate import SMALL, fabricated_store

from stillmark.report.write import conclude, conclusion_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    fabricated_store(path, SMALL).close()
    conclude(path, is_changed=True)
    return path


def test_all_files_are_written(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "conclusion.json", "curve.svg", "curve.png", "curve.pdf"} <= names
    assert {"tables/arms.csv", "tables/arms.md", "tables/ratios.csv", "tables/ledger.csv"} <= names
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "report.html").stat().st_size < 3_000_000
    assert not [name for name in names if name.endswith(".part")]


def test_conclusion_file_is_the_conclusion(folder):
    assert json.loads((folder / "conclusion.json").read_text()) == json.loads(
        json.dumps(conclusion_of(folder))
    )


def test_nothing_changed_writes_nothing(folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.html")}
    conclusion = conclude(folder, is_changed=False)
    assert conclusion == json.loads((folder / "conclusion.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.html")} == before
    assert "report.html" in capsys.readouterr().err


def test_a_study_changed_without_a_job_is_concluded_anew(tmp_path):
    store = fabricated_store(tmp_path, SMALL)
    assert conclude(tmp_path, is_changed=True)["students_per_teacher"] == 1
    _, resolved, plan, provenance = store.study()
    resolved["conclusion"]["students_per_teacher"] = 4
    store.put_study(SMALL + "  students_per_teacher: 4\n", resolved, plan, provenance)
    store.close()
    assert conclude(tmp_path, is_changed=False)["students_per_teacher"] == 4


def test_unfinished_store_says_so(tmp_path):
    fabricated_store(tmp_path, SMALL, leave_out=5).close()
    conclusion = conclude(tmp_path, is_changed=True)
    assert conclusion["unfinished"]
    assert "Not finished." in (tmp_path / "report.html").read_text()


def test_torch_is_never_imported(folder):
    code = (
        "import sys; from pathlib import Path; from stillmark.report.write import conclude, print_conclusion;"
        f"print_conclusion(conclude(Path({str(folder)!r}), is_changed=True));"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "src")}
    )
    assert result.returncode == 0, result.stderr
    assert "traces-small" in result.stdout
    assert "boundary" in result.stdout
