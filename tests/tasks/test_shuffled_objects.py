"""The task against a hand-worked question and a brute-force replay of the swaps."""

import random

import pytest

from stillmark.errors import UserError
from stillmark.records import Outcome
from stillmark.study.schema import ShuffledObjects
from stillmark.tasks import make_task

TASK = make_task(
    ShuffledObjects(kind="shuffled_objects", objects=5, min_swaps=1, max_swaps=6, test_samples=120)
)


def replay(prompt: str) -> str:
    """The answer by doing what the question says, on a plain mapping."""
    pairs = [part.split() for part in prompt.removesuffix(" ?").rstrip(" ;").split(" ; ")]
    held = dict(pairs[:5])
    for first, second in pairs[5:]:
        held[first], held[second] = held[second], held[first]
    return " ".join(held.values())


@pytest.mark.parametrize("index", range(50))
def test_target_answer_and_solution_agree_with_a_replay(index: int):
    sample = TASK.training_sample(3, index)
    assert sample.target == sample.answer == replay(sample.prompt)
    assert sample.solution is not None
    assert TASK.score(sample.solution, sample.target, "stop") is Outcome.CORRECT
    assert sample.solution.count(":") == sample.level


def test_splits_are_disjoint_and_fixed():
    test, validation = TASK.held_out_samples("test"), TASK.held_out_samples("validation")
    prompts = [{sample.prompt for sample in samples} for samples in (test, validation)]
    prompts.append({TASK.training_sample(0, index).prompt for index in range(3000)})
    assert [len(prompts[0]), len(prompts[1])] == [120, 120]
    assert not prompts[0] & prompts[1]
    assert not (prompts[0] | prompts[1]) & prompts[2]
    assert test == TASK.held_out_samples("test")
    assert {level: [s.level for s in test].count(level) for level in range(1, 7)} == dict.fromkeys(
        range(1, 7), 20
    )


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
        ("red blue green pink white", "stop", Outcome.CORRECT),
        ("Bob Eve : red blue green pink white", "stop", Outcome.CORRECT),
        ("blue red green pink white", "stop", Outcome.WRONG),
        ("red blue green pink white ; Bob", "stop", Outcome.UNPARSED),
        ("green pink white", "stop", Outcome.UNPARSED),
        ("", "stop", Outcome.UNPARSED),
        ("red blue green pink white", "length", Outcome.TRUNCATED),
        ("red blue green pink white", "error", Outcome.ERROR),
    ],
)
def test_each_reply_has_one_outcome(reply: str, stop_reason: str, outcome: Outcome):
    assert TASK.score(reply, "red blue green pink white", stop_reason) is outcome


def test_too_few_different_questions_is_an_error_and_no_endless_loop():
    tiny = ShuffledObjects(kind="shuffled_objects", objects=3, min_swaps=0, max_swaps=0, test_samples=50)
    with pytest.raises(UserError, match="too few different questions"):
        make_task(tiny).held_out_samples("test")
