"""What is said of training: against the counts of the run itself, through accelerate's own tracker interface."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.tracking import GeneralTracker
from tests.distill.small_training import training

from stillmark.distill.speed import matmul_peak
from stillmark.distill.trackers import PARTS, StepReport, TrainingLog, start_trackers, summary
from stillmark.errors import UserError


class Kept(GeneralTracker):
    """A tracker as accelerate defines one."""

    name = "kept"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.is_finished = False

    @property
    def tracker(self) -> "Kept":
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, float], step: int | None = None, **options: Any) -> None:
        self.logged.append((step or 0, values))

    def finish(self) -> None:
        self.is_finished = True


def test_lines_and_values_are_the_runs_own_counts(tmp_path: Path):
    kept, stream = Kept(), io.StringIO()
    trackers = start_trackers([kept], project="tests", settings={"loss": "forward_kl"}, folder=tmp_path)
    run = training("forward_kl")
    run.on_step = TrainingLog(interval=3, matmul_peak=1e12, trackers=trackers, stream=stream)
    for _ in range(4):
        run.step()
    run.on_step.close()

    spent = run.spent
    assert kept.settings == {"loss": "forward_kl"}
    assert [step for step, _ in kept.logged] == [3, 4]
    first, second = (values for _, values in kept.logged)
    shares = [3 * first["train/loss"], second["train/loss"]]
    assert sum(shares) / 4 == pytest.approx(spent.loss_sum / spent.loss_tokens, rel=0.05)
    assert second["train/samples"] == spent.samples
    assert first["train/mfu"] == pytest.approx(first["train/flops_per_second"] / 1e12)
    assert kept.is_finished
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"step 3  loss {first['train/loss']:.4f}")
    assert "MFU" in lines[0]


def test_rates_are_totals_over_totals():
    def report(step: int, **values: float) -> StepReport:
        zeros = dict.fromkeys((*PARTS, "generated_tokens"), 0)
        common = {**zeros, "samples": step, "gradient_norm": 1.0, "learning_rate": 0.1}
        return StepReport(step=step, **{**common, **values})  # type: ignore[arg-type]

    slow = report(
        1,
        tokens=10,
        loss=3.0,
        loss_tokens=5,
        train_flops=60,
        teacher_flops=40,
        train_seconds=3.0,
        generate_seconds=1.0,
    )
    fast = report(
        2,
        tokens=30,
        loss=1.0,
        loss_tokens=15,
        train_flops=300,
        generate_flops=200,
        train_seconds=0.75,
        teacher_seconds=0.25,
    )
    values = summary([slow, fast], None)
    assert (values["loss"], values["tokens_per_second"], values["flops_per_second"]) == (1.5, 8.0, 120.0)
    assert (values["generate_flops"], values["generate_seconds"]) == (200, 1.0)
    assert "mfu" not in values, "an unknown peak gives no utilisation"


def test_a_report_is_the_difference_of_two_counts():
    reports: list[StepReport] = []
    run = training("forward_kl")
    run.on_step = reports.append
    for _ in range(3):
        run.step()
    spent = run.spent
    assert sum(report.flops for report in reports) == spent.train_flops + spent.teacher_flops
    assert sum(report.tokens for report in reports) == spent.tokens
    assert sum(report.loss * report.loss_tokens for report in reports) == pytest.approx(spent.loss_sum)
    assert sum(report.seconds for report in reports) == pytest.approx(
        spent.train_seconds + spent.teacher_seconds
    )


@pytest.mark.parametrize(
    ("name", "message"), [("tensorbored", "not known"), ("clearml", "its package is not installed")]
)
def test_a_tracker_that_cannot_be_is_one_clear_line(name: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        start_trackers([name], project="tests", settings={}, folder=tmp_path)


def test_mlflow_keeps_what_was_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no other store
    trackers = start_trackers(["mlflow"], project="tests", settings={"loss": "forward_kl"}, folder=tmp_path)
    log = TrainingLog(interval=1, trackers=trackers, stream=sys.stderr)
    run = training("forward_kl")
    run.on_step = log
    run.step()
    run.step()
    log.close()
    (row,) = mlflow.search_runs(experiment_names=["tests"]).to_dict("records")
    assert row["params.loss"] == "forward_kl"
    assert row["metrics.train/samples"] == run.spent.samples


def test_the_peak_is_near_what_a_plain_product_reaches():
    peak = matmul_peak(torch.device("cpu"))
    assert 1e8 < peak < 1e14
    assert matmul_peak(torch.device("cpu")) == peak
