"""The planner's benchmark page says what its script computes, and the plan quotes the page."""

from pathlib import Path

import pytest
from benchmarks.planner import groups_of_rows, report

from stillmark.compute.planner import PUBLISHED_OVER_PLANNED

PAGE = Path(__file__).parent.parent / "benchmarks" / "planner.md"


def test_the_page_holds_the_tables_as_computed():
    assert report() in PAGE.read_text(encoding="utf-8")


def test_the_plan_quotes_the_spread_of_the_runs_that_train():
    rows = [row for group, rows in groups_of_rows().items() for row in rows if "traces" not in group]
    factors = [row.published_hours / row.predicted_hours for row in rows]
    assert (min(factors), max(factors)) == pytest.approx(PUBLISHED_OVER_PLANNED, rel=0.05)


def test_implied_mfu_of_the_registry_is_reproduced():
    # The registry's own derived figure for 6ND of the 1B and 3B: 5.04% and 10.58%.
    rows = {row.run: row for row in groups_of_rows()["Pretraining"]}
    assert rows["llama-3.2-1b"].implied_mfu == pytest.approx(0.0504, rel=0.01)
    assert rows["llama-3.2-3b"].implied_mfu == pytest.approx(0.1058, rel=0.01)
