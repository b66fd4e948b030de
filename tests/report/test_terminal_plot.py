"""The plot in the terminal: each point where its numbers put it, within 80 columns."""

import math

from stillmark.report.terminal_plot import HEIGHT, WIDTH, Mark, plot


def cells(text: str) -> list[str]:
    return [line.partition("|")[2].ljust(WIDTH) for line in text.splitlines()[1 : HEIGHT + 1]]


def test_points_lie_where_log_flops_and_quality_put_them():
    mark = Mark(arm="one", points=[(1e9, 0.0), (1e11, 0.5), (1e13, 1.0)])
    field = cells(plot([mark], title="t", label=str))
    found = {(row, column) for row, line in enumerate(field) for column, c in enumerate(line) if c == "A"}
    expected = {
        (HEIGHT - 1 - round(q * (HEIGHT - 1)), round((math.log10(f) - 9) / 4 * (WIDTH - 1)))
        for f, q in mark.points
    }
    assert found == expected


def test_arms_that_share_a_place_are_marked_as_several_and_all_are_named():
    marks = [Mark(arm=name, points=[(1e9, 0.2), (1e10 * (1 + i), 0.9)]) for i, name in enumerate("pqr")]
    text = plot(marks, title="t", label=str)
    assert "*" in "".join(cells(text))
    assert all(f"{letter} {mark.arm}" in text for letter, mark in zip("ABC", marks, strict=True))
    assert max(map(len, text.splitlines())) <= 80


def test_no_point_no_plot():
    assert plot([Mark(arm="given", points=[])], title="t", label=str) == ""
    assert plot([Mark(arm="adopted", points=[(0, 0.5)])], title="t", label=str) == ""
