"""The whole path on a study of seconds: what is recorded, what a kill leaves, what is run again."""

import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import ENVIRONMENT, TINY, run_stillmark, stillmark

from stillmark import runner
from stillmark.compute.flops import generate_flops
from stillmark.errors import UserError
from stillmark.plan import Plan
from stillmark.records import Outcome, Store
from stillmark.runner import that_travels
from stillmark.study import Study

TABLES_WITHOUT_TIMES = {
    "jobs": "key, stage, inputs, finished_at NOT NULL",
    "items": "*",
    "samples": "job_key, item_id, repeat, position, response, outcome, stop_reason, prompt_tokens, generated_tokens",
    "ledger": 'job_key, part, "index", flops, flops_method, tokens, positions, device',
    "checkpoints": "*",
}


def records(folder: Path) -> dict[str, list[Any]]:
    """Everything in a store but clock times, in one order."""
    connection = sqlite3.connect(folder / "records.sqlite")
    return {
        table: sorted(connection.execute(f"SELECT {columns} FROM {table}"))
        for table, columns in TABLES_WITHOUT_TIMES.items()
    }


def finished_times(folder: Path) -> dict[str, str]:
    return dict(sqlite3.connect(folder / "records.sqlite").execute("SELECT key, finished_at FROM jobs"))


def test_an_error_that_cannot_be_pickled_reaches_the_parent_in_words():
    """Its own class asks for two arguments by name, as huggingface_hub's of a config that is not valid do."""

    class Strict(Exception):
        def __init__(self, *, validator: str, cause: str) -> None:
            super().__init__(f"{validator}: {cause}")

    sent = that_travels(Strict(validator="heads", cause="33 is no multiple of 4"))
    assert str(pickle.loads(pickle.dumps(sent))) == "Strict: heads: 33 is no multiple of 4"
    mine = UserError("no", "do")
    assert that_travels(mine) is mine


def test_every_job_of_the_plan_is_recorded(tiny_run: Path):
    store = Store.open(tiny_run)
    _, resolved, rows, _ = store.study()
    plan = Plan(Study.model_validate(resolved))
    assert store.finished_keys() == set(plan.jobs) == {row["key"] for row in rows}
    for job in plan.jobs.values():
        entries = store.ledger(job.key)
        assert entries, job
        assert all(entry.flops for entry in entries)
        if job.stage == "train":
            assert len(store.checkpoints(job.key)) == 3


def test_each_sample_has_one_outcome_and_scoring_it_again_gives_the_same(tiny_run: Path):
    """By a scorer of this test's own: the last words against the answer that a replay of the question gives."""
    store = Store.open(tiny_run)
    items = store.items()
    rows = sqlite3.connect(tiny_run / "records.sqlite").execute(
        "SELECT item_id, response, outcome, stop_reason FROM samples"
    )
    seen = set()
    for item_id, response, outcome, stop_reason in rows:
        pairs = [part.split() for part in items[item_id].prompt.removesuffix(" ; ?").split(" ; ")]
        held = dict(pairs[:3])
        for first, second in pairs[3:]:
            held[first], held[second] = held[second], held[first]
        is_right = stop_reason == "stop" and response.split()[-3:] == list(held.values())
        assert (outcome == Outcome.CORRECT) == is_right
        seen.add(outcome)
    assert len(seen) >= 3


def test_ledger_of_generation_is_of_all_its_samples_as_they_were_run(tiny_run: Path):
    """Rejected traces are counted too; the run takes less than its replies would by themselves."""
    store = Store.open(tiny_run)
    plan = Plan(Study.model_validate(store.study()[1]))
    (key, *_) = set(plan.generate_keys.values())
    shape = plan.shape(plan.jobs[key].arm)
    samples = store.samples(key)
    assert {sample.outcome for sample in samples} > {Outcome.CORRECT}
    by_hand = sum(
        generate_flops(shape, prompt_tokens=s.prompt_tokens, new_tokens=s.generated_tokens) for s in samples
    )
    entries = store.ledger(key)
    assert sum(entry.tokens for entry in entries) == sum(
        s.prompt_tokens + s.generated_tokens for s in samples
    )
    assert by_hand / 4 < sum(entry.flops for entry in entries) < by_hand


