"""Stored replies of public models, graded again, against the grades that were published with them."""

import json
from collections import Counter

import pytest
from tests.paths import SHARED

from stillmark.tasks.math_scorer import MathScorer
from stillmark.tasks.verdict import judge

pytestmark = pytest.mark.skipif(SHARED is None, reason="the shared data are not here")


def test_800_samples_of_qwen_math():
    """799 of 800 agree. The other is `10{,}000`, which is 10000 and was published as wrong."""
    path = SHARED / "data/traces_qwen25_math_cot100/math_cot_100.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    counts: Counter[tuple[bool, str]] = Counter()
    for row in rows:
        for reply, is_right in zip(row["code"], row["score"], strict=True):
            counts[bool(is_right), judge(MathScorer(), reply, row["answer"], "stop").outcome.value] += 1
    assert counts == {(True, "correct"): 728, (False, "wrong"): 71, (False, "correct"): 1}


def test_153_traces_of_r1_distill():
    """All 118 that were published as right are right. Of the 35 others 17 are equal to the truth up to notation,
    such as `(1, 2)` for `(1,2)`: they had been compared as text. Cut traces are truncated, not wrong."""
    counts: Counter[tuple[bool, str]] = Counter()
    for path in sorted((SHARED / "data/traces_r1_distill_llama8b_math/math").glob("*/solutions.json")):
        truth = json.loads((path.parent / "problem.json").read_text())["gt_answer"]
        for solution in json.loads(path.read_text()):
            trace = solution["solution"][solution["solution"].index("<think>") :]
            stop_reason = "stop" if "</think>" in trace else "length"  # the paper's limit of 4,096 tokens
            counts[solution["is_correct"], judge(MathScorer(), trace, truth, stop_reason).outcome.value] += 1
    assert counts[True, "correct"] == 118
    assert counts == {
        (True, "correct"): 118,
        (False, "correct"): 17,
        (False, "wrong"): 9,
        (False, "truncated"): 9,
    }
