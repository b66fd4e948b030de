"""The first sentence says what the numbers say: effect, none, the other way round, censored, unfinished."""

import pytest
from tests.report.synthetic import CENSORED, DEPENDS, NOTHING, REVERSED, SAVES, UNKNOWN, synthetic_conclusion

from stillmark.report.answer import answer_of
from stillmark.report.reading import best_student


@pytest.mark.parametrize(
    ("finals", "verdict", "tone"),
    [
        (SAVES, "Distilling saves compute, whatever is counted.", "good"),
        (CENSORED, "though little in all", "good"),
        (DEPENDS, "only while the making of the teacher is not counted", "mixed"),
        (NOTHING, "No saving of compute is shown.", "none"),
        (REVERSED, "does not save compute here: it takes more", "bad"),
        (UNKNOWN, "No ratio can be given.", "none"),
    ],
)
def test_verdict(finals, verdict, tone):
    answer = answer_of(synthetic_conclusion(finals))
    assert verdict in answer.verdict
    assert answer.tone == tone


def test_sentence_has_number_interval_and_boundary():
    sentence = answer_of(synthetic_conclusion(DEPENDS)).sentence
    assert "12.3x (95% interval: 8.1 to 19)" in sentence
    assert "boundary student" in sentence
    assert "0.38x (95% interval: 0.3 to 0.5)" in sentence
    assert "boundary everything" in sentence
    assert "98.5%" in sentence


def test_censored_is_more_than_and_never_a_number():
    sentence = answer_of(synthetic_conclusion(CENSORED)).sentence
    assert "more than 12.1x (95% interval: at least 9.8)" in sentence
    assert "within their budgets none of them gets there" in sentence


def test_open_upper_limit_with_low_below_one_shows_nothing():
    finals = (
        CENSORED[0],
        CENSORED[1],
        (None, 0.3, None, "more than", 0.4),
        CENSORED[3],
        (None, 0.2, None, "more than", 0.3),
    )
    answer = answer_of(synthetic_conclusion(finals))
    assert answer.tone == "mixed"
    assert "with the making of the teacher counted, that is not shown" in answer.verdict


def test_best_student_is_the_most_accurate_and_of_equals_the_cheapest():
    conclusion = synthetic_conclusion(SAVES)
    assert best_student(conclusion)["arm"] == "logits-50k"
    for row in conclusion["comparisons"]:
        row["final_accuracy"] = 0.9
    assert best_student(conclusion)["arm"] == "traces-50k"  # no base, no logits: the least compute in all
    conclusion["comparisons"] = [row for row in conclusion["comparisons"] if row["is_control"]]
    assert best_student(conclusion) is None
    assert "Only controls" in answer_of(conclusion).sentence


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.02, 0.08, "so much comes from the teacher"),
        (-0.03, 0.02, "no gain from the teacher itself is shown"),
        (-0.08, -0.01, "the control does better without a teacher"),
    ],
)
def test_the_sceptics_control_is_mentioned(low, high, words):
    conclusion = synthetic_conclusion(SAVES)
    for row in conclusion["differences"]:
        row["difference"] |= {"low": low, "high": high}
    details = answer_of(conclusion).details
    assert any("solutions-50k" in line and words in line and "same size" in line for line in details)


def test_unfinished_is_said():
    names = [f"train arm seed {seed}" for seed in range(5)]
    warning = answer_of(synthetic_conclusion(SAVES, unfinished=names)).warning
    assert warning is not None
    assert "5 of its stages" in warning
    assert "and 2 more" in warning
    empty = synthetic_conclusion(SAVES, unfinished=names, arms=[], comparisons=[], differences=[])
    assert answer_of(empty).verdict == "No answer yet."


def test_study_without_a_conclusion_part():
    answer = answer_of(synthetic_conclusion(SAVES, comparisons=[], differences=[]))
    assert "names no students" in answer.sentence


def test_at_chance_there_is_no_ratio():
    conclusion = synthetic_conclusion(UNKNOWN)
    for row in conclusion["comparisons"]:
        for ratio in row["ratios"]:
            ratio["notes"] = ["accuracy 0.2 is at or below chance (0.2): a model reaches it untrained"]
    assert "at or below chance" in answer_of(conclusion).sentence