def test_where_no_bar_can_be_drawn_lines_say_how_far_it_is(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Each job begins and is done; within, no more than a line a minute, of whichever job; what is late is left out."""
    store = Store.open(tiny_run)
    first, second = list(Plan(Study.model_validate(store.study()[1])).jobs.values())[:2]
    clock = iter([0.0, 0.0, 1.0, 30.0, 61.5, 62.0, 125.0, 126.0])
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with runner.progress_bar([first, second], store, quiet=False) as bar:
        for job, fraction in [(first, 0), (second, 0), (first, 0.2), (first, 0.5), (second, 0.6), (first, 0.75),
                              (second, 0.1), (first, 1), (first, 0.999)]:  # fmt: skip
            bar.update(job.key, fraction)
    names = [f"{job.stage} {job.arm} seed {job.seed}" for job in (first, second)]
    lines = [line for line in capsys.readouterr().err.splitlines() if " jobs: " in line]
    assert lines == [
        f"0:00:00 0/2 jobs: {names[0]} begins", f"0:00:01 0/2 jobs: {names[1]} begins",
        f"0:01:01 0/2 jobs: {names[0]} 50%", f"0:02:05 0/2 jobs: {names[0]} 75%",
        f"0:02:06 1/2 jobs: {names[0]} is done",
    ]  # fmt: skip


def test_a_finished_study_runs_nothing_and_says_so(tiny_run: Path):
    before = finished_times(tiny_run)
    again = run_stillmark("run", TINY, "--out", tiny_run)
    assert again.returncode == 0
    assert "nothing to run" in again.stderr
    assert finished_times(tiny_run) == before


def test_a_changed_study_runs_again_what_the_change_touches(tiny_run: Path, tmp_path: Path):
    """A larger budget for the teacher: its students too, and neither the vanilla arms nor the control."""
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_run, folder)
    before = finished_times(folder)
    changed = tmp_path / "changed.yaml"
    changed.write_text(TINY.read_text().replace("train_flops: 1.5e10", "train_flops: 1.6e10"))
    assert run_stillmark("run", changed, "--out", folder).returncode == 0
    after = finished_times(folder)
    assert before.items() <= after.items()
    plan = Plan(Study.model_validate(Store.open(folder).study()[1]))
    new = {plan.jobs[key].arm for key in after.keys() - before.keys()}
    assert new == {"teacher", "traces-small", "traces-small-from-base", "logits-small"}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_records(tiny_run: Path, tmp_path: Path, seed: int):
    folder = tmp_path / "tiny"
    stream = random.Random(seed)
    for _ in range(4):
        process = subprocess.Popen(
            stillmark("run", TINY, "--out", folder),
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not (folder / "models").is_dir() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        time.sleep(stream.uniform(0, 3))
        process.kill()
        process.wait()
    done = run_stillmark("run", TINY, "--out", folder)
    assert done.returncode == 0, done.stderr
    expected, found = records(tiny_run), records(folder)
    for table in expected:
        assert found[table] == expected[table], table


def test_ctrl_c_ends_cleanly_and_keeps_what_is_recorded(tmp_path: Path):
    folder = tmp_path / "tiny"
    process = subprocess.Popen(
        stillmark("run", TINY, "--out", folder),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a background shell's children ignore it
    )
    deadline = time.monotonic() + 60
    while not (folder / "models").is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in stderr
    assert "Traceback" not in stderr


def test_two_runs_of_one_study_at_once_are_refused(tmp_path: Path):
    folder = tmp_path / "tiny"
    first = subprocess.Popen(
        stillmark("run", TINY, "--out", folder), env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    while not (folder / "records.sqlite").is_file():
        time.sleep(0.05)
    second = run_stillmark("run", TINY, "--out", folder)
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert "another process is running this study" in second.stderr
