"""An arm of a study through the procedure: known times come back, a cap that is too small is a record, so is a refusal."""

import json
from pathlib import Path

import pytest

from stillmark.profiling import arm_profile
from stillmark.profiling.arm_profile import WANTED, ArmRequest, Variant, profile_arms, sessions_of
from stillmark.profiling.journal import Journal
from stillmark.profiling.quantise import FORMATS, MIXES
from stillmark.profiling.roofline import Ceilings
from stillmark.profiling.workload import Workload
from stillmark.records import ProfileRecord, Store
from stillmark.study import profile as study_profile

MODEL = Path("prefill=0.02,token=0.004,memory=3e8")  # of the fake engine: seconds and bytes
CAP = 100 * 2**20


@pytest.fixture(autouse=True)
def no_probe(monkeypatch):
    """The ceilings take eight seconds of a free machine."""
    monkeypatch.setattr(
        arm_profile, "measured_ceilings",
        lambda threads: Ceilings(threads=threads, flops_per_second=None, bytes_per_second=None),
    )  # fmt: skip


def profiled(tmp_path: Path, **changes) -> list[ProfileRecord]:
    request = {
        "name": "a", "folder": MODEL, "engines": {"fake": ["x"]}, "workload": Workload(prompt_tokens=8, new_tokens=6),
        "lengths": "given", "threads": 1, "cap_bytes": [None, CAP], "budget_seconds": 1.0,
    }  # fmt: skip
    return profile_arms([ArmRequest(**(request | changes))], "job", tmp_path)


def request_named(name: str, **changes) -> ArmRequest:
    return ArmRequest(**({
        "name": name, "folder": MODEL, "engines": {"fake": ["x"]}, "lengths": "given", "threads": 1,
        "workload": Workload(prompt_tokens=8, new_tokens=6), "cap_bytes": [None], "budget_seconds": 1.0,
    } | changes))  # fmt: skip


def test_arms_of_one_job_take_turns_each_at_its_own_length(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    requests = [request_named("a"), request_named("b", workload=Workload(prompt_tokens=9, new_tokens=12))]
    records = profile_arms(requests, "job", tmp_path, journal)
    settings = {(said := json.loads(r.setting))["arm"]: said for r in records}
    assert {name: said["new_tokens"] for name, said in settings.items()} == {"a": 6, "b": 12}
    assert {said["session"] for said in settings.values()} == {0}
    order = [json.loads(line)["arm"] for line in journal.path.read_text().splitlines()]
    rounds = [set(order[place : place + 2]) for place in range(0, len(order), 2)]
    assert all(len(both) == 2 for both in rounds[:6])  # each round has both, in a random order
    assert len(set(order[0:12:2])) == 2
    # killed and begun again: what the journal holds is not timed again
    profile_arms(requests, "job", tmp_path, Journal(journal.path))
    assert [json.loads(line)["arm"] for line in journal.path.read_text().splitlines()] == order


def test_what_does_not_fit_together_is_split_and_nothing_is_lost(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"0" * 1000)
    variants = [
        Variant(request=request_named(name), engine="x", format="f", model=str(tmp_path), arms={name: None})
        for name in "abcde"
    ]
    assert variants[0].needed_bytes == 2000
    assert sessions_of(variants, None) == sessions_of(variants, 15_000) == [variants]
    groups = sessions_of(variants, 6_000)  # 4,200 may be used
    assert [len(group) for group in groups] == [2, 2, 1]
    assert sorted(variant.request.name for group in groups for variant in group) == list("abcde")
    assert [len(group) for group in sessions_of(variants, 10)] == [1] * 5


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
