"""The task against a hand-worked question and a brute-force replay of the swaps."""

import random

import pytest

from stillmark.records import Outcome
from stillmark.study.schema import ShuffledObjects
from stillmark.tasks import make_task

TASK = make_task(
    ShuffledObjects(kind="shuffled_objects", objects=5, min_swaps=0, max_swaps=6, test_samples=140)
)


def replay(prompt: str) -> str:
    """The answer by doing what the question says, on a plain mapping."""
    beginning, *swaps, question = [part.split() for part in prompt.split(" ; ")]
    held = dict(zip(beginning[::2], beginning[1::2], strict=True))
    for first, second in swaps:
        held[first], held[second] = held[second], held[first]
    return held[question[0]]


@pytest.mark.parametrize("index", range(50))
def test_target_answer_and_solution_agree_with_a_replay(index: int):
    sample = TASK.training_sample(3, index)
    assert sample.target == replay(sample.prompt)
    assert sample.answer.split()[-1] == sample.target
    assert sample.solution is not None
    assert sample.solution.endswith(sample.answer)
    assert len(sample.solution.split(" ; ")) == sample.level + 1


def test_splits_are_disjoint_and_fixed():
    test, validation = TASK.held_out_samples("test"), TASK.held_out_samples("validation")
    prompts = [{sample.prompt for sample in samples} for samples in (test, validation)]
    prompts.append({TASK.training_sample(0, index).prompt for index in range(3000)})
    assert [len(prompts[0]), len(prompts[1])] == [140, 120]
    assert not prompts[0] & prompts[1]
    assert not (prompts[0] | prompts[1]) & prompts[2]
    assert test == TASK.held_out_samples("test")
    assert {level: [s.level for s in test].count(level) for level in range(7)} == dict.fromkeys(range(7), 20)


def test_training_samples_depend_on_seed_and_index_alone():
    order = list(range(20))
    random.Random(1).shuffle(order)
    assert {i: TASK.training_sample(7, i) for i in order} == {
        i: TASK.training_sample(7, i) for i in range(20)
    }
    assert TASK.training_sample(7, 0) != TASK.training_sample(8, 0)


@pytest.mark.parametrize(
    ("reply", "stop_reason", "outcome"),
    [
        ("Bob green", "stop", Outcome.CORRECT),
        ("Bob Eve : red blue green pink white ; Bob green", "stop", Outcome.CORRECT),
        ("Bob red", "stop", Outcome.WRONG),
        ("green Bob", "stop", Outcome.UNPARSED),
        ("", "stop", Outcome.UNPARSED),
        ("Bob green", "length", Outcome.TRUNCATED),
        ("Bob green", "error", Outcome.ERROR),
    ],
)
def test_each_reply_has_one_outcome(reply: str, stop_reason: str, outcome: Outcome):
    assert TASK.score(reply, "green", stop_reason) is outcome
