"""Tables hold the conclusion's numbers in full; unknown is empty or said, never 0."""

import csv
import io
from types import SimpleNamespace

from tests.report.synthetic import synthetic_conclusion

from stillmark.report import words
from stillmark.report.table import Cell, Column, Table
from stillmark.report.tables import tables_of


def read(conclusion, name):
    table = next(table for table in tables_of(conclusion) if table.name == name)
    return list(csv.DictReader(io.StringIO(table.to_csv())))


def test_arms_hold_the_conclusions_numbers():
    conclusion = synthetic_conclusion()
    rows = {row["arm"]: row for row in read(conclusion, "arms")}
    for arm in conclusion["arms"]:
        row = rows[arm["arm"]]
        assert float(row["accuracy"]) == arm["accuracy"]["value"]
        assert float(row["accuracy_low"]) == arm["accuracy"]["low"]
        assert int(row["params"]) == arm["params"]
        for boundary in words.BOUNDARIES:
            assert float(row[f"flops_{boundary}"]) == arm["flops"][boundary]


def test_ratios_hold_every_boundary_and_leave_the_unknown_empty():
    conclusion = synthetic_conclusion()
    rows = read(conclusion, "ratios")
    assert len(rows) == sum(len(comparison["ratios"]) for comparison in conclusion["comparisons"])
    first = rows[0]
    assert (first["ratio"], first["censored"], first["bound"]) == ("", "more than", "12.1")
    assert (first["ratio_low"], first["ratio_high"]) == ("9.8", "")


def test_stages_add_up_to_the_ledger():
    conclusion = synthetic_conclusion()
    total = sum(row["flops"] for row in conclusion["ledger"])
    assert sum(float(row["flops"]) for row in read(conclusion, "stages")) == total


def test_a_sum_with_an_unknown_part_is_unknown():
    conclusion = synthetic_conclusion()
    conclusion["ledger"][0]["flops"] = None
    table = next(table for table in tables_of(conclusion) if table.name == "stages")
    cell = table.rows[0][3]
    assert cell == Cell(value=None, text="unknown")


def test_differences_are_a_matrix():
    rows = read(synthetic_conclusion(), "differences")
    assert next(row["student"] for row in rows) == "traces-50k"
    assert float(rows[0]["less_solutions-50k"]) == 0.05


def test_markdown_cells_cannot_break_out():
    table = Table(
        name="t",
        title="T",
        note="n",
        columns=(Column(name="a", title="A", is_number=False),),
        rows=((Cell(value="x", text="a|b\n<script>*_`[x](y)"),),),
    )
    line = table.to_markdown().splitlines()[4]
    assert line == "| a\\|b \\<script\\>\\*\\_\\`\\[x\\](y) |"


def test_words():
    assert words.quantity(3.41e12, "FLOP") == "3.41 TFLOP"
    assert words.quantity(999_999) == "1M"
    assert words.quantity(0) == "0"
    assert words.quantity(None) == "unknown"
    assert words.plain(1234567) == "1,234,567"
    assert words.plain(0.0123) == "0.0123"
    assert words.limits(None, 0.9) == "at most 0.9"
    assert words.limits(9.8, None) == "at least 9.8"
    assert words.seconds(90) == "1.5 min"
    assert words.accuracy(None) == "unknown"
    assert words.visible_text("a\u202eb\x00") == "a[U+202E]b[U+0000]"
    assert words.visible_text("x" * 10, 4) == "xxxx [... 6 more characters of 10]"


def test_cell_splits_value_and_interval():
    cell = SimpleNamespace(**{"text": "93.2% (91.0 to 94.9)"})
    made = Cell(value=0.9, text=cell.text)
    assert (made.head, made.tail) == ("93.2%", "91.0 to 94.9")
    assert (Cell(value=1, text="1,234").head, Cell(value=1, text="1,234").tail) == ("1,234", "")
