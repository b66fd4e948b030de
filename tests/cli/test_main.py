"""The command line from outside: exit codes, streams, JSON, and the report where there is no torch."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.conftest import ENVIRONMENT, TINY, run_stillmark, stillmark


def test_check_says_what_would_be_run_as_json():
    done = run_stillmark("check", TINY, "--json")
    preview = json.loads(done.stdout)
    assert preview["num_jobs"] == 58
    assert [row["arm"] for row in preview["stages"]][:2] == ["vanilla-small", "vanilla-small"]
    assert preview["predicted_flops"] > 0


def test_prediction_is_near_what_is_recorded(tiny_run: Path):
    """Budgets are met to a step; lengths of replies are those of the reference, which a poor model need not write."""
    ledger = json.loads((tiny_run / "conclusion.json").read_text())["ledger"]
    trained = [row for row in ledger if row["part"] == "train" and row["arm"] != "logits-small"]
    for row in trained:
        assert row["flops"] == pytest.approx(row["predicted_flops"], rel=0.01), row


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "no-such.yaml"], "error: no-such.yaml: cannot be read"),
        (["run", TINY, "--workers", "0"], "--workers"),
        (["show", "no-such-folder"], "error: no-such-folder: there are no records"),
        (["report", "README.md"], "error: "),
        (["run", TINY, "--out", TINY], "tiny.yaml: cannot be written to as the folder of the records"),
        (["run", TINY, "--out", "/proc/xyz"], "error: /proc/xyz: cannot be written to as the folder"),
        (["shw", "x"], "No such command 'shw'"),
        ([], "Usage:"),
    ],
)
def test_bad_input_is_one_clear_message(arguments: list[str], said: str):
    done = run_stillmark(*arguments)
    assert done.returncode == 2
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_faults_of_a_study_are_told_and_nothing_is_written(tmp_path: Path):
    study = tmp_path / "bad.yaml"
    study.write_text(TINY.read_text().replace("model: small", "model: smal").replace("seeds:", "seed:"))
    done = run_stillmark("run", study, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "there is no model `smal`; did you mean `small`?" in done.stderr
    assert not (tmp_path / "run").exists()


def test_report_and_show_need_no_torch(tiny_run: Path, tmp_path: Path):
    for name in ("torch", "transformers", "tokenizers", "safetensors"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('there is no torch on this machine')\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{ENVIRONMENT['PYTHONPATH']}"}
    for command in ("show", "report"):
        done = subprocess.run(
            stillmark(command, tiny_run, "--json"), env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert {arm["arm"] for arm in json.loads(done.stdout)["arms"]} > {"teacher", "traces-small"}


def test_a_study_of_published_figures_runs_in_place(tmp_path: Path):
    done = run_stillmark("run", TINY.parent / "paper.yaml", "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert (tmp_path / "report.html").stat().st_size > 10_000
