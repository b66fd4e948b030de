"""Exported records equal SQLite's rows, and the conclusion's figures follow from them by hand."""

import csv
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import run_stillmark

import stillmark
from stillmark.errors import UserError


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_every_row_is_exported_as_it_is(tiny_run: Path, tmp_path: Path, kind: str):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    done = run_stillmark("export", tiny_run, "--to", tmp_path, "--format", kind)
    assert done.returncode == 0, done.stderr
    connection = sqlite3.connect(tiny_run / "records.sqlite")
    for table in ("samples", "ledger", "checkpoints", "items"):
        expected = connection.execute(f"SELECT * FROM {table}").fetchall()
        assert expected
        if kind == "parquet":
            import pyarrow.parquet as parquet

            columns = parquet.read_table(tmp_path / f"{table}.parquet")
            own = columns.column_names if table == "items" else columns.column_names[4:]
            rows = list(zip(*(columns[name].to_pylist() for name in own), strict=True))
            assert rows == expected
        else:
            with (tmp_path / f"{table}.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
            offset = 0 if table == "items" else 4
            shown = [["" if value is None else str(value) for value in row] for row in expected]
            assert [row[offset:] for row in rows] == shown


def test_two_lines_give_a_frame_and_the_accuracies_follow(tiny_run: Path):
    pytest.importorskip("pandas")
    samples = stillmark.open_run(tiny_run).frame("samples")
    conclusion = json.loads((tiny_run / "conclusion.json").read_text())
    evaluated = samples[samples.stage == "evaluate"]
    for arm in conclusion["arms"]:
        own = evaluated[evaluated.arm == arm["arm"]]
        last = own[own.checkpoint == own.checkpoint.max()]
        by_seed = (last.outcome == "correct").groupby(last.seed).mean()
        assert float(np.mean(by_seed)) == pytest.approx(arm["accuracy"]["value"])


def test_training_flops_follow_from_the_ledger(tiny_run: Path):
    pytest.importorskip("pandas")
    ledger = stillmark.open_run(tiny_run).frame("ledger")
    conclusion = json.loads((tiny_run / "conclusion.json").read_text())
    for arm in conclusion["arms"]:
        own = ledger[(ledger.arm == arm["arm"]) & (ledger.part == "train")]
        mean = own.groupby("seed").flops.sum().mean()
        assert float(mean) == pytest.approx(arm["flops"]["student"])


def test_an_unknown_table_is_named(tiny_run: Path):
    with pytest.raises(UserError, match="there is no table `sample`"):
        stillmark.open_run(tiny_run).columns("sample")
