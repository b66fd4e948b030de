"""The paper report: figures to the digit, every number with its source, all text escaped, self-contained."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from stillmark.analysis.claims_compute import BOUNDARIES
from stillmark.published.settings import PublishedSettings
from stillmark.report.paper import (
    paper_as_dict,
    paper_study,
    print_paper,
    table_csv,
    table_json,
    table_markdown,
    write_paper_report,
)

HOSTILE = """\
schema: 1
sources:
  hostile:
    url: "https://example.org/?a=1&b='\\"><script>alert(1)</script>"
    kind: primary
    seen: "</script><script>alert(2)</script>"
models:
  - id: hostile-8b
    name: "<img src=x onerror=alert(3)> & 'co' \\"quoted\\" | [x](y)"
    kind: distilled
    family: "<b>hostile</b>"
    base: {printed: "<i>llama</i>", id: llama-3.1-8b, relation: continued}
    teacher: {printed: DeepSeek-R1, ids: [deepseek-r1]}
    teacher_signal: text
    figures:
      - {name: params_total, value: 8.03e9, unit: parameters, method: published, source: hostile, note: "<u>note</u>"}
      - {name: distillation_samples, value: 1000, unit: samples, method: published, source: hostile}
    scores:
      - {benchmark: aime_2024, printed: "<s>AIME</s>", value: 50.0, metric: accuracy, variant: chat, source: hostile, reported_by: self}
"""

VOID = {"meta", "input", "br", "img", "link", "hr", "line", "circle", "rect", "path", "polyline"}


class Page(HTMLParser):
    """Reads a page and keeps what the tests ask about."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.faults = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag == "a":
            self.links.append(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


@pytest.fixture(scope="module")
def study():
    return paper_study(PublishedSettings(allow_mixed_methods=True))


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    directory = tmp_path_factory.mktemp("paper")
    write_paper_report(study, directory)
    return directory


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "report.html").read_text()


def test_the_headline_to_the_digit(folder):
    rows = json.loads((folder / "tables/headline.json").read_text())["rows"]
    shown = {row["counted"]: [f"{row[f'epochs_{n}']:,.0f}" for n in (1, 2, 3)] for row in rows}
    assert shown["the student's training alone"] == ["3,481", "1,740", "1,160"]
    assert shown["and the teacher's writing of the kept tokens"][1:] == ["984", "767"]
    assert shown["the same, shared by all students"][1:] == ["1,543", "1,069"]
    assert all(row["epochs_2"] < 1 for row in rows if row["boundary"] in ("base", "everything"))


def test_every_number_of_every_table_has_its_source(study):
    for table in study.tables.values():
        numbers = {column.key for column in table.columns if column.is_number}
        for row in table.rows:
            for key in numbers & set(row.cells):
                cell = row.cells[key]
                if cell.value in (None, 0) and not cell.references:
                    continue
                assert cell.references, (table.key, key, cell.text)
                for reference in cell.references:
                    assert reference.url or reference.note or reference.method == "stated in the study"


def test_the_page_is_well_formed_and_self_contained(text):
    page = Page(text)
    assert page.faults == []
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed")
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    for link in page.links:
        assert re.match(r"https?://|#", link["href"])
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert "@import" not in style
    assert "url(" not in style


def test_every_number_of_the_page_opens_references_that_are_there(text):
    data = re.search(
        r'<script type="application/json" id="references">(.*?)</script>', text, re.DOTALL
    ).group(1)
    references = json.loads(data)
    used = {int(number) for numbers in re.findall(r'data-r="([\d ]+)"', text) for number in numbers.split()}
    assert used == set(range(len(references)))
    for _, value, method, _, url, _, seen, note in references:
        assert value
        assert (url and (seen or note or method == "published")) or note or method == "stated in the study"


def test_each_boundary_has_its_charts_and_only_the_first_is_shown(text):
    figures = [attributes for tag, attributes in Page(text).tags if tag == "figure"]
    for boundary in BOUNDARIES:
        assert any(attributes["data-b"] == boundary for attributes in figures)
    shown = [attributes for attributes in figures if "hidden" not in attributes]
    assert {attributes["data-b"] for attributes in shown} == {"student"}
    assert len(shown) == 2


def test_charts_are_xml_with_a_title_on_every_mark(text):
    for chart in re.findall(r"<svg viewBox.*?</svg>", text, re.DOTALL):
        root = ElementTree.fromstring(chart)
        for mark in root.iter("{http://www.w3.org/2000/svg}a"):
            assert mark.find("{http://www.w3.org/2000/svg}title").text
            assert mark.get("href")


def test_hostile_text_stays_text(tmp_path):
    path = tmp_path / "hostile.yaml"
    path.write_text(HOSTILE)
    write_paper_report(paper_study(PublishedSettings(files=(path,))), tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.faults == []
    assert [tag for tag, _ in page.tags if tag in ("img", "u", "s")] == []
    assert len(re.findall("<script", text)) == 2
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "&lt;img src=x onerror=alert(3)&gt;" in text
    markdown = (tmp_path / "tables/inputs.md").read_text()
    row = next(line for line in markdown.splitlines() if "onerror" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 7


def test_files_hold_the_same_table(study):
    table = study.tables["ratios"]
    rows = list(csv.DictReader(io.StringIO(table_csv(table))))
    plain = json.loads(table_json(table))["rows"]
    assert len(rows) == len(plain) == len(table.rows)
    for row, other in zip(rows, plain, strict=True):
        assert row["high"] == ("" if other["high"] is None else str(other["high"]))
        assert row["sources"].startswith("http")
    assert table_markdown(table).count("\n|") == len(table.rows) + 2


def test_mixed_methods_are_refused_in_words_unless_asked_for(study):
    assert any("mixed" in row.cells["methods"].text for row in study.tables["hours"].rows)
    refused = paper_study(PublishedSettings()).tables["hours"]
    assert not any("mixed" in row.cells["methods"].text for row in refused.rows)
    assert "Refused: " in refused.intro


def test_what_json_prints_is_plain_data(study):
    content = json.loads(json.dumps(paper_as_dict(study), allow_nan=False))
    assert content["headline"]["base"]["high"] < 1
    assert content["verdicts"]["student"]["phi-4-reasoning"] == "fails"
    assert round(content["tables"]["headline"][0]["epochs_1"]) == 3481


def test_the_terminal_shows_the_headline_and_the_verdicts(study, capsys):
    print_paper(study)
    shown = capsys.readouterr().out
    for expected in ("3,481", "1,740", "1,160", "under everything: fails for 21", "MMLU-Redux"):
        assert expected in shown
