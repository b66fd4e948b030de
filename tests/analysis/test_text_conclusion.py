"""A text study's conclusion against closed forms: sums over sums, curves that are lines in log compute, known gaps."""

import math

import numpy as np
import pytest
from tests.report.fabricate_text import SEQUENCES, STUDY, resolved_study, text_store

from stillmark.analysis.conclusion import conclude_study
from stillmark.plan import Plan
from stillmark.sizes import evenly_spaced

PLAN = Plan(resolved_study())
PRUNING = 1_000_000  # as fabricated
SPREAD = np.random.default_rng(5).normal(0, 0.2, len(SEQUENCES))  # how hard sequences are, in bits a byte
SPREAD -= np.average(SPREAD, weights=[num_bytes for _, _, num_bytes, _ in SEQUENCES])
STEEP, FASTER = 0.3, 2.0  # bits per byte lost with a factor e of compute; the student's compute counts double


def own_flops(arm):
    """At each checkpoint; the control has what its student took, and half of that again, which the teacher took."""
    recipe = PLAN.study.arms[arm].training
    budget = 1.5 * 4e9 if arm == "distilled-control" else 4e9
    return [math.ceil(flops) + PRUNING for flops in evenly_spaced(recipe, budget)]


def line(arm, flops, faster=FASTER):
    """Bits per byte (and nats a token of KL) of an arm at a compute: a line in log compute."""
    return 3 - STEEP * math.log(flops * (faster if arm == "distilled" else 1) / 1e8)


def scores_of(faster=FASTER, noise=0.0):
    def scores(job, index):
        _, scored, num_bytes, _ = SEQUENCES[index]
        if job.arm == "teacher":
            return num_bytes * (1 + SPREAD[index]) * math.log(2), 0.0
        value = line(job.arm, own_flops(job.arm)[job.checkpoint], faster)
        value += noise * np.random.default_rng([index, job.seed, job.checkpoint, len(job.arm)]).normal()
        return num_bytes * (value + SPREAD[index]) * math.log(2), scored * value

    return scores


@pytest.fixture(scope="module")
def conclusion(tmp_path_factory):
    return conclude_study(text_store(tmp_path_factory.mktemp("text"), scores_of()))


def arm_of(conclusion, name):
    return next(arm for arm in conclusion["arms"] if arm["arm"] == name)


def ratio_of(conclusion, measure, at, boundary):
    return next(row for row in conclusion["pairs"][0]["ratios"]
                if (row["measure"], row["at"], row["boundary"]) == (measure, at, boundary))  # fmt: skip


def test_measures_are_sums_over_sums(conclusion):
    arm = arm_of(conclusion, "distilled")
    end = line("distilled", own_flops("distilled")[-1])
    nats = sum(b * (end + s) * math.log(2) for (_, _, b, _), s in zip(SEQUENCES, SPREAD, strict=True))
    tokens = sum(scored for _, scored, _, _ in SEQUENCES)
    assert arm["scores"]["bits_per_byte"]["value"] == pytest.approx(end)
    assert arm["scores"]["perplexity"]["value"] == pytest.approx(math.exp(nats / tokens))
    assert arm["scores"]["kl_per_token"]["value"] == pytest.approx(end)
    assert arm_of(conclusion, "teacher")["scores"]["kl_per_token"]["value"] == 0


def test_a_source_holds_its_own_sequences_alone(conclusion):
    (sums,) = [row for row in arm_of(conclusion, "teacher")["by_source"] if row["source"] == "sums.txt"]
    chosen = [(b, s) for (_, _, b, source), s in zip(SEQUENCES, SPREAD, strict=True) if source == "sums.txt"]
    assert sums["sequences"] == len(chosen) == 6
    assert sums["bits_per_byte"]["value"] == pytest.approx(
        sum(b * (1 + s) for b, s in chosen) / sum(b for b, _ in chosen)
    )


def test_difference_at_equal_compute_is_that_of_the_lines(conclusion):
    """log of the factor, at each compute; what sequences have in common cancels, so the interval has no width."""
    rows = conclusion["pairs"][0]["along"]["student"]
    assert len(rows) == 7
    for row in rows:
        for measure in ("bits_per_byte", "kl_per_token"):
            found = row[measure]
            assert found["value"] == pytest.approx(-STEEP * math.log(FASTER))
            assert found["high"] - found["low"] == pytest.approx(0, abs=1e-9)
    assert rows[-1]["flops"] == pytest.approx(own_flops("distilled")[-1])  # the shorter of the two


def test_compute_ratio_is_the_factor_between_the_lines(conclusion):
    for measure in ("bits_per_byte", "kl_per_token"):
        row = ratio_of(conclusion, measure, "other's end", "student")
        assert (row["value"], row["low"], row["high"]) == pytest.approx((FASTER,) * 3)
        assert row["quality"] == pytest.approx(line("distilled-control", own_flops("distilled-control")[-1]))


