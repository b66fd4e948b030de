"""The MFU of training: worked out again from the store with SQL, and shown wherever training is."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.conftest import run_stillmark

from stillmark.analysis.conclusion import conclude_study
from stillmark.analysis.training_rows import part_rows, trained_job
from stillmark.records import Store
from stillmark.report.training import training_line, training_table

MFU = """
SELECT sum(flops) * 1.0 / sum(seconds * json_extract(provenance, '$.matmul_flops_per_second')), sum(seconds)
FROM ledger JOIN jobs ON job_key = key WHERE job_key IN ({keys}) AND part IN ({parts})
"""


@pytest.fixture(scope="module")
def conclusion(tiny_run: Path):
    return conclude_study(Store.open(tiny_run))


def test_every_trained_arm_has_the_mfu_of_its_ledger(tiny_run: Path, conclusion):
    store = sqlite3.connect(tiny_run / "records.sqlite")
    keys: dict[str, list[str]] = {}
    for job in json.loads(store.execute("SELECT plan FROM study").fetchone()[0]):
        if job["stage"] == "train":
            keys.setdefault(job["arm"], []).append(job["key"])
    rows = {(row["arm"], row["part"]): row for row in conclusion["training"]}
    assert {arm for arm, _ in rows} >= keys.keys()
    assert {part for arm, part in rows if arm == "logits-small"} == {"train", "teacher_forward", "all"}
    for arm, of_arm in keys.items():
        for part, parts in (("train", "'train'"), ("all", "'train', 'teacher_forward', 'generate_student'")):
            marks = ", ".join("?" * len(of_arm))
            found = store.execute(MFU.format(keys=marks, parts=parts), of_arm).fetchone()
            row = rows[arm, part]
            assert (row["mfu"], row["seconds"]) == pytest.approx(found, rel=1e-9)
            assert 0 < row["mfu"] < 1
            assert row["flops"] / row["seconds"] == pytest.approx(row["mfu"] * row["matmul_flops_per_second"])


def test_it_is_in_the_terminal_and_on_the_page(tiny_run: Path, conclusion):
    table = training_table(conclusion)
    mfu = [
        cell.text
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
        if column.name == "mfu"
    ]
    assert len(mfu) == len(conclusion["training"])
    page = (tiny_run / "report.html").read_text()
    shown = run_stillmark("show", tiny_run).stdout
    assert "How fast training went" in page
    assert "How fast training went" in shown
    for text in mfu:
        assert text.endswith("%")
        assert text in page
        assert text in shown


def test_of_another_machine_or_without_a_peak_it_is_unknown(tiny_run: Path, tmp_path: Path):
    """A job that went on elsewhere has no one peak to be held against, and an unmeasured one has none."""
    (key, *_) = (job.key for job in Store.open(tiny_run).jobs() if job.stage == "train")
    changes = {
        "moved": "UPDATE ledger SET device = 'another' WHERE part = 'train' AND \"index\" = 1",
        "unmeasured": "UPDATE jobs SET provenance = json_remove(provenance, '$.matmul_flops_per_second')",
    }
    for name, change in changes.items():
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(tiny_run / "records.sqlite", folder)
        with sqlite3.connect(folder / "records.sqlite") as connection:
            connection.execute(change)
        store = Store.open(folder)
        job = trained_job(store, key)
        assert job is not None
        rows = part_rows([job])
        assert all(row["mfu"] is None and row["matmul_flops_per_second"] is None for row in rows)
        assert "MFU unknown (float32 matmul" in (training_line("it", store, key) or "")
        assert all(row["flops"] and row["seconds"] for row in rows)
