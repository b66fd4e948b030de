"""An arm of a study through the procedure: known times come back, a cap that is too small is a record, so is a refusal."""

import json
from pathlib import Path

import pytest

from stillmark.profiling import arm_profile
from stillmark.profiling.arm_profile import WANTED, ArmRequest, profile_arm
from stillmark.profiling.quantise import FORMATS, MIXES
from stillmark.profiling.roofline import Ceilings
from stillmark.profiling.workload import Workload
from stillmark.records import ProfileRecord, Store
from stillmark.study import profile as study_profile

MODEL = Path("prefill=0.02,token=0.004,memory=3e8")  # of the fake engine: seconds and bytes
CAP = 100 * 2**20


@pytest.fixture(autouse=True)
def no_probe(monkeypatch):
    """The ceilings take ten seconds of a free machine."""
    monkeypatch.setattr(
        arm_profile, "measured_ceilings",
        lambda threads: Ceilings(threads=threads, flops_per_second=None, bytes_per_second=None),
    )  # fmt: skip


def profiled(tmp_path: Path, **changes) -> list[ProfileRecord]:
    request = {
        "folder": MODEL, "engines": {"fake": ["x"]}, "workload": Workload(prompt_tokens=8, new_tokens=6),
        "lengths": "given", "threads": 1, "cap_bytes": [None, CAP], "budget_seconds": 1.0,
    }  # fmt: skip
    return profile_arm(ArmRequest(**(request | changes)), "job", tmp_path)


def test_known_times_and_a_cap_that_is_too_small(tmp_path):
    records = profiled(tmp_path)
    by_cap = {cap: {r.metric: r for r in records if json.loads(r.setting)["memory_cap_bytes"] == cap} for cap in (None, CAP)}  # fmt: skip
    free, capped = by_cap[None], by_cap[CAP]
    assert set(WANTED) <= set(free)
    assert set(WANTED) == set(capped)
    # sleeps end late on a busy machine, never early
    assert free["ttft_seconds"].value >= 0.02
    assert free["end_to_end_seconds"].value >= 0.02 + 5 * 0.004
    assert (
        free["end_to_end_seconds"].low <= free["end_to_end_seconds"].value <= free["end_to_end_seconds"].high
    )
    assert free["end_to_end_seconds"].unit == "s"
    assert free["model_memory_bytes"].value >= 3e8
    assert free["cache_bytes"].value is None
    assert "no formula" in free["cache_bytes"].reason
    for record in capped.values():
        assert record.value is None
        assert record.verdict == "does not fit"
        assert "does not fit within 100 MiB" in record.reason


def test_records_come_back_from_the_store_and_none_comes_twice(tmp_path):
    records = profiled(tmp_path, cap_bytes=[None])
    store = Store.create(tmp_path / "records.sqlite")
    store.begin_job("job", "profile", {}, {})
    with store.transaction():
        store.add(*records)
    assert sorted(store.profiles("job"), key=str) == sorted(records, key=str)
    with pytest.raises(Exception, match="UNIQUE"), store.transaction():
        store.add(records[0])


def test_a_format_that_cannot_be_written_is_a_record(tmp_path):
    records = profiled(
        tmp_path, folder=tmp_path / "nothing", engines={"llamacpp": ["Q8_0"]}, cap_bytes=[None]
    )
    assert {record.metric for record in records} == set(WANTED)
    assert {record.verdict for record in records} == {"failed"}
    assert all("cannot be written as Q8_0: no model at" in record.reason for record in records)


def test_the_study_knows_the_formats_that_can_be_written():
    assert study_profile.FORMATS["llamacpp"] == FORMATS + MIXES