def test_boundary_generation_adds_what_the_live_teacher_took(conclusion):
    """Half of the student's own training, as fabricated, interpolated in log compute between checkpoints."""
    control = own_flops("distilled-control")[-1]
    own = np.array(own_flops("distilled"), dtype=float)
    needed = control / FASTER
    extra = np.interp(math.log(needed), np.log(own), (own - PRUNING) / 2)
    row = ratio_of(conclusion, "bits_per_byte", "other's end", "generation")
    assert row["value"] == pytest.approx(control / (needed + extra), rel=1e-6)


def test_what_is_never_reached_is_a_bound(conclusion):
    row = ratio_of(conclusion, "bits_per_byte", "student's end", "student")
    assert (row["value"], row["censored"], row["high"]) == (None, "more than", None)
    assert row["bound"] == pytest.approx(own_flops("distilled-control")[-1] / own_flops("distilled")[-1])


def test_unknown_making_is_unknown_and_never_nothing(conclusion):
    student, control, teacher = (arm_of(conclusion, n) for n in ("distilled", "distilled-control", "teacher"))
    assert [b for b, flops in student["flops"].items() if flops is None] == ["teacher", "base", "everything"]
    assert [b for b, flops in control["flops"].items() if flops is None] == ["base", "everything"]
    assert set(teacher["flops"].values()) == {None}
    assert "given model" in teacher["unknown"]["student"]
    for boundary in ("teacher", "base", "everything"):
        row = ratio_of(conclusion, "bits_per_byte", "other's end", boundary)
        assert row["text"] == "unknown"
        assert row["value"] is row["low"] is row["high"] is row["bound"] is None
        assert conclusion["pairs"][0]["along"][boundary] == []


def test_what_both_sides_spent(conclusion):
    spent = conclusion["pairs"][0]["spent"]
    student, control = own_flops("distilled"), own_flops("distilled-control")
    assert spent["student"]["flops"]["generation"] == pytest.approx(
        student[-1] + (student[-1] - PRUNING) / 2, rel=1e-8
    )
    assert spent["other"]["flops"]["generation"] == pytest.approx(control[-1], rel=1e-8)
    assert spent["other_over_student"] == pytest.approx(control[-1] / spent["student"]["flops"]["generation"])


def test_share_of_the_gap_to_the_teacher(conclusion):
    for name in ("distilled", "distilled-control"):
        first, end = (line(name, own_flops(name)[k]) for k in (0, -1))
        gap = arm_of(conclusion, name)["gap"]
        assert gap["bits_per_byte"]["estimate"]["value"] == pytest.approx((first - end) / (first - 1))
        assert gap["kl_per_token"]["estimate"]["value"] == pytest.approx((first - end) / first)


def test_no_gap_where_the_start_is_not_worse(tmp_path):
    def scores(job, index):
        num_bytes = SEQUENCES[index][2]
        return num_bytes * (1 + SPREAD[index] * (1 + len(job.arm))), 0.0

    gap = arm_of(conclude_study(text_store(tmp_path, scores)), "distilled")["gap"]["bits_per_byte"]
    assert gap["estimate"] is None
    assert "not surely worse" in gap["reason"]


def test_pairing_takes_out_what_sequences_have_in_common(tmp_path):
    """The arms' own intervals are as wide as sequences differ, the difference's as wide as noise is."""
    conclusion = conclude_study(text_store(tmp_path, scores_of(noise=0.01)))
    own = arm_of(conclusion, "distilled")["scores"]["bits_per_byte"]
    apart = conclusion["pairs"][0]["final"]["bits_per_byte"]
    truth = line("distilled", own_flops("distilled")[-1]) - line(
        "distilled-control", own_flops("distilled-control")[-1]
    )
    assert apart["low"] < truth < apart["high"]
    assert apart["high"] - apart["low"] < 0.2 * (own["high"] - own["low"])


def test_an_unfinished_arm_is_named_and_left_out(tmp_path):
    conclusion = conclude_study(text_store(tmp_path, scores_of(), leave_out=1))
    assert conclusion["unfinished"] == ["evaluate distilled-control seed 2"]
    assert [arm["arm"] for arm in conclusion["arms"]] == ["teacher", "distilled"]
    assert conclusion["pairs"] == []


def test_one_seed_says_so(tmp_path):
    conclusion = conclude_study(text_store(tmp_path, scores_of(), STUDY.replace("[0, 1, 2]", "[0]")))
    assert "one seed" in arm_of(conclusion, "distilled")["scores"]["bits_per_byte"]["note"]
    assert arm_of(conclusion, "teacher")["scores"]["bits_per_byte"]["note"] is None  # no seed made it
