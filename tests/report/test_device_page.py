"""Profiles in a conclusion and on its page; the page's picker gives the verdicts of analysis/choose, on a grid."""

import itertools
import json

import pytest
from tests.report.browser import CHROMIUM, Browser
from tests.report.fabricate import PROFILED, fabricated_store

from stillmark.analysis.choose import Wanted, choose
from stillmark.analysis.conclusion import conclude_study
from stillmark.analysis.profile_rows import costs, reason_of
from stillmark.compute.hardware import devices
from stillmark.compute.predictor import Limits
from stillmark.records import Method, ProfileRecord, Store
from stillmark.report.page import page_html
from stillmark.report.record_checks import check_records
from stillmark.report.tables import tables_of

# the bits of the numbers on either side of each limit: 20 ms measured, 0.4 GB, some ten percent to all right
LATENCIES = (None, 1e-9, 0.0199, 0.02, 10.0)
MEMORIES = (None, 1.0, 1e5, 3.9e8, 4.1e8, 1e12)
ACCURACIES = (None, 0.0, 0.5, 0.9, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("profiled")
    fabricated_store(path, PROFILED).close()
    return path


@pytest.fixture(scope="module")
def conclusion(folder):
    return json.loads(json.dumps(conclude_study(Store.open(folder))))


def test_the_conclusion_holds_what_was_profiled(conclusion):
    assert {(row["arm"], row["memory_cap_bytes"]) for row in conclusion["profiles"]} == {
        (arm, cap) for arm in ("traces-small", "vanilla-large") for cap in (None, 4 * 2**20)
    }
    rows = {row["arm"]: row for row in conclusion["choose"]}
    assert set(rows) == {arm["arm"] for arm in conclusion["arms"]}
    accuracy = next(arm["accuracy"]["value"] for arm in conclusion["arms"] if arm["arm"] == "traces-small")
    costs = rows["traces-small"]["per_correct"]
    assert costs["seconds"]["value"] == pytest.approx(0.02 / accuracy)
    assert costs["joules"]["value"] is None
    assert costs["money"] == {"value": None, "reason": "no price of an hour of this machine is known"}
    assert rows["traces-small"]["slowdown"] == {"compute": 2.0, "read": 4.0}
    assert rows["vanilla-small"]["measured"] is None
    assert rows["vanilla-small"]["slowdown"] is None
    assert not any(row["stage"] == "profile" for row in conclusion["ledger"])


def test_a_run_that_broke_a_rule_says_which_and_costs_nothing(conclusion):
    """A figure that is missing for a reason of its own does not stand for the run's."""
    common = {"job_key": "k", "engine": "transformers", "format": "float32", "setting": "{}", "low": None, "high": None,
              "unit": "s", "method": Method.MEASURED, "verdict": "INVALID"}  # fmt: skip
    records = [ProfileRecord(metric="cache_bytes", value=None, reason="no formula", **common),
               ProfileRecord(metric="ttft_seconds", value=1.0, reason="drift", **common)]  # fmt: skip
    assert reason_of(records) == "drift"
    row = conclusion["profiles"][0] | {"verdict": "INVALID", "reason": "drift"}
    assert row["memory_cap_bytes"] is None
    found = costs(row, {"value": 0.5})["seconds"]
    assert (found["value"], found["reason"]) == (None, "its run is INVALID (drift)")


def test_tables_and_page_show_it(conclusion):
    (table,) = [table for table in tables_of(conclusion) if table.name == "profiles"]
    text = table.to_markdown()
    assert "20 ms (20 ms to 20 ms)" in text
    assert "does not fit within 4 MiB" in text
    page = page_html(conclusion)
    assert 'id="device"' in page
    assert 'id="table-profiles"' in page


def test_the_records_agree_with_themselves(folder):
    for check in check_records(Store.open(folder)):
        assert "profile" not in " ".join(check.details)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_the_picker_gives_the_verdicts_of_analysis(conclusion, tmp_path):
    (tmp_path / "page.html").write_text(page_html(conclusion))
    names = [
        None,
        "raspberry-pi-5",
        "h100-sxm",
        *(name for name, one in devices().items() if one.memory_bytes is None),
    ]
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(tmp_path / "page.html")
        for name in names:
            limits = None if name is None else Limits.of_device(devices()[name])
            one = (
                "null"
                if name is None
                else f"data.device.devices.find((one) => one.name === {json.dumps(name)})"
            )
            grid = list(itertools.product(LATENCIES, MEMORIES, ACCURACIES))
            wanted = json.dumps(
                [
                    dict(zip(("latency_seconds", "memory_bytes", "accuracy"), limit, strict=True))
                    for limit in grid
                ]
            )
            found = browser.run(f"{wanted}.map((wanted) => chooseFor({one}, wanted))")
            for (latency, memory, accuracy), page in zip(grid, found, strict=True):
                made = choose(
                    conclusion,
                    limits,
                    Wanted(latency_seconds=latency, memory_bytes=memory, accuracy=accuracy),
                )
                for ours, theirs in zip(made.rows, page["rows"], strict=True):
                    for key in ("arm", "engine", "format", "verdict", "method", "accuracy"):
                        assert theirs[key] == getattr(ours, key), (name, latency, memory, accuracy, key)
                    for key in ("seconds", "memory_bytes"):
                        wished = getattr(ours, key)
                        near = None if wished is None else pytest.approx(wished, rel=1e-12)
                        assert theirs[key] == near, (name, key)
                    assert bool(theirs["reason"]) == bool(ours.reason)
                best = None if made.best is None else made.rows.index(made.best)
                assert page["best"] == best, (name, latency, memory, accuracy)
        assert browser.errors == []
    finally:
        browser.close()
