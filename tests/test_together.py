"""`stillmark distill` as launchers of several processes start it: the records, model and lines of one process."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import ENVIRONMENT, run_stillmark
from tests.text_models import PARAGRAPHS, write_given_model

from stillmark.models.given import given_tokenizer
from stillmark.records import CheckpointRecord, Store
from stillmark.records.copies import content_of, store_in_memory

CONTEXT = 16
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "stillmark"],
    "fsdp": [
        "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
        "--dynamo_backend", "no", "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy",
        "TRANSFORMER_BASED_WRAP", "-m", "stillmark",
    ],
}  # fmt: skip


ONE = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "1", "-m", "stillmark"],
    "accelerate": [
        "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no",
        "--dynamo_backend", "no", "-m", "stillmark",
    ],
}  # fmt: skip


def launched(launcher: str, arguments: list[str | Path]) -> list[str]:
    return [sys.executable, "-m", *LAUNCHERS[launcher], *map(str, arguments)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and documents of whole windows: no batch is padded, however it is shared out."""
    folder = tmp_path_factory.mktemp("together")
    tokenizer = given_tokenizer(str(write_given_model(folder / "given")))
    rows = []
    for start in range(24):
        text = "".join(PARAGRAPHS)[7 * start :] + PARAGRAPHS[start % 4]
        while len(tokenizer(text)["input_ids"]) % CONTEXT:
            text = text[:-1]
        rows.append({"text": text})
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run_stillmark(*command(folder, "alone"))
    assert done.returncode == 0, done.stderr
    return folder


def command(folder: Path, out: str, **options: str) -> list[str | Path]:
    settings = {
        "--layers": "2", "--context": str(CONTEXT), "--batch": "4", "--held-out": "0.2", "--epochs": "1",
        "--learning-rate": "3e-3", "--threads": "1", **options,
    }  # fmt: skip
    flat = [word for pair in settings.items() for word in pair]
    return [
        "distill",
        "--teacher",
        folder / "given",
        "--data",
        folder / "data.jsonl",
        *flat,
        "--out",
        folder / out,
    ]


def trained(folder: Path) -> tuple[list[CheckpointRecord], dict[str, tuple[int, int, int]]]:
    """The student's checkpoints, and FLOPs, tokens and entries of each part of its training."""
    store = Store.open(folder)
    (key,) = (job.key for job in store.jobs() if job.stage == "train")
    parts: dict[str, tuple[int, int, int]] = {}
    for entry in store.ledger(key):
        flops, tokens, count = parts.get(entry.part, (0, 0, 0))
        parts[entry.part] = (flops + (entry.flops or 0), tokens + (entry.tokens or 0), count + 1)
    return store.checkpoints(key), parts


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ONE)
def test_one_that_was_launched_has_the_launchers_device_and_leaves_the_same_bits(work: Path, launcher: str):
    """So a single GPU is used; on this machine it is the CPU."""
    out = f"one-{launcher}"
    done = subprocess.run(
        [sys.executable, "-m", *ONE[launcher], *map(str, command(work, out))],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (alone, parts), (one, parts_of_one) = trained(work / "alone"), trained(work / out)
    assert parts == parts_of_one
    assert [row.sha256 for row in one] == [row.sha256 for row in alone]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_leave_what_one_does(work: Path, launcher: str):
    done = subprocess.run(
        launched(launcher, command(work, launcher)),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(work / launcher / "model")]  # one process speaks
    assert done.stderr.count("model: ") == 1
    assert "Loading weights" not in done.stderr
    alone, parts = trained(work / "alone")
    together, parts_together = trained(work / launcher)
    prune = parts.pop("prune"), parts_together.pop("prune")
    assert prune[1][:2] == tuple(2 * number for number in prune[0][:2])  # each process prunes for itself
    assert parts_together.keys() == parts.keys() == {"train", "teacher_forward"}
    if launcher == "torchrun":
        assert parts_together == parts
    else:  # under FSDP one that has fewer batches runs an empty one beside the others, and counts it
        for part, (flops, tokens, count) in parts.items():
            assert parts_together[part][1:] == (tokens, count)
            assert flops <= parts_together[part][0] < 1.02 * flops
    for one, other in zip(alone, together, strict=True):
        assert (one.step, one.samples_seen, one.tokens) == (other.step, other.samples_seen, other.tokens)
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        weights, other_weights = (
            load_file(folder / record.path / "model.safetensors")
            for folder, record in ((work / "alone", one), (work / launcher, other))
        )
        assert weights.keys() == other_weights.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(other_weights[name], weight, rtol=1e-3, atol=1e-5)
    (machine,) = (job.provenance for job in Store.open(work / launcher).jobs() if job.stage == "train")
    assert machine["device"].endswith("2 processes")


@pytest.mark.slow
def test_a_killed_launch_leaves_no_process_and_one_process_goes_on(work: Path):
    """kill -9 of the launcher in training: its processes end, and the same command by itself ends the study."""
    arguments = command(work, "killed", **{"--epochs": "12"})
    process = subprocess.Popen(
        launched("torchrun", arguments), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    store = work / "killed" / "records.sqlite"
    deadline = time.monotonic() + 240
    while not num_trained(store) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert num_trained(store), "no checkpoint was written in time"
    children = children_of(process.pid)
    assert len(children) == 2
    process.kill()
    process.wait()
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, children))
    done = run_stillmark(*arguments)
    assert done.returncode == 0, done.stderr
    checkpoints, parts = trained(work / "killed")
    assert parts["train"][0] == checkpoints[-1].train_flops
    assert [record.index for record in checkpoints] == [0, 1, 2]


def num_trained(store: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
        return int(connection.execute("SELECT count(*) FROM checkpoints WHERE step > 0").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def children_of(pid: int) -> list[int]:
    lines = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in lines]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_a_copy_of_a_store_reads_the_same_and_writes_nothing_back(tmp_path: Path):
    store = Store.create(tmp_path / "records.sqlite")
    store.begin_job("one", "train", {"seed": 0}, {"cpu": "none"})
    copy = store_in_memory(store.path, content_of(store))
    assert copy.jobs() == store.jobs()
    assert copy.folder == tmp_path
    copy.begin_job("two", "train", {}, {})
    copy.finish_job("one")
    assert [job.key for job in copy.jobs()] == ["one", "two"]
    assert [(job.key, job.finished_at) for job in store.jobs()] == [("one", None)]
