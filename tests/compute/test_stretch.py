"""Seconds and joules of a stretch of work: counted by fake meters, unknown without them, never shared in silence."""

import sqlite3

import pytest
import torch
from tests.compute.test_energy import powercap
from tests.report.fabricate import SMALL

from stillmark.backends.protocol import Reply, Sampling
from stillmark.compute import energy, stretch
from stillmark.compute.stretch import Stretch, share_machine
from stillmark.evaluate.evaluate import ask
from stillmark.plan import Plan
from stillmark.records import LedgerEntry, Method, Store
from stillmark.stages.train import shared_joules
from stillmark.study import study_from_text
from stillmark.tasks import Sample


@pytest.fixture
def counter(tmp_path, monkeypatch):
    """A CPU package's counter, in microjoules."""
    root = powercap(tmp_path, {"intel-rapl:0": ("package-0", 0, 10**9)})
    monkeypatch.setattr(energy, "POWERCAP", root)
    return root / "intel-rapl:0" / "energy_uj"


@pytest.fixture(autouse=True)
def alone():
    yield
    share_machine(1)


def test_a_counter_gives_joules_with_method_and_source(counter):
    with Stretch() as work:
        counter.write_text("2500000\n")
    row = work.row()
    assert (row["joules"], row["joules_method"]) == (2.5, "measured")
    assert row["joules_source"] == f"CPU package-0: {counter}"
    assert row["seconds"] > 0
    assert row["cpu_seconds"] > 0


def test_without_a_counter_joules_are_unknown_and_it_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    with Stretch() as work:
        pass
    row = work.row()
    assert (row["joules"], row["joules_method"]) == (None, None)
    assert "no RAPL counter under" in row["joules_source"]


def test_a_counter_of_the_whole_machine_says_nothing_of_one_of_two_jobs(counter):
    share_machine(2)
    with Stretch() as work:
        counter.write_text("2500000\n")
    assert work.row()["joules"] is None
    assert work.row()["joules_source"] == "2 jobs at once share the machine's counters"


def test_work_elsewhere_is_not_this_machines(counter):
    with Stretch(unread=stretch.ELSEWHERE) as work:
        counter.write_text("2500000\n")
    assert work.row()["joules"] is None
    assert work.row()["joules_source"] == stretch.ELSEWHERE


def test_parts_of_a_stretch_share_its_joules_by_seconds_and_it_is_an_estimate(counter):
    with Stretch() as work:
        counter.write_text("4000000\n")
    (alone,) = shared_joules(work, {"train": 3.0}).values()
    assert (alone["joules"], alone["joules_method"]) == (4.0, "measured")
    shared = shared_joules(work, {"train": 3.0, "teacher_forward": 1.0})
    assert {part: row["joules"] for part, row in shared.items()} == {"train": 3.0, "teacher_forward": 1.0}
    assert {row["joules_method"] for row in shared.values()} == {"estimated"}
    assert "share by wall seconds" in shared["train"]["joules_source"]


class Answering:
    """A model that answers `blue` and uses 1.5 J."""

    work = None  # it does not tell

    def __init__(self, counter):
        self.counter = counter

    def generate(self, prompts, sampling):
        self.counter.write_text(f"{int(self.counter.read_text()) + 1_500_000}\n")
        return [[Reply(text="blue", stop_reason="stop", prompt_tokens=2, generated_tokens=1,
                       prefill_seconds=None, decode_seconds=None)] for _ in prompts]  # fmt: skip


class Scoring:
    def score(self, response, target, stop_reason):
        return "correct"


def test_answers_are_metered_chunk_by_chunk(counter):
    shape = Plan(study_from_text(SMALL)).shape("traces-small")
    items = [
        Sample(prompt=f"q {k}", answer="blue", target="blue", level=1, solution=None) for k in range(300)
    ]
    chunks = ask("k", "evaluate", Answering(counter), shape, "t", Scoring(), items, Sampling(max_new_tokens=2), device=torch.device("cpu"))  # fmt: skip
    entries = [chunk.entry for chunk in chunks]
    assert [entry.joules for entry in entries] == [1.5, 1.5]  # 256 items and 44


def test_a_ledger_written_before_joules_reads_as_unknown(tmp_path):
    store = Store.create(tmp_path / "records.sqlite")
    store.begin_job("k", "train", {}, {})
    entry = LedgerEntry(job_key="k", part="train", index=0, flops=1, flops_method=Method.COUNTED, tokens=1,
                        positions=1, seconds=1.0, cpu_seconds=1.0, device="d")  # fmt: skip
    with store.transaction():
        store.add(entry)
    store.close()
    with sqlite3.connect(tmp_path / "records.sqlite") as connection:
        for name in ("joules", "joules_method", "joules_source"):
            connection.execute(f"ALTER TABLE ledger DROP COLUMN {name}")
    connection.close()
    assert Store.create(tmp_path / "records.sqlite").ledger("k") == [entry]
