"""Overlap with evaluation items: planted duplicates, brute force on real questions, and choosing among traces."""

import json
import random

import pytest
from tests.paths import SHARED

from stillmark.records import Outcome, SampleRecord
from stillmark.tasks.overlap import EvaluationItems, Overlap, OverlapCounts, without_overlap
from stillmark.tasks.traces import choose_traces

needs_data = pytest.mark.skipif(SHARED is None, reason="the shared data are not here")
ITEM = "Janet has 16 ducks, and each of them lays 3 eggs a day. How many eggs are there?"


def questions(path: str, field: str = "question") -> list[str]:
    return [json.loads(line)[field] for line in (SHARED / "data" / path).read_text().splitlines()]


def test_equality_is_up_to_case_and_white_space_and_keeps_digits_and_signs():
    items = EvaluationItems(["What is 3+4?", ITEM])
    assert items.overlap("what  IS\n3+4?") == Overlap(kind="equal", item=0)
    assert items.overlap("What is 3-4?") is None
    assert items.overlap("What is 3+5?") is None
    assert items.overlap(f"  {ITEM.upper()} ") == Overlap(kind="equal", item=1)


def test_thirteen_words_in_a_row_and_no_fewer():
    words = [f"w{number}" for number in range(30)]
    items = EvaluationItems([" ".join(words)])
    assert items.overlap("other " + ", ".join(words[5:18]) + "! More.").kind == "shared_run"
    assert items.overlap("other " + " ".join(words[5:17]) + " more") is None
    assert items.overlap("other " + " ".join([*words[5:11], "x", *words[11:17], "x", *words[17:29]])) is None


def test_a_short_item_must_be_there_whole_and_a_very_short_one_equal():
    eight, seven = "one two three four five six seven eight", "a b c d e f g"
    items = EvaluationItems([eight, seven])
    assert items.overlap(f"So: {eight}.").kind == "shared_run"
    assert items.overlap(eight.removesuffix(" eight")) is None
    assert items.overlap(f"So: {seven}.") is None
    assert items.overlap(seven.upper()).kind == "equal"


def test_a_template_that_many_items_share_tells_nothing():
    template = "answer the following question with one word and nothing else please thank you now"
    few = [f"{template} {number} {number + 1} {number + 2}" for number in range(10)]
    assert EvaluationItems(few).overlap(f"{template} another") is not None
    many = [*few, f"{template} 98 99 100"]
    assert EvaluationItems(many).overlap(f"{template} another") is None
    assert EvaluationItems(many).overlap(many[3]) == Overlap(kind="equal", item=3)


@needs_data
def test_planted_duplicates_are_found_and_all_else_is_as_brute_force_says():
    """Of GSM8K: 100 training questions and 60 planted ones against 100 test questions."""
    test, train = questions("gsm8k/test.jsonl")[:100], questions("gsm8k/train.jsonl")[:100]
    stream = random.Random(0)
    equal = [stream.choice([str.upper, str.title])(question).replace(" ", "\n ") for question in test[:30]]
    longer = [f"Hello. {question} Think it over." for question in test[30:60]]
    texts = [*train, *equal, *longer]
    items = EvaluationItems(test)
    for text in texts:
        assert (items.overlap(text) is not None) == brute_force(text, test), text
    kept, counts = without_overlap(texts, lambda text: text, items)
    assert counts.equal == 30
    assert counts.shared_run >= 30
    assert kept == [text for text in train if not brute_force(text, test)]


def brute_force(text: str, items: list[str]) -> bool:
    """By padded strings, without hashes: does the text hold a run of one of the items?"""

    def bare(text: str) -> str:
        return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())

    padded = f" {bare(text)} "
    for item in items:
        words = bare(item).split()
        length = min(13, len(words))
        windows = [" ".join(words[i : i + length]) for i in range(len(words) - length + 1)]
        if text.lower().split() == item.lower().split():
            return True
        if length >= 8 and any(f" {window} " in padded for window in windows):
            return True
    return False


@needs_data
def test_gsm8k_train_and_test_overlap_little():
    """No question is in both splits; four of 7,473 share a run with one: the same tale with other numbers.

    The four were read, and agree with what the brute force of this file finds over both whole splits.
    """
    items = EvaluationItems(questions("gsm8k/test.jsonl"))
    train = questions("gsm8k/train.jsonl")
    kept, counts = without_overlap(train, lambda text: text, items)
    assert counts.equal == 0
    assert len(kept) + counts.shared_run == 7473
    assert counts.shared_run == 4


@needs_data
def test_math_problems_are_found_within_the_published_file_of_their_solutions():
    """The 100 problems against themselves as told in another field of the file: the chat's `query`."""
    problems = questions("traces_qwen25_math_cot100/math_cot_100.jsonl")
    asked = questions("traces_qwen25_math_cot100/math_cot_100.jsonl", "query")
    kept, counts = without_overlap(asked, lambda text: text, EvaluationItems(problems))
    assert (kept, counts) == ([], OverlapCounts(equal=100, shared_run=0))


def sample(item: str, repeat: int, outcome: Outcome) -> SampleRecord:
    return SampleRecord(
        job_key="g", item_id=item, repeat=repeat, position=0, response=f"{item}{repeat}", outcome=outcome,
        stop_reason="stop", prompt_tokens=1, generated_tokens=1, seconds=None,
    )  # fmt: skip


def test_traces_are_the_first_accepted_ones_of_each_prompt_that_is_no_evaluation_item():
    right, wrong = Outcome.CORRECT, Outcome.WRONG
    outcomes = {"a": [wrong, right, right, right], "b": [right, wrong, right, wrong], "c": [right] * 4}
    outcomes |= {"d": [right, right, wrong, wrong]}
    samples = [
        sample(item, repeat, outcome)
        for item, all_of in outcomes.items()
        for repeat, outcome in enumerate(all_of)
    ]
    prompts = {"a": "first question", "b": "second question", "c": "What is 3+4?", "d": f"Well. {ITEM}"}
    evaluation = EvaluationItems(["what is 3+4?", ITEM])
    choice = choose_traces(samples, prompts, max_per_prompt=2, evaluation=evaluation)
    assert choice.pairs == [("first question", "a1"), ("first question", "a2"), ("second question", "b0"),
                            ("second question", "b2")]  # fmt: skip
    assert (choice.rejected, choice.equal_to_evaluation, choice.shared_with_evaluation, choice.over_limit) == (
        5, 4, 2, 1,
    )  # fmt: skip
    assert len(choose_traces(samples, prompts).pairs) == 11
