"""The page: all text is text, no request leaves it, and its numbers are the conclusion's."""

import itertools
import json
import re
from html.parser import HTMLParser

from tests.report.synthetic import synthetic_conclusion

from stillmark.report.figures import LABEL_GAP, spread
from stillmark.report.page import json_for_script, page_html

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)> &lt;b&gt; \u202etxt.exe {{ 7*7 }} \"'`"
)


class Page(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words, self._in = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        (self.scripts if self._in == "script" else self.words).append(data)


def test_no_request_leaves_the_page():
    page = Page(page_html(synthetic_conclusion()))
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            link = attributes.get(name) or ""
            assert not re.match(r"(?i)\s*(https?:)?//", link), (tag, link)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "@import" not in page_html(synthetic_conclusion())


def test_hostile_text_is_text():
    conclusion = synthetic_conclusion()
    plain = Page(page_html(conclusion))
    conclusion["description"] = HOSTILE
    conclusion["study_text"] = HOSTILE * 3
    conclusion["name"] = HOSTILE
    conclusion["tasks"]["shuffled"]["example"] = {"prompt": HOSTILE, "answer": HOSTILE, "solution": HOSTILE}
    conclusion["arms"][3]["arm"] = HOSTILE
    conclusion["provenance"]["cpu"] = HOSTILE
    conclusion["unfinished"] = [HOSTILE]
    text = page_html(conclusion)
    page = Page(text)
    assert len(page.scripts) == len(plain.scripts) == 2
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags}
    assert "\u202e" not in text.replace("\\u202e", "")
    assert "alert(1)" in "".join(page.words)
    assert "49" not in re.findall(r"\{\{ (\d+) \}\}", text)


def test_one_megabyte_is_cut_and_said():
    conclusion = synthetic_conclusion()
    conclusion["tasks"]["shuffled"]["example"]["solution"] = "x" * 2**20
    text = page_html(conclusion)
    assert len(text) < 600_000
    assert "more characters of 1,048,576" in text


def test_json_for_script_cannot_end_the_element():
    value = {"a": "</script><!--<script>&\u2028"}
    text = json_for_script(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_numbers_are_the_conclusions():
    conclusion = synthetic_conclusion()
    page = Page(page_html(conclusion))
    data = json.loads(page.scripts[0])
    by_name = {arm["arm"]: arm for arm in conclusion["arms"]}
    assert {arm["arm"] for arm in data["arms"]} == set(by_name)
    for arm in data["arms"]:
        assert arm["curve"] == by_name[arm["arm"]]["curve"]
    words = " ".join(page.words)
    for arm in conclusion["arms"]:
        assert f"{100 * arm['accuracy']['value']:.1f}%" in words
    assert "more than 12.1x" in words


def test_unfinished_is_at_the_top():
    text = page_html(synthetic_conclusion(unfinished=["train x seed 1"]))
    assert text.index("Not finished.") < text.index('id="answer"')


def test_without_arms_there_is_still_a_page():
    empty = synthetic_conclusion(
        arms=[], comparisons=[], differences=[], ledger=[], unfinished=["train x seed 0"]
    )
    assert "No answer yet." in page_html(empty)


def test_every_table_has_headings_and_every_control_a_name():
    page = Page(page_html(synthetic_conclusion()))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table")
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [a["href"][1:] for tag, a in page.tags if tag == "a" and a.get("href", "").startswith("#")]
    assert set(links) <= ids, set(links) - ids


def test_labels_are_apart_and_in_order():
    wanted = {"a": 10.0, "b": 11.0, "c": 12.0, "d": 300.0, "e": 379.0, "f": 380.0}
    heights = spread(wanted, LABEL_GAP, 380)
    values = list(heights.values())
    assert list(heights) == list(wanted)
    assert all(below - above >= LABEL_GAP - 1e-9 for above, below in itertools.pairwise(values))
    assert min(values) >= 0
    assert max(values) <= 380 + 1e-9
    assert heights["d"] == 300.0
