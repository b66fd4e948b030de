"""Axes of one answer: values as recorded, one way an axis, unknown with its reason; sums by hand from the rows."""

import pytest
from tests.report.fabricate import PROFILED, SMALL, fabricated_store

from stillmark.analysis.conclusion import conclude_study
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.profile_rows import NO_PRICE
from stillmark.compute.shapes import ModelShape


def axes_of(store):
    return {axis["name"]: axis for axis in conclude_study(store)["answer_axes"]}


def last_jobs(store, arm):
    lineage = Lineage(store)
    last = lineage.study.arms[arm].checkpoints - 1
    return [lineage.evaluation(arm, seed, last).key for seed in lineage.study.seeds]


def write(store, sql, *values):
    with store.transaction():
        store.connection.execute(sql, values)


def test_without_a_profile_seconds_are_evaluations_and_memory_is_counted(tmp_path):
    store = fabricated_store(tmp_path, SMALL)
    (first, second) = last_jobs(store, "traces-small")
    write(store, "UPDATE samples SET seconds = 0.25 WHERE job_key = ?", first)
    write(store, "UPDATE samples SET seconds = 0.75 WHERE job_key = ?", second)
    write(
        store,
        "UPDATE samples SET seconds = NULL WHERE job_key = ? AND position = 3",
        last_jobs(store, "teacher")[0],
    )
    axes = axes_of(store)
    assert axes["seconds"]["arms"]["traces-small"]["value"] == pytest.approx(0.5)
    assert axes["seconds"]["arms"]["teacher"]["value"] is None  # one answer without seconds: no mean
    assert axes["seconds"]["arms"]["teacher"]["reason"] == "its answers have no seconds on record"
    assert axes["memory"]["method"] == "counted"
    shape: ModelShape = Lineage(store).plan.shape("traces-small")
    assert (
        axes["memory"]["arms"]["traces-small"]["value"] > 4 * shape.params
    )  # weights in float32, and a cache


def test_unknown_energy_and_money_say_why(tmp_path):
    store = fabricated_store(tmp_path, SMALL)
    write(store, "UPDATE ledger SET joules_source = 'no RAPL counter under /sys/class/powercap'")
    axes = axes_of(store)
    assert {row["value"] for name in ("joules", "money") for row in axes[name]["arms"].values()} == {None}
    assert axes["joules"]["arms"]["teacher"]["reason"] == "no RAPL counter under /sys/class/powercap"
    assert axes["money"]["arms"]["teacher"]["reason"] == NO_PRICE


def test_joules_of_the_ledger_are_shared_by_the_answers(tmp_path):
    store = fabricated_store(tmp_path, SMALL)
    for key, joules in zip(last_jobs(store, "traces-small"), (30.0, 90.0), strict=True):
        write(
            store, "UPDATE ledger SET joules = ?, joules_method = 'measured' WHERE job_key = ?", joules, key
        )
    axes = axes_of(store)
    assert axes["joules"]["arms"]["traces-small"]["value"] == pytest.approx(120 / 120)  # 60 items x 2 seeds
    assert axes["joules"]["arms"]["teacher"]["value"] is None


def test_joules_of_training_are_summed_within_each_boundary(tmp_path):
    store = fabricated_store(tmp_path, SMALL)
    write(store, "UPDATE ledger SET joules = 1.0, joules_method = 'measured'")
    arms = {arm["arm"]: arm for arm in conclude_study(store)["arms"]}
    assert arms["vanilla-small"]["joules"] == dict.fromkeys(
        arms["vanilla-small"]["joules"], 3.0
    )  # 3 checkpoints
    distilled = arms["traces-small"]["joules"]
    assert distilled["generation"] == distilled["student"] + 1.0
    assert distilled["teacher"] == distilled["generation"] + arms["teacher"]["joules"]["everything"]
    write(
        store,
        "UPDATE ledger SET joules = NULL WHERE job_key = ?",
        Lineage(store).plan.train_keys["teacher", 0],
    )
    unknown = {arm["arm"]: arm for arm in conclude_study(store)["arms"]}["traces-small"]["joules"]
    assert (unknown["generation"], unknown["teacher"]) == (distilled["generation"], None)


def test_a_price_of_every_answer_is_money_an_answer(tmp_path):
    store = fabricated_store(tmp_path, SMALL)
    for key in last_jobs(store, "teacher"):
        rows = store.sample_columns(key, "item_id", "position")
        for item, position in rows:
            write(store, "INSERT INTO sample_details (job_key, item_id, repeat, prompt_sha256, grades, is_cached, price_usd) "
                  "VALUES (?, ?, 0, '', '{}', 0, ?)", key, item, 0.001 * (position % 2))  # fmt: skip
    axes = axes_of(store)
    assert axes["money"]["arms"]["teacher"]["value"] == pytest.approx(0.0005)
    assert axes["money"]["arms"]["traces-small"]["value"] is None


def test_a_profile_gives_the_axis_and_other_arms_are_unknown_to_it(tmp_path):
    store = fabricated_store(tmp_path, PROFILED)
    axes = axes_of(store)
    seconds, memory = axes["seconds"], axes["memory"]
    assert seconds["source"] == "inference profile, transformers float32, alone on the machine"
    assert seconds["arms"]["traces-small"] == {"value": 0.02, "low": 0.02, "high": 0.02, "reason": None}
    assert memory["method"] == "measured"
    assert memory["arms"]["traces-small"]["value"] == 4e8
    assert seconds["arms"]["vanilla-large"]["value"] is None  # a drifted run chooses nothing
    assert seconds["arms"]["vanilla-large"]["reason"] == "its run is INVALID: drift"
    assert seconds["arms"]["teacher"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "it was not profiled",
    }
