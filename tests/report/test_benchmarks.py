"""Benchmarks in a text study's conclusion, tables and page, where who is right on what is known."""

import json
from dataclasses import replace

import pytest
from tests.report.browser import CHROMIUM, Browser
from tests.report.fabricate_benchmarks import NUM_ITEMS, USD, asked_store, num_right
from tests.report.test_text_report import scores

from stillmark.analysis.conclusion import conclude_study
from stillmark.analysis.lineage import Lineage
from stillmark.compute.ledger import Boundary
from stillmark.records import ItemRecord
from stillmark.report.benchmarks import benchmark_tables
from stillmark.report.record_checks import check_records
from stillmark.report.samples import OUTCOME_ORDER, browse_benchmarks, question_and_answer
from stillmark.report.text_figures import text_chart, text_picture_files
from stillmark.report.write import conclude
from stillmark.tasks.choice_scorer import choice_target


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("asked")
    asked_store(path, scores).close()
    return path


@pytest.fixture(scope="module")
def store(folder):
    from stillmark.records import Store

    return Store.open(folder)


@pytest.fixture(scope="module")
def found(store):
    return conclude_study(store)["benchmarks"]


def test_accuracy_costs_and_the_curve(found):
    results = {row["arm"]: row for row in found["results"]}
    for arm, runs in (("teacher", 1), ("distilled", 3), ("distilled-control", 3), ("proprietary", 1)):
        row = results[arm]
        right = num_right(arm, 3)
        assert (row["accuracy"]["value"], row["num_runs"]) == (pytest.approx(right / NUM_ITEMS), runs)
        if arm == "proprietary":
            assert row["answer_flops"] is None
            assert row["usd_per_correct"] == pytest.approx(USD * NUM_ITEMS / right)
        else:
            assert row["answer_usd"] is None
            assert row["flops_per_correct"] == pytest.approx(row["answer_flops"] * NUM_ITEMS / right)
    curve = {(row["arm"], row["checkpoint"]): row["accuracy"]["value"] for row in found["curve"]}
    assert curve == {
        (arm, at): pytest.approx(num_right(arm, at) / NUM_ITEMS)
        for arm in ("distilled", "distilled-control") for at in range(4)
    }  # fmt: skip


def test_differences_are_of_the_same_items(found):
    values = {(row["arm"], row["other"]): row["difference"]["value"] for row in found["differences"]}
    assert values == {
        ("distilled", "distilled-control"): pytest.approx((36 - 16) / NUM_ITEMS),
        ("distilled", "teacher"): pytest.approx(0),
        **{
            (arm, "proprietary"): pytest.approx((num_right(arm, 3) - 38) / NUM_ITEMS)
            for arm in ("teacher", "distilled", "distilled-control")
        },
    }


def test_the_compute_ratio_is_that_of_the_flops_at_equal_accuracy(store, found):
    """The student is at 9, 18, 27, 36 right answers, the control ends at 16: 7/9 of the way between the first two, in
    log compute. The seeds of the made-up store spend the same."""
    lineage = Lineage(store)

    def spent(arm, at):
        return lineage.checkpoint_costs(arm, 0)[at].within(Boundary.STUDENT).flops

    first, second = spent("distilled", 0), spent("distilled", 1)
    reached = first * (second / first) ** ((16 - 9) / (18 - 9))
    rows = {(row["boundary"], row["at"]): row for row in found["ratios"]}
    row = rows["student", "other's end"]
    assert row["accuracy"] == pytest.approx(16 / NUM_ITEMS)
    assert row["value"] == pytest.approx(spent("distilled-control", 3) / reached, rel=1e-6)
    assert rows["student", "student's end"]["censored"] == "more than"
    assert {rows[boundary, "other's end"]["text"] for boundary in ("teacher", "everything")} == {"unknown"}


def test_tables_say_unknown_and_the_words_of_a_model_that_is_no_arm(found):
    tables = {table.name: table for table in benchmark_tables({"benchmarks": found})}
    costs = {row[0].value: [cell.text for cell in row] for row in tables["benchmark_costs"].rows}
    assert costs["proprietary"][3:5] == ["unknown", "unknown"]
    assert costs["distilled"][5:7] == ["unknown", "unknown"]
    shown = {(row[0].value, row[2].value): row[-1].text for row in tables["benchmark_differences"].rows}
    assert shown["distilled", "distilled-control"] == "better"
    assert shown["distilled", "proprietary"] == "not told apart"


