"""A made-up entry with a fault is refused with one clear line that says where."""

import re
from pathlib import Path

import pytest
from tests.paths import ROOT

from stillmark.errors import UserError
from stillmark.published.registry import check_file, load_registry, load_with

GOOD = """\
schema: 1
sources:
  made_up_card:
    url: https://example.org/card
    kind: primary
    seen: made up for this test
models:
  - id: made-up-8b
    name: Made-Up-8B
    kind: distilled
    family: made-up
    base: {printed: Llama-3.1-8B, id: llama-3.1-8b, relation: continued}
    teacher: {printed: DeepSeek-R1, ids: [deepseek-r1]}
    teacher_signal: text
    figures:
      - {name: params_total, value: 8_030_000_000, unit: parameters, method: published, source: made_up_card}
      - {name: distillation_epochs, value: {low: 2, high: 3}, unit: epochs, method: published, source: made_up_card}
      - {name: distillation_tokens_seen, value: 1.0e+10, unit: tokens, method: derived, source: made_up_card, formula: 5e9*2}
    scores:
      - {benchmark: aime_2024, printed: AIME 2024, value: 51.0, metric: pass@1, variant: chat, source: r1_v1, reported_by: self}
"""

# What is changed in the good file, into what, and what the one line must then say.
FAULTS = {
    "missing source of a figure": (", method: published, source: made_up_card}\n      - {name: distillation_e",
                                   ", method: published}\n      - {name: distillation_e",
                                   r":16: models\[0\] `made-up-8b`, figures\[0\] `params_total`: missing `source`"),
    "missing source of a score": ("source: r1_v1, reported", "reported",
                                  r":20: .*scores\[0\] `AIME 2024`, source: missing `source`"),
    "source that is not described": ("source: r1_v1", "source: r1_v9",
                                     r":20: .*no source `r1_v9`.*did you mean `r1_v\d`"),
    "unit outside the list": ("unit: parameters", "unit: bananas", r":16: .*unit: wrong unit: `bananas` is not one of"),
    "unit of another figure": ("unit: epochs", "unit: tokens",
                               r":17: .*wrong unit: `distillation_epochs` is in epochs, not tokens"),
    "unknown figure": ("name: params_total", "name: params_totl",
                       r":16: .*unknown figure `params_totl`; did you mean `params_total`"),
    "unknown benchmark": ("benchmark: aime_2024", "benchmark: aime_24",
                          r":20: .*unknown benchmark `aime_24`; did you mean `aime_2024`"),
    "unknown key": ("family: made-up", "familly: made-up\n    family: made-up",
                    r":11: .*familly: unknown key `familly`"),
    "score over 100": ("value: 51.0", "value: 510", r":20: .*a percentage is from 0 to 100, not 510"),
    "text for a number": ("value: 1.0e+10", "value: ten billion",
                          r":18: .*a number is needed in tokens, not the text `ten billion`"),
    "range upside down": ("{low: 2, high: 3}", "{low: 3, high: 2}", r":17: .*a range needs 0 <= low < high"),
    "derived without formula": (", formula: 5e9*2", "", r":18: .*missing `formula`"),
    "model that is in the registry": ("id: made-up-8b", "id: qwen3-8b",
                                      r":8: .*duplicate: model `qwen3-8b` is in the registry"),
    "base that is not": ("id: llama-3.1-8b", "id: llama-3.1-9b",
                         r":12: .*no model `llama-3.1-9b` in the registry; did you mean"),
    "metric of another benchmark": ("metric: pass@1", "metric: strict", r":20: .*not scored by strict; possible: acc"),
    "address that is none": ("https://example.org/card", "a card", r":4: .*`a card` is not an http\(s\) address"),
    "kind that is none": ("kind: distilled", "kind: distiled", r":10: .*wrong `kind`: `distiled` is not one of"),
    "key twice": ("    name: Made-Up-8B", "    name: Made-Up-8B\n    name: Other", r":8: .*`name` stands twice"),
    "not YAML": ("schema: 1", "schema: [1", r":\d+: not readable as YAML"),
}  # fmt: skip


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_the_good_file_is_accepted_and_can_be_studied(tmp_path):
    path = write(tmp_path, GOOD)
    assert [model.id for model in check_file(path).models] == ["made-up-8b"]
    assert load_with([path]).model("made-up-8b").figure("params_total").value == 8.03e9
    assert load_registry().find("made-up-8b") is None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_gives_one_clear_line(fault, tmp_path):
    old, new, expected = FAULTS[fault]
    assert GOOD.count(old) >= 1
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        check_file(path)
    lines = error.value.message.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(str(path))
    assert re.search(expected, lines[0]), lines[0]


@pytest.mark.parametrize(("section", "what"), [("params_total", "figures[3]"), ("AIME 2024", "scores[1]")])
def test_the_same_line_twice_is_a_duplicate(section, what, tmp_path):
    line = next(line for line in GOOD.splitlines(keepends=True) if section in line)
    last = "distillation_tokens_seen" if what.startswith("figures") else "AIME 2024"
    after = next(row for row in GOOD.splitlines(keepends=True) if last in row)
    path = write(tmp_path, GOOD.replace(after, after + line))
    with pytest.raises(UserError, match="duplicate") as error:
        check_file(path)
    assert what in error.value.message


def test_every_fault_has_its_line(tmp_path):
    text = GOOD.replace("unit: parameters", "unit: tokens").replace("value: 51.0", "value: -1")
    with pytest.raises(UserError) as error:
        check_file(write(tmp_path, text))
    assert len(error.value.message.splitlines()) == 2


@pytest.mark.parametrize("text", ["", "- a list"])
def test_a_file_that_is_no_mapping(text, tmp_path):
    with pytest.raises(UserError, match="a registry file is a mapping"):
        check_file(write(tmp_path, text))


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        check_file(tmp_path / "none.yaml")


def test_the_example_of_the_guide_passes(tmp_path):
    guide = (ROOT / "docs/guide/add-a-model.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", guide, re.DOTALL).group(1)
    assert [model.id for model in check_file(write(tmp_path, example)).models] == ["example-distill-7b"]
