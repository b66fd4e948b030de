"""HumanEval and MBPP in the sandbox: published solutions pass, changed ones do not, and how code is found."""

import json
from types import SimpleNamespace

import pytest
from tests.paths import SHARED

from stillmark.records import Outcome
from stillmark.tasks.benchmark import BenchmarkData
from stillmark.tasks.code_scorer import CodeScorer, code_of
from stillmark.tasks.registry import find_benchmark
from stillmark.tasks.sandbox import isolation_problem
from stillmark.tasks.verdict import judge

PREFIX = "import math\n\ndef area(r):\n    '''Of a circle.'''\n"
TARGET = json.dumps(
    {"prefix": PREFIX, "before": "", "after": "assert round(area(1), 2) == 3.14", "entry_point": "area"}
)
BODY = "    return math.pi * r * r\n"
needs_sandbox = pytest.mark.skipif(isolation_problem() is not None, reason=str(isolation_problem()))


@needs_sandbox
@pytest.mark.parametrize(
    ("reply", "stop_reason", "outcome"),
    [
        (BODY, "stop", "correct"),  # a completion
        (f"Here it is:\n```python\n{PREFIX}{BODY}```\nDone.", "stop", "correct"),
        (f"```python\ndef area(r):\n{BODY}```", "stop", "correct"),  # without the prompt's imports
        ("    return 3 * r\n", "stop", "wrong"),
        ("    return math.pi * r * r)\n", "stop", "wrong"),  # no Python
        ("    import sys; sys.exit(0)\n", "stop", "wrong"),  # leaves before the tests
        ("    raise ValueError\n", "stop", "wrong"),
        ("I cannot write code.", "stop", "unparsed"),
        ("Let me think about circles and", "length", "truncated"),
        ("    return math.", "length", "truncated"),
        (f"```python\n{PREFIX}    return", "length", "truncated"),
        (f"```python\n{PREFIX}{BODY}```\nThis works because", "length", "correct"),
        (f"```python\nimport os\nos._exit(0)\n{PREFIX}{BODY}```", "stop", "wrong"),
    ],
)
def test_outcome(reply, stop_reason, outcome):
    assert judge(CodeScorer(), reply, TARGET, stop_reason).outcome == outcome


@needs_sandbox
@pytest.mark.skipif(SHARED is None, reason="the shared data are not here")
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_published_solutions_pass(name):
    data = BenchmarkData(find_benchmark(name)[0], SHARED / "data")
    for index in data.chosen(6):
        row = data.rows[index]
        reply = row.answer if name == "humaneval" else f"```python\n{row.answer}\n```"
        assert judge(data.benchmark.scorer, reply, row.target, "stop").outcome is Outcome.CORRECT, (
            row.question
        )


def test_code_in_a_reply():
    assert (
        code_of("```python\nx = 1\n```\n```python\ndef f():\n    pass\n```", "", "f") == "def f():\n    pass"
    )
    assert code_of("def f():\n    return 1\n```\nAnd that is it.", "", "f").strip().endswith("return 1")
    assert code_of("```\nprint(1)\n```", "", "f") is None
    assert code_of("no code", PREFIX, "area") is None


def test_a_sandbox_that_refuses_is_an_error_and_not_wrong():
    class Refused:
        outcome, reason = "refused", "no user namespaces"

    verdict = judge(CodeScorer(lambda code: Refused()), BODY, TARGET, "stop")
    assert verdict.outcome is Outcome.ERROR
    assert "no user namespaces" in verdict.error


def test_a_program_is_run_once_however_often_it_is_graded():
    """`--budgets` cuts a reply at each power of two; the code that it closed before is the same in each."""
    programs = []

    def runner(program: str):
        programs.append(program)
        return SimpleNamespace(outcome="completed" if "pi" in program else "failed", reason="")

    scorer = CodeScorer(runner)
    reply = f"```python\n{PREFIX}{BODY}```\nThis works because " + "the circle is round " * 50
    outcomes = [judge(scorer, reply[:n], TARGET, "length").outcome for n in range(16, len(reply), 16)]
    assert judge(scorer, reply, TARGET, "stop").outcome == "correct"
    closed = len(reply.partition("```\nThis")[0]) + 4
    assert outcomes == ["truncated" if n < closed else "correct" for n in range(16, len(reply), 16)]
    assert len(programs) == 1  # code that was still open when the reply was cut was not run at all
    other = json.dumps({**json.loads(TARGET), "after": "assert False"})
    judge(scorer, reply, other, "stop")  # the same code under other tests is another program
    assert len(programs) == 2
