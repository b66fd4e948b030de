"""The conclusion against sums and ratios worked out by hand, in other words than the package's."""

import json
import math
import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stillmark.plan import Plan
from stillmark.records import Store
from stillmark.study import Study

QUICKSTART = Path(__file__).parents[2] / "docs" / "results" / "quickstart" / "conclusion.json"


def flops_by_hand(folder: Path) -> dict[str, dict[str, float]]:
    """Each arm's FLOPs by boundary, by SQL over the ledger and the study's own words on who comes from whom."""
    connection = sqlite3.connect(folder / "records.sqlite")
    plan = Plan(Study.model_validate(Store.open(folder).study()[1]))

    def spent(key: str, part: str) -> int:
        query = "SELECT coalesce(sum(flops), 0) FROM ledger WHERE job_key = ? AND part = ?"
        return int(connection.execute(query, (key, part)).fetchone()[0])

    def parts(arm: str, seed: int) -> dict[str, float]:
        spec, key = plan.study.arms[arm], plan.train_keys[arm, seed]
        traces = plan.generate_keys.get((arm, seed))
        student = spent(key, "train")
        generation = spent(key, "teacher_forward") + (spent(traces, "generate") if traces else 0)
        teacher = sum(parts(spec.teacher, seed)[name] for name in "sgtb") if spec.teacher else 0
        base = sum(parts(spec.base, seed)[name] for name in "sgtb") if spec.base else 0
        return {"s": student, "g": generation, "t": teacher, "b": base}

    boundaries = {"student": "s", "generation": "sg", "teacher": "sgt", "base": "sgb", "everything": "sgtb"}
    seeds = plan.study.seeds
    return {
        arm: {
            name: sum(parts(arm, seed)[part] for seed in seeds for part in letters) / len(seeds)
            for name, letters in boundaries.items()
        }
        for arm in plan.study.arms
    }


def test_flops_by_boundary_are_the_ledger_added_up_by_hand(tiny_run: Path):
    by_hand = flops_by_hand(tiny_run)
    for arm in json.loads((tiny_run / "conclusion.json").read_text())["arms"]:
        assert arm["flops"] == pytest.approx(by_hand[arm["arm"]], rel=1e-12), arm["arm"]


def pooled(values: list[float]) -> list[float]:
    """Isotonic regression by pooling adjacent violators, one at a time."""
    blocks = [[value, 1] for value in values]
    index = 0
    while index < len(blocks) - 1:
        if blocks[index][0] > blocks[index + 1][0]:
            (a, n), (b, m) = blocks[index], blocks[index + 1]
            blocks[index : index + 2] = [[(a * n + b * m) / (n + m), n + m]]
            index = max(index - 1, 0)
        else:
            index += 1
    return [value for value, count in blocks for _ in range(count)]


def flops_to_reach(arm: dict[str, Any], accuracy: float) -> float:
    """By hand from the curve that is shown: monotone, then a straight line in log-compute."""
    points = arm["curve"]["student"]
    heights = pooled([point["accuracy"] for point in points])
    for (low, high), (left, right) in zip(pairwise(heights), pairwise(points), strict=True):
        if low < accuracy <= high:
            share = (accuracy - low) / (high - low)
            logs = math.log(left["flops"]), math.log(right["flops"])
            return math.exp(logs[0] + share * (logs[1] - logs[0]))
    return math.inf


def test_compute_ratios_of_the_quickstart_by_hand():
    conclusion = json.loads(QUICKSTART.read_text())
    arms = {arm["arm"]: arm for arm in conclusion["arms"]}
    num_checked = 0
    for comparison in conclusion["comparisons"]:
        for row in comparison["ratios"]:
            if row["boundary"] != "student" or row["value"] is None:
                continue
            vanilla = min(flops_to_reach(arms[name], row["accuracy"]) for name in comparison["vanilla"])
            by_hand = vanilla / flops_to_reach(arms[comparison["arm"]], row["accuracy"])
            assert row["value"] == pytest.approx(by_hand, rel=1e-6), (comparison["arm"], row)
            num_checked += 1
    assert num_checked >= 4


def test_a_boundary_that_counts_more_never_costs_less():
    for arm in json.loads(QUICKSTART.read_text())["arms"]:
        flops = arm["flops"]
        assert flops["student"] <= flops["generation"] <= flops["teacher"] <= flops["everything"]
        assert flops["generation"] <= flops["base"] <= flops["everything"]
