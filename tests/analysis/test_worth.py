"""What an arm takes in all, and the ratio as the teacher is shared by more students, against sums done by hand."""

import math

import pytest
from tests.report.fabricate import SMALL, fabricated_store
from tests.report.synthetic import synthetic_conclusion

from stillmark.analysis.conclusion import conclude_study
from stillmark.analysis.worth import answer_cpu_seconds, flip_students, parts_of, worth_rows


def arm_of(conclusion, name):
    return next(arm for arm in conclusion["arms"] if arm["arm"] == name)


def test_parts_add_up_to_the_boundaries():
    conclusion = synthetic_conclusion(students_per_teacher=1)
    for arm in conclusion["arms"]:
        parts = parts_of(conclusion, arm, "flops")
        for boundary, whole in arm["flops"].items():
            assert parts.making(boundary, 1) == pytest.approx(whole)


def test_the_teacher_alone_is_shared():
    conclusion = synthetic_conclusion(students_per_teacher=4)
    arm = arm_of(conclusion, "logits-50k-from-base")
    teacher = 4 * (arm["flops"]["teacher"] - arm["flops"]["generation"])
    parts = parts_of(conclusion, arm, "flops")
    assert parts.teacher == pytest.approx(teacher)
    assert parts.making("everything", 4) == pytest.approx(arm["flops"]["everything"])
    assert parts.making("everything", 10) == pytest.approx(arm["flops"]["base"] + teacher / 10)
    assert parts.making("base", 10) == pytest.approx(arm["flops"]["base"])


def test_totals_and_break_even_by_hand():
    conclusion = synthetic_conclusion()
    rows = {
        row["arm"]: row
        for row in worth_rows(conclusion, student="traces-50k", queries=1e6, boundary="teacher")
    }
    student, vanilla = rows["traces-50k"], rows["vanilla-600k"]
    assert student["total"] == pytest.approx(student["making"] + 1e6 * student["answer"])
    assert student["per_correct"] == pytest.approx(student["total"] / 1e6 / student["accuracy"])
    queries = (student["making"] - vanilla["making"]) / (vanilla["answer"] - student["answer"])
    assert student["against"] is None
    found = vanilla["against"]["queries"]
    assert found == (pytest.approx(queries) if queries > 0 else None)


def test_unknown_stays_unknown():
    conclusion = synthetic_conclusion()
    conclusion["ledger"] = [{**row, "cpu_seconds": None} for row in conclusion["ledger"]]
    rows = worth_rows(conclusion, student="traces-50k", resource="cpu_seconds")
    assert all(row["answer"] is None and row["total"] is None and row["per_correct"] is None for row in rows)
    assert answer_cpu_seconds(conclusion, conclusion["arms"][0]) is None


def test_flip():
    assert flip_students(10.0, 4.0, 12.0) == 2.0
    assert flip_students(3.0, 4.0, 12.0) == math.inf
    assert flip_students(None, 4.0, 12.0) is None


def test_ratios_by_students_are_those_of_the_boundaries(tmp_path):
    """At the study's own k they are the table's; with ever more students they near those without the teacher."""
    conclusion = conclude_study(fabricated_store(tmp_path, SMALL))
    for comparison in conclusion["comparisons"]:
        rows = {(row["students"], row["boundary"]): row for row in comparison["by_students"]}
        table = {row["boundary"]: row for row in comparison["ratios"] if row["at"] == "final"}
        for boundary in ("teacher", "everything"):
            for name in ("value", "low", "high", "bound", "student_flops"):
                assert rows[1, boundary][name] == pytest.approx(table[boundary][name]), (boundary, name)
        far, plain = rows[1000, "teacher"], table["generation"]
        for name in ("value", "bound"):
            if plain[name] is not None:
                assert far[name] == pytest.approx(plain[name], rel=0.05)
