"""Sums within a boundary, and ratios that refuse two ways of counting."""

import pytest

from stillmark.compute.ledger import NOTHING, Amount, Boundary, Part, ratio, total, within
from stillmark.errors import UserError
from stillmark.records import LedgerEntry, Method


def amount(flops: float | None, method: Method = Method.COUNTED) -> Amount:
    return Amount(flops=flops, seconds=1.0, cpu_seconds=None, tokens=2, methods=frozenset({method}))


PARTS = {
    Part.STUDENT: amount(1),
    Part.GENERATION: amount(10),
    Part.TEACHER: amount(100),
    Part.BASE: amount(1000),
}


@pytest.mark.parametrize(
    ("boundary", "flops"),
    [("student", 1), ("generation", 11), ("teacher", 111), ("base", 1011), ("everything", 1111)],
)
def test_each_boundary_takes_in_its_parts(boundary: str, flops: int):
    assert within(Boundary(boundary), PARTS).flops == flops


def test_an_unknown_part_makes_the_sum_unknown_only_where_it_counts():
    parts = {**PARTS, Part.TEACHER: amount(None)}
    assert within(Boundary.GENERATION, parts).flops == 11
    assert within(Boundary.TEACHER, parts).flops is None
    assert within(Boundary.STUDENT, PARTS).cpu_seconds is None


def test_a_teacher_is_shared():
    assert amount(100).share(1 / 4).flops == 25
    assert amount(None).share(1 / 4).flops is None


def test_ratio_states_its_boundary_and_methods():
    found = ratio(amount(3000), amount(2), Boundary.STUDENT)
    assert found is not None
    assert found.label == "1,500x (student; counted)"


def test_ratio_of_mixed_methods_is_refused_unless_asked_for():
    published = amount(3000, Method.PUBLISHED)
    with pytest.raises(UserError, match="published over counted"):
        ratio(published, amount(2), Boundary.STUDENT)
    found = ratio(published, amount(2), Boundary.STUDENT, allow_mixed=True)
    assert found is not None
    assert "MIXED METHODS: published over counted" in found.label


def test_ratio_to_nothing_or_to_the_unknown_is_none():
    assert ratio(amount(None), amount(1), Boundary.STUDENT) is None
    assert ratio(NOTHING, NOTHING, Boundary.STUDENT) is None


def test_total_adds_entries():
    entry = LedgerEntry(job_key="k", part="train", index=0, flops=5, flops_method=Method.COUNTED, tokens=1,
                        positions=2, seconds=0.5, cpu_seconds=0.5, device="d")  # fmt: skip
    assert total([entry, entry]) == Amount(
        flops=10, seconds=1.0, cpu_seconds=1.0, tokens=2, methods=frozenset({Method.COUNTED})
    )
