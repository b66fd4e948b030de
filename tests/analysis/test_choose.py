"""Feasibility in closed form: rows whose seconds and bytes are known by hand, on devices of round numbers."""

import math

import pytest

from stillmark.analysis.choose import Wanted, choose
from stillmark.compute.predictor import Limits

GIB = 2**30
DEVICE = Limits(
    name="board", flops_per_second=1e9, bytes_per_second=1e9, memory_bytes=GIB / 0.9, flops_format="fp32"
)
NEEDS = {
    "batch": 1, "new_tokens": 11, "memory_bytes": 0.5 * GIB, "weight_bytes": 0.8e8, "cache_bytes": 0.2e8,
    "matmul_flops": 4e8, "attention_flops": 1e8, "step_flops": 1e6,
}  # fmt: skip
# prefill 5e8 FLOPs / 1e9 = 0.5 s; each of 10 steps reads 1e8 bytes / 1e9 = 0.1 s: 1.5 s
ROOFLINE_SECONDS = 1.5


def row(arm="a", share=0.9, *, seconds=1.0, memory=0.5 * GIB, verdict="VALID", slowdown=None, **changes):
    made = {
        "arm": arm, "engine": "transformers", "format": "float32",
        "accuracy": None if share is None else {"value": share, "low": share, "high": share},
        "accuracy_reason": "its accuracy was not evaluated" if share is None else None,
        "prompt_tokens": 7, "new_tokens": 11,
        "measured": {"verdict": verdict, "reason": "noisy", "machine": "cpu",
                     "seconds": {"value": seconds}, "memory_bytes": {"value": memory}},
        "needs": NEEDS, "slowdown": slowdown,
    }  # fmt: skip
    return made | changes


def only(made, limits, **wanted):
    (found,) = choose({"choose": [made]}, limits, Wanted(**wanted)).rows
    return found


@pytest.mark.parametrize(("compute", "read", "seconds"), [(1, 1, 1.5), (2, 1, 2.0), (1, 3, 3.5), (2, 3, 4.0)])
def test_predicted_seconds_by_hand(compute, read, seconds):
    found = only(row(slowdown={"compute": compute, "read": read}), DEVICE)
    assert found.seconds == pytest.approx(seconds)
    assert found.memory_bytes == 0.5 * GIB
    assert (found.method, found.verdict) == ("predicted", "feasible")


@pytest.mark.parametrize("factor", [0.5, 0.999, 1.001, 2])
def test_latency_limit(factor):
    """On either side of what is predicted and what is measured."""
    expected = "feasible" if factor > 1 else "infeasible"
    slowed = row(slowdown={"compute": 1, "read": 1})
    assert only(slowed, DEVICE, latency_seconds=ROOFLINE_SECONDS * factor).verdict == expected
    found = only(row(), None, latency_seconds=1.0 * factor)
    assert (found.verdict, found.method) == (expected, "measured")
    if expected == "infeasible":
        assert found.reason == f"takes 1 s an answer, may take {factor:.3g} s"


def test_a_bound_can_say_too_slow_and_never_fast_enough():
    bound = row()
    slow = only(bound, DEVICE, latency_seconds=1.0)
    assert slow.verdict == "infeasible"
    assert slow.reason == "takes at least 1.5 s an answer, may take 1 s"
    fast = only(bound, DEVICE, latency_seconds=10)
    assert fast.verdict == "unknown"
    assert fast.reason.startswith("unknown: not judged: 1.5 s an answer is the roofline's bound")


def test_memory_limit_is_the_smaller_of_the_device_and_the_wish():
    big = row(needs=NEEDS | {"memory_bytes": 1.2 * GIB})
    assert only(big, DEVICE).reason == "needs 1.2 GiB, has 1 GiB"
    assert only(row(), DEVICE, memory_bytes=0.25 * GIB).reason == "needs 0.5 GiB, has 0.25 GiB"
    assert only(row(), DEVICE, memory_bytes=8 * GIB).verdict == "feasible"
    assert only(row(memory=1.2 * GIB), None, memory_bytes=GIB).reason == "needs 1.2 GiB, has 1 GiB"


def test_the_unknown_never_passes():
    blind = Limits(name="blind", flops_per_second=None, bytes_per_second=1e9, memory_bytes=None)
    assert only(row(), blind).reason == "unknown: not judged: the memory of blind is not known"
    assert "a ceiling of blind" in only(row(), blind, memory_bytes=GIB, latency_seconds=1e9).reason
    assert (
        only(row(share=None), None, accuracy=0.5).reason
        == "unknown: not judged: its accuracy was not evaluated"
    )
    assert only(row(measured=None), None, latency_seconds=9).verdict == "unknown"
    assert only(row(needs=None), DEVICE).reason == "unknown: not judged: the model's size is not known"
    noisy = only(row(verdict="INVALID"), None, latency_seconds=9)
    assert noisy.reason == "unknown: not judged: its run is INVALID (noisy)"
    # what is known to fail fails, whatever else is unknown
    assert (
        only(row(verdict="INVALID", share=0.4), None, latency_seconds=9, accuracy=0.5).verdict == "infeasible"
    )


def test_the_best_is_the_most_accurate_then_the_quickest():
    rows = [row("slow", 0.9, seconds=2.0), row("quick", 0.9, seconds=1.0), row("right", 0.95, seconds=9.0),
            row("blank", None, seconds=0.1)]  # fmt: skip
    assert choose({"choose": rows}, None, Wanted()).best.arm == "right"
    choice = choose({"choose": rows}, None, Wanted(latency_seconds=5))
    assert choice.best.arm == "quick"
    assert (
        choice.sentence
        == "quick (transformers, float32): right on 90.0%, 1 s an answer (measured), on this machine."
    )
    none = choose({"choose": rows}, None, Wanted(accuracy=0.99))
    assert none.best is None
    assert none.sentence == "Nothing is known to be feasible on this machine: of 4 candidates 3 are not, 1 could not be judged."  # fmt: skip


def test_brute_force_on_a_grid():
    """Every combination of limits against three comparisons written out."""
    made = row("a", 0.8, seconds=1.0, memory=GIB)
    for latency in (None, 0.5, 1.0, 2.0):
        for memory in (None, GIB / 2, GIB, 2 * GIB):
            for accuracy in (None, 0.7, 0.8, 0.9):
                found = only(made, None, latency_seconds=latency, memory_bytes=memory, accuracy=accuracy)
                keeps = (
                    (latency or math.inf) >= 1.0 and (memory or math.inf) >= GIB and (accuracy or 0.0) <= 0.8
                )
                assert (found.verdict == "feasible") == keeps
