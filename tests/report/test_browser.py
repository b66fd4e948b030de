"""The page in a real browser: it draws, its controls give the values of `analysis/`, and nothing leaves it."""

import json
import re

import pytest
from tests.report.browser import CHROMIUM, Browser
from tests.report.fabricate import PROFILED, SMALL, fabricated_store
from tests.report.synthetic import synthetic_conclusion

from stillmark.analysis.frontier import pareto_frontier
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.worth import worth_rows
from stillmark.records import Store
from stillmark.report import words
from stillmark.report.answer import answer_of
from stillmark.report.page import page_html
from stillmark.report.write import conclude

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=1</script>&lt;b&gt;\u202etxt'


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    fabricated_store(path, SMALL).close()
    conclude(path, is_changed=True)
    return path


@pytest.fixture
def page(browser, folder):
    browser.requests.clear()
    browser.errors.clear()
    browser.open(folder / "report.html")
    yield browser
    assert browser.errors == []
    assert {address for address in browser.requests if not address.startswith("data:")} == {
        (folder / "report.html").as_uri()
    }


def conclusion_of(folder):
    return json.loads((folder / "conclusion.json").read_text())


def choose(page, selector):
    page.run(f"document.querySelector({selector!r}).click()")


def test_the_chart_draws_every_point(page, folder):
    conclusion = conclusion_of(folder)
    for boundary in words.BOUNDARIES:
        choose(page, f"#boundary input[value={boundary}]")
        points = sum(len(arm["curve"][boundary]) for arm in conclusion["arms"])
        assert page.run("drawn.places.length") == points
        flops = sorted(point["flops"] for arm in conclusion["arms"] for point in arm["curve"][boundary])
        assert page.run("drawn.places.map((place) => place.point.x).sort((a, b) => a - b)") == pytest.approx(
            flops
        )


def test_the_boundary_moves_the_ratio(page, folder):
    conclusion = conclusion_of(folder)
    name = answer_of(conclusion).student
    (chosen,) = [row for row in conclusion["comparisons"] if row["arm"] == name]
    for row in chosen["ratios"]:
        if row["at"] == "final":
            choose(page, f"#boundary input[value={row['boundary']}]")
            assert page.run("document.querySelector('[data-tile=ratio] .value').textContent") == words.ratio(
                row
            )


@pytest.mark.parametrize("resource", ["flops", "cpu_seconds"])
@pytest.mark.parametrize("boundary", words.BOUNDARIES)
def test_sliders_give_the_values_of_analysis(page, folder, boundary, resource):
    conclusion = conclusion_of(folder)
    student = answer_of(conclusion).student
    for queries, students in ((1.0, 1), (1e6, 10), (1e12, 1000)):
        choice = json.dumps(
            {"queries": queries, "students": students, "boundary": boundary, "resource": resource}
        )
        found = {row["arm"]: row for row in page.run(f"worthRows({choice})")}
        for row in worth_rows(conclusion, student=student, **json.loads(choice)):
            for name in ("accuracy", "making", "answer", "total", "per_correct"):
                assert found[row["arm"]][name] == pytest.approx(row[name]), (row["arm"], name)
            against = found[row["arm"]]["against"]
            assert against == (None if row["against"] is None else pytest.approx(row["against"]))


def test_sliders_change_the_table_and_the_ratio(page, folder):
    conclusion = conclusion_of(folder)
    student = answer_of(conclusion).student
    choose(page, "#boundary input[value=everything]")
    page.run("for (const [id, value] of [['queries', 9], ['students', 4]]) { const it = document.getElementById(id);"
             "it.value = value; it.dispatchEvent(new Event('input', {bubbles: true})); }")  # fmt: skip
    rows = {row["arm"]: row for row in worth_rows(conclusion, student=student, queries=1e9, students=10,
                                                  boundary="everything")}  # fmt: skip
    cells = page.run("[...document.querySelectorAll('#table-worth tbody tr')].map((row) => [...row.cells]"
                     ".map((cell) => cell.textContent.trim()))")  # fmt: skip
    for name, _, making, answer, total, *_ in cells:
        row = rows[name]
        assert [making, answer, total] == [words.quantity(row[key]) for key in ("making", "answer", "total")]
    (chosen,) = [row for row in conclusion["comparisons"] if row["arm"] == student]
    (ratio,) = [
        row for row in chosen["by_students"] if (row["students"], row["boundary"]) == (10, "everything")
    ]
    line = page.run("document.getElementById('shared-ratio').textContent")
    assert f"{words.ratio(ratio)} (95%: {words.ratio_limits(ratio)}) under everything" in line


def test_the_frontier_is_that_of_analysis(page, folder):
    conclusion = conclusion_of(folder)
    choose(page, "#axis input[value=answer]")
    x = [arm["answer_flops"] for arm in conclusion["arms"]]
    y = [arm["accuracy"]["value"] for arm in conclusion["arms"]]
    points = json.dumps([{"x": a, "accuracy": b, "arm": arm["arm"]} for a, b, arm in zip(x, y, conclusion["arms"], strict=True)])  # fmt: skip
    names = {conclusion["arms"][index]["arm"] for index in pareto_frontier(x, y)}
    assert set(page.run(f"pareto({points}).map((point) => point.arm)")) == names
    choose(page, "#axis input[value=train]")