def test_replies_are_read_side_by_side(store):
    groups = browse_benchmarks(store, conclude_study(store))
    assert [(group["task"], group["seed"]) for group in groups] == [("gsm8k", seed) for seed in (0, 1, 2)]
    for group in groups:
        assert group["arms"] == ["teacher", "distilled", "distilled-control", "proprietary"]
        assert group["num_items"] == len(group["items"]) == NUM_ITEMS
        for row in group["items"]:
            right = [
                place
                for place, (outcome, _) in enumerate(row["replies"])
                if OUTCOME_ORDER[outcome] == "correct"
            ]
            expected = [
                place for place, arm in enumerate(group["arms"]) if int(row["target"]) < num_right(arm, 3)
            ]
            assert right == expected
            assert row["prompt"] == f"{row['target']} + 0?"
        # 16 to 35: right in all but the control; then those where all but the endpoint are wrong
        assert {int(row["target"]) for row in group["items"][:22]} == set(range(16, 38))


def test_choices_stand_below_their_question():
    def item(target):
        return ItemRecord(item_id="1", task="t", level=0, prompt="Which?", target=target)

    assert question_and_answer(item(choice_target(1, ["red", "blue"]))) == ("Which?\nA: red\nB: blue", "B")
    for plain in ("42", "\\frac{1}{2}", "[1, 2]", '{"choices": ["red"]}', '{"after": "assert f() == 1"}'):
        assert question_and_answer(item(plain)) == ("Which?", plain)
    assert question_and_answer(item('{"task": "sums", "answer": "7"}')) == ("Which?", "7")
    long = replace(item(choice_target(0, ["red", "blue"])), prompt="?" * 9000)
    assert question_and_answer(long)[0].endswith("\nA: red\nB: blue")


def test_the_records_hold_together(store):
    outcomes = {check.name: check.outcome for check in check_records(store) if "benchmark" in check.name}
    assert set(outcomes.values()) == {"agrees"}
    assert len(outcomes) == 3


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_the_picture_has_a_panel_of_accuracy_with_the_other_models_levels(store):
    conclusion = conclude_study(store)
    drawn = [layer["data"]["values"] for row in text_chart(conclusion).to_dict()["vconcat"] for one in row["hconcat"]
             for layer in one["layer"] if "gsm8k" in json.dumps(one["layer"][0]["encoding"])]  # fmt: skip
    points = {(row["arm"], row["value"]) for row in drawn[0]}
    assert points == {
        (arm, num_right(arm, at) / NUM_ITEMS) for arm in ("distilled", "distilled-control") for at in range(4)
    }
    levels = {row.get("arm", row.get("name")): row["value"] for row in [*drawn[3], *drawn[4]]}
    assert levels == {"teacher": 36 / NUM_ITEMS, "proprietary": 38 / NUM_ITEMS}
    svg = text_picture_files(conclusion)["curve.svg"].decode()
    assert all(f">{text}</text>" in svg for text in ("accuracy on gsm8k", "proprietary", "bits per byte"))
    assert all(svg.count(f">{arm}</text>") == 1 for arm in ("teacher", "distilled", "distilled-control"))


def test_the_chart_shows_accuracy_over_compute_with_other_models_as_levels(folder, tmp_path):
    conclude(folder, is_changed=True)
    page = Browser(tmp_path / "profile")
    try:
        page.width(1200)
        page.open(folder / "report.html")
        page.run("document.querySelector('#measure input[value=\"accuracy:gsm8k\"]').click()")
        label = page.run("document.querySelector('#chart svg').getAttribute('aria-label')")
        assert label.startswith("accuracy on gsm8k")
        assert "more is better" in label
        values = page.run("drawn.places.map((place) => place.point.accuracy).sort()")
        assert values == pytest.approx(sorted(num_right(arm, at) / NUM_ITEMS
                                              for arm in ("distilled", "distilled-control") for at in range(4)))  # fmt: skip
        text = page.run("document.querySelector('#chart').textContent")
        assert "teacher: 90.0%" in text
        assert "proprietary: 95.0%" in text
        chosen = page.run("[...document.querySelectorAll('#arm-a, #arm-b')].map((one) => one.value)")
        assert chosen == ["distilled", "distilled-control"]
        assert page.run("document.querySelector('#samples-count').textContent") == "1 to 8 of 20 items"
        assert page.run("document.querySelector('#level').offsetParent") is None
        assert "level" not in page.run("document.querySelector('#samples-list').textContent")
        assert page.errors == []
    finally:
        page.close()
