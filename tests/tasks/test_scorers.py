"""Each scorer on replies of a known outcome: right, wrong, cut off, and without an answer."""

import json

import pytest

from stillmark.records import Outcome
from stillmark.tasks.bbh import BbhScorer
from stillmark.tasks.choice_scorer import ChoiceScorer, choice_target, judge_likelihoods
from stillmark.tasks.math_scorer import MathScorer, last_boxed
from stillmark.tasks.number_scorer import NumberScorer, number_of
from stillmark.tasks.user_task import TextScorer
from stillmark.tasks.verdict import judge

FOUR = choice_target(1, ["London", "Paris", "Rome", "Oslo"])

CASES = [
    # scorer, target, reply, stop reason, outcome
    (NumberScorer(), "42", "6 x 7 = 42\n#### 42", "stop", "correct"),
    (NumberScorer(), "29", "It costs $29.00.\n#### $29.00", "stop", "correct"),
    (NumberScorer(), "1234", "#### 1,234", "stop", "correct"),
    (NumberScorer(), "-3", "The answer is -3.", "stop", "correct"),
    (NumberScorer(), "42", "so the total is \\boxed{42} apples", "stop", "correct"),
    (NumberScorer(), "42", "That makes 42 apples.", "stop", "correct"),
    (NumberScorer(), "42", "#### 43, or perhaps 42", "stop", "wrong"),
    (NumberScorer(), "4", "#### 42", "length", "truncated"),  # half of 42? it cannot be known
    (NumberScorer(), "42", "#### 42\n\nQuestion: What", "length", "correct"),
    (NumberScorer(), "42", "First 6 x 7 = 42, and then we", "length", "truncated"),
    (NumberScorer(), "42", "I do not know.", "stop", "unparsed"),
    (NumberScorer(), "42", "", "stop", "unparsed"),
    (NumberScorer(), "42", "", "error", "error"),
    (ChoiceScorer(), FOUR, "The answer is (B).", "stop", "correct"),
    (ChoiceScorer(), FOUR, "B", "stop", "correct"),
    (ChoiceScorer(), FOUR, " B. Paris", "stop", "correct"),
    (ChoiceScorer(), FOUR, "**Answer: B**", "stop", "correct"),
    (ChoiceScorer(), FOUR, "Paris", "stop", "correct"),
    (ChoiceScorer(), FOUR, "\\boxed{\\text{B}}", "stop", "correct"),
    (ChoiceScorer(), FOUR, "The answer is A, no: the answer is B.", "stop", "correct"),
    (ChoiceScorer(), FOUR, "The correct choice is C because it is old", "stop", "wrong"),
    (ChoiceScorer(), FOUR, "A city in France, I would say", "stop", "unparsed"),
    (ChoiceScorer(), FOUR, "The answer is a matter of taste", "stop", "unparsed"),
    (ChoiceScorer(), FOUR, "The answer is E.", "stop", "unparsed"),  # there is no E
    (ChoiceScorer(), FOUR, "Let us see. (A) is not, (B) may be", "length", "truncated"),
    (ChoiceScorer(), FOUR, "The answer is (B). Indeed, it", "length", "correct"),
    (BbhScorer(), "(B)", "12 days on. So the answer is (B).", "stop", "correct"),
    (BbhScorer(), "(B)", "So the answer is (B) 12/25/1937.", "stop", "correct"),
    (BbhScorer(), "(B)", "So the answer is (A).", "stop", "wrong"),
    (BbhScorer(), "] )", "So the answer is ])", "stop", "correct"),
    (BbhScorer(), "Yes", "yes", "stop", "correct"),
    (BbhScorer(), "credulity phone", "So the answer is credulity, phone.", "stop", "correct"),
    (BbhScorer(), "valid", "So the answer is invalid.", "stop", "wrong"),
    (BbhScorer(), "24", "We first add 12 and", "length", "truncated"),
    (BbhScorer(), "24", "I am not sure.\nIt may be many.", "stop", "unparsed"),
    (MathScorer(), "\\frac{1}{2}", "So we get \\boxed{0.5}.", "stop", "correct"),
    (MathScorer(), "(1,2)", "$\\boxed{(1, 2)}$", "stop", "correct"),
    (MathScorer(), "\\frac{14}{3}", "\\boxed{\\frac{13}{3}}", "stop", "wrong"),
    (MathScorer(), "10000", "\\boxed{10{,}000} in all", "stop", "correct"),
    (MathScorer(), "7", "Let x = 7. We then consider", "length", "truncated"),
    (MathScorer(), "7", "I cannot say.", "stop", "unparsed"),
    (TextScorer("exact"), "Paris", " Paris.\nIt is large.", "stop", "correct"),
    (TextScorer("exact"), "Paris", "The answer is London", "stop", "wrong"),
    (TextScorer("exact"), "Paris", "It is the city", "length", "truncated"),
    (TextScorer("exact"), "Paris", "\n", "stop", "unparsed"),
    (TextScorer("contains"), "Paris", "I would go to Paris, surely", "stop", "correct"),
    (TextScorer("contains"), "Paris", "The Parisian way", "stop", "wrong"),
    (TextScorer("contains"), "Paris", "The Parisian way", "length", "truncated"),
    (TextScorer("contains"), "Paris", "", "stop", "unparsed"),
]