def test_each_axis_of_an_answer_shows_the_values_of_analysis(browser, tmp_path):
    """Profiled arms stand at their figures; the page names the others and says why they are unknown."""
    fabricated_store(tmp_path, PROFILED).close()
    conclusion = conclude(tmp_path, is_changed=True)
    browser.errors.clear()
    browser.open(tmp_path / "report.html")
    for axis in conclusion["answer_axes"]:
        choose(browser, f"#axis input[value={axis['name']}]")
        known = {arm: row["value"] for arm, row in axis["arms"].items() if row["value"] is not None}
        drawn = browser.run(
            "drawn.places.map((place) => [place.one.arm, place.point.x, place.point.accuracy])"
        )
        assert {arm: x for arm, x, _ in drawn} == pytest.approx(known)
        accuracy = {arm["arm"]: arm["accuracy"]["value"] for arm in conclusion["arms"] if arm["arm"] in known}
        assert {arm: y for arm, _, y in drawn} == pytest.approx(accuracy)
        note = browser.run("document.querySelector('#axis-note').textContent")
        assert axis["source"] in note
        named = set(re.split(r"[ ,();.]+", note.partition("unknown: ")[2])) & set(axis["arms"])
        assert named == set(axis["arms"]) - set(known)
        assert all(axis["arms"][arm]["reason"] in note for arm in named)
        assert browser.run("document.querySelector('#boundary').disabled") is True
    assert [len(axis["arms"]) for axis in conclusion["answer_axes"]] == [len(conclusion["arms"])] * 4
    choose(browser, "#axis input[value=energy]")
    assert browser.run("drawn.places.length") == 0
    assert "no meter could be read" in browser.run("document.querySelector('#axis-note').textContent")
    choose(browser, "#axis input[value=train]")
    assert browser.run("document.querySelector('#axis-note').textContent") == ""
    assert browser.errors == []


def test_filters_and_keyboard(page, folder):
    before = page.run("drawn.places.length")
    choose(page, "#filters input")
    assert page.run("drawn.places.length") < before
    choose(page, "#filters input")
    assert page.run("drawn.places.length") == before
    page.run(
        "document.querySelector('#chart svg').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    )
    spoken = page.run("document.getElementById('spoken').textContent")
    assert "right (95%:" in spoken
    assert page.run("document.getElementById('tip').hidden") is False


def test_samples_where_arms_disagree(page, folder):
    assert page.run("document.querySelectorAll('#samples-list .sample').length") > 0
    shown = page.run("browser.rows.every((row) => isRight(row, document.querySelector('#arm-a').value) !== "
                     "isRight(row, document.querySelector('#arm-b').value))")  # fmt: skip
    assert shown is True
    first = page.run("document.querySelector('#samples-count').textContent")
    choose(page, "#samples-on")
    assert page.run("document.querySelector('#samples-count').textContent") != first


def test_every_seed_has_its_own_replies(page, folder):
    """What the page holds of each seed is what the store recorded of it."""
    store = Store.open(folder)
    lineage = Lineage(store)
    groups = page.run("data.samples.map((one) => ({seed: one.seed, arms: one.arms, items: one.items}))")
    assert [group["seed"] for group in groups] == list(lineage.study.seeds)
    known = store.items()
    for place, group in enumerate(groups):
        page.run(f"document.querySelector('#group').value = '{place}';"
                 "document.querySelector('#group').dispatchEvent(new Event('change'))")  # fmt: skip
        assert page.run("group().seed") == group["seed"]
        arm = group["arms"][0]
        job = lineage.evaluation(arm, group["seed"], lineage.study.arms[arm].checkpoints - 1)
        recorded = {known[sample.item_id].prompt: sample.response for sample in store.samples(job.key)}
        shown = {row["prompt"]: row["replies"][0][1] for row in group["items"]}
        assert shown
        assert all(recorded[prompt] == reply for prompt, reply in shown.items())
    store.close()


def test_a_phone_needs_no_sideways_scrolling(page):
    page.width(390)
    assert page.run("document.documentElement.scrollWidth") <= 390
    page.call("Emulation.clearDeviceMetricsOverride")


def test_hostile_replies_stay_text(browser, tmp_path):
    conclusion = synthetic_conclusion()
    names = [arm["arm"] for arm in conclusion["arms"]]
    items = [{"level": 1, "prompt": HOSTILE, "target": HOSTILE, "replies": [[index % 2, HOSTILE + "x" * 2**20] for index, _ in enumerate(names)]}]  # fmt: skip
    path = tmp_path / "hostile.html"
    group = {"task": "swaps", "seed": 0, "arms": names, "num_items": 1, "items": items}
    path.write_text(page_html(conclusion, [group]))
    browser.errors.clear()
    browser.open(path)
    browser.run("document.querySelector('#wanted').value = 'all';"
                "document.querySelector('#wanted').dispatchEvent(new Event('change'))")  # fmt: skip
    assert browser.run("document.querySelectorAll('#samples-list img, #samples-list script').length") == 0
    assert "onerror" in browser.run("document.querySelector('#samples-list .reply .text').textContent")
    assert browser.run("document.title") == "synthetic: Stillmark report"
    assert browser.errors == []