@pytest.mark.parametrize(("scorer", "target", "reply", "stop_reason", "outcome"), CASES)
def test_outcome(scorer, target, reply, stop_reason, outcome):
    assert judge(scorer, reply, target, stop_reason).outcome == outcome


@pytest.mark.parametrize("scorer", [NumberScorer(), ChoiceScorer(), BbhScorer(), MathScorer()])
def test_an_answer_inside_thinking_is_no_answer(scorer):
    target = FOUR if isinstance(scorer, ChoiceScorer) else "7"
    answer = "The answer is (B). " if target == FOUR else "So the answer is \\boxed{7} "
    thought = f"<think>Perhaps... {answer}"
    assert judge(scorer, thought, target, "length").outcome is Outcome.TRUNCATED
    assert judge(scorer, thought, target, "stop").outcome is Outcome.UNPARSED
    assert judge(scorer, f"{thought}</think>I give up.", target, "stop").outcome is not Outcome.CORRECT


def test_numbers_as_people_write_them():
    texts = ["$29.00", "1,234.5", "3/4", "-7", "50%", "€ 12", "8."]
    assert [float(number_of(text)) for text in texts] == [29, 1234.5, 0.75, -7, 50, 12, 8]
    assert number_of("seven") is None
    assert number_of("1/0") is None


def test_extractors_that_disagree_are_seen():
    verdict = judge(NumberScorer(), "#### 42. Then 13 more", "42", "stop")
    assert (verdict.outcome, verdict.extractor, verdict.is_disputed) == ("correct", "hashes", True)
    assert verdict.grades == {"hashes": True, "boxed": None, "phrase": None, "last_number": False}


def test_likelihoods_by_sum_and_by_character():
    target = choice_target(1, ["no", "certainly not today"])
    assert judge_likelihoods([-3.0, -9.0], target, "sum").outcome is Outcome.WRONG
    by_character = judge_likelihoods([-3.0, -9.0], target, "per_character")
    assert (by_character.outcome, by_character.extracted) == (Outcome.CORRECT, "B")
    assert by_character.grades == {"sum": False, "per_character": True}


def test_choice_target_is_readable():
    assert json.loads(FOUR) == {"label": "B", "choices": ["London", "Paris", "Rome", "Oslo"]}


def test_nested_and_unfinished_boxes():
    assert last_boxed("a \\boxed{1} b \\boxed{\\frac{1}{2}} c") == "\\frac{1}{2}"
    assert last_boxed("\\boxed{1} then \\boxed{2") == "1"
    assert last_boxed("no box") is None
