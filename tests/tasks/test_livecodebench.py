"""LiveCodeBench: its packed tests are read without unpickling, and programs are judged as its own grader judges them.

The data could not be had here (4.5 GB on the hub); the rows are made by hand in its documented columns. PACKED is
real: the hidden tests of Codeforces 1873A as the data set packs them. What the authors' grader (lcb_runner,
testing_util.py, MIT) says of the programs below was found by running it; it stands beside each.
"""

import base64
import json
import pickle
import zlib
from datetime import date

import pytest

from stillmark.errors import UserError
from stillmark.records import Outcome
from stillmark.tasks.benchmark import BenchmarkData
from stillmark.tasks.contest_scorer import ContestScorer, string_of_pickle, unpack_tests
from stillmark.tasks.livecodebench import days_of
from stillmark.tasks.registry import find_benchmark
from stillmark.tasks.sandbox import isolation_problem
from stillmark.tasks.verdict import ScorerError, judge

needs_sandbox = pytest.mark.skipif(isolation_problem() is not None, reason=str(isolation_problem()))
PACKED = (
    "eJxrYJmaz8gABhEZQEZ0tVJmXkFpiZKVgpJhTF5iUnJMnpKOglJ+aQlUNNI1GCJUklpcUlJZkAoSLC5JycxTqtVRQNJuDNWOILAYhCCIMdI0Ji85"
    "MQloWjKQSE5KjMlLSgSam5SciG64nz+y2WACJESMJWYY7ibFG8T5KnaKHgAcinnp"
)


def pack(tests: list[dict[str, str]]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def case(given: str, wanted: str, kind: str = "stdin") -> dict[str, str]:
    return {"input": given, "output": wanted, "testtype": kind}


def row(day: str, *, function: str = "", public=(), private=(), packed: str = "") -> dict[str, str]:
    return {
        "question_title": "T", "question_content": f"Solve it ({day}).", "platform": "atcoder", "question_id": "abc1_a",
        "contest_id": "abc1", "contest_date": f"{day}T00:00:00", "difficulty": "easy",
        "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:\n        " if function else "",
        "public_test_cases": json.dumps(list(public)), "private_test_cases": packed or pack(list(private)),
        "metadata": json.dumps({"func_name": function} if function else {}),
    }  # fmt: skip


def test_the_real_packed_tests_are_read():
    tests = unpack_tests(PACKED)
    assert [test["input"].split("\n")[0] for test in tests] == ["1", "3", "5", "6"]
    assert tests[2] == {"input": "5\ncab\nacb\ncba\nbac\nbca\n", "output": "NO\nYES\nYES\nYES\nNO\n"}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("text", ["[]", "[1, 2]", "é" * 300, "x" * 70000])
def test_a_string_is_read_from_any_pickle_of_one(protocol: int, text: str):
    assert string_of_pickle(pickle.dumps(text, protocol)) == text


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was run')",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Hostile()),
        pickle.dumps(["[]"]),
        pickle.dumps({"input": "1"}),
        pickle.dumps(b"[]"),
        pickle.dumps(("[]", "[]")),
        b"cos\nsystem\n(S'true'\ntR.",
        b"",
        b"\x80\x04\x8c\x02[]",  # cut short
    ],
)
def test_any_other_pickle_is_an_error_and_is_not_run(content: bytes):
    packed = base64.b64encode(zlib.compress(content)).decode()
    with pytest.raises(ScorerError, match="cannot be read"):
        unpack_tests(packed)
    target = json.dumps({"function": "", "public": "[]", "private": packed})
    assert judge(ContestScorer(), "```\nprint(1)\n```", target, "stop").outcome is Outcome.ERROR


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stillmark.tasks.contest_scorer.LARGEST_TESTS", 1000)
    with pytest.raises(ScorerError, match="larger than"):
        unpack_tests(pack([case("1" * 2000, "1")]))


ECHO = [case("2\n3 4\n", "7\n"), case("1\n0.5 1\n", "1.50\n")]
READ = "n = int(input())\na, b = map(float, input().split())\n"
ADD = [case("1\n2", "3", "functional"), case("[1]\n[2, 3]", "[1, 2, 3]", "functional")]
# (program, function, what the authors' grader says)
PROGRAMS = [
    (READ + "print(a + b)", "", True),  # 7.0 is 7, and 1.5 is 1.50
    (READ + "print(int(a + b))", "", False),
    (READ + "print(a + b)\nprint()\nprint('  ')", "", True),  # white space at the end
    (READ + "print('sum:', a + b)", "", False),
    (READ + "print(a + b)\nimport sys\nsys.exit(1)", "", True),
    (READ + "print(a + b)\nraise ValueError", "", False),
    ("def main():\n    " + READ.replace("\n", "\n    ") + "print(a + b)\nif __name__ == '__main__':\n    main()", "", True),
    ("import sys\nn, a, b = sys.stdin.read().split()\nprint(float(a) + float(b))", "", True),
    ("import sys\nfor line in sys.stdin.readlines()[1:]:\n    print(sum(map(float, line.split())))", "", True),
    ("def broken(:", "", False),
    ("pass", "", False),
    ("print(floor(gcd(7, 14)) if accumulate and Counter and heappush else 0)", "", False),  # names of its prelude
    ("class Solution:\n    def add(self, a, b):\n        return a + b", "add", True),
    ("class Solution:\n    def add(self, a: List[int], b: Optional[int]):\n        print('debug')\n        return a + b", "add", True),
    ("class Solution:\n    def add(self, a, b):\n        return tuple(a + b) if isinstance(a, list) else a + b", "add", True),
    ("class Solution:\n    def add(self, a, b):\n        return float(a + b) if isinstance(a, int) else a + b", "add", True),
    ("def add(a, b):\n    return a + b", "add", True),
    ("class Solution:\n    def add(self, a, b):\n        return a", "add", False),
    ("class Solution:\n    def sub(self, a, b):\n        return a + b", "add", False),
    ("class Solution:\n    def add(self, a, b):\n        raise KeyError", "add", False),
    ("class Solution:\n    def add(self, a, b):\n        return {1: a + b}", "add", False),
]  # fmt: skip


@needs_sandbox
@pytest.mark.parametrize(("program", "function", "passes"), PROGRAMS)
def test_programs_are_judged_as_by_the_authors_grader(program: str, function: str, passes: bool):
    tests = ADD if function else ECHO
    target = json.dumps({"function": function, "public": json.dumps(tests[:1]), "private": pack(tests[1:])})
    verdict = judge(ContestScorer(), f"Here:\n```python\n{program}\n```\n", target, "stop")
    assert verdict.outcome is (Outcome.CORRECT if passes else Outcome.WRONG)


@needs_sandbox
def test_two_faults_of_the_authors_grader_are_not_shared():
    """It says False and True: it replaces sys.stdin alone, and takes operator.add of its prelude for the answer."""
    for program, function, passes in (
        ("n, a, b = open(0).read().split()\nprint(float(a) + float(b))", "", True),
        ("def plus(a, b):\n    return 0", "add", False),
    ):
        test_programs_are_judged_as_by_the_authors_grader(program, function, passes)


@needs_sandbox
def test_the_real_problem_1873a():
    target = json.dumps({"function": "", "public": "[]", "private": PACKED})
    right = "for _ in range(int(input())):\n    s = input()\n    print('YES' if sum(a != b for a, b in zip(s, 'abc')) <= 2 else 'NO')"
    for program, outcome in ((right, "correct"), (right.replace("<= 2", "<= 3"), "wrong")):
        assert judge(ContestScorer(), f"```python\n{program}\n```", target, "stop").outcome == outcome


@needs_sandbox
@pytest.mark.parametrize(
    "program",
    [
        "print('correct'); import os; os._exit(0)",
        "import json\njson.loads = lambda text: Everything()\nclass Everything:\n    def __eq__(self, other): return True",
        "class Solution:\n    def add(self, a, b):\n        return Yes()\nclass Yes(int):\n    def __eq__(self, other): return True",
        "import atexit, sys\nsys.stdout.write('\\n' + '{\"value\": true}')\nsys.stdout.flush()\nimport os\nos._exit(0)",
        "import builtins\nbuiltins.print = lambda *a: None\nbuiltins.compile = None",
    ],
)
def test_claiming_to_have_passed_is_not_passing(program: str):
    """The expected outputs are not in the sandbox, so there is nothing to patch and nothing to copy."""
    for function, tests in (("", ECHO), ("add", ADD)):
        target = json.dumps({"function": function, "public": json.dumps(tests), "private": "[]"})
        assert judge(ContestScorer(), f"```python\n{program}\n```", target, "stop").outcome is Outcome.WRONG


def test_cut_and_missing_code():
    target = json.dumps({"function": "", "public": json.dumps(ECHO), "private": "[]"})
    assert judge(ContestScorer(), "I would read the input", target, "stop").outcome is Outcome.UNPARSED
    assert judge(ContestScorer(), "```python\nprint(", target, "length").outcome is Outcome.TRUNCATED


def load(tmp_path, name: str) -> BenchmarkData:
    folder = tmp_path / "livecodebench"
    folder.mkdir(exist_ok=True)
    days = {
        "test": ["2023-06-01", "2024-02-29"],
        "test2": ["2024-03-10"],
        "test6": ["2025-01-31", "2025-04-06"],
    }
    for file, listed in days.items():
        rows = [
            row(day, public=ECHO, private=ECHO, function="add" if day == "2024-03-10" else "")
            for day in listed
        ]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return BenchmarkData(find_benchmark(name)[0], tmp_path)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("livecodebench", 5), ("livecodebench:v1", 2), ("livecodebench:release_v2", 3), ("livecodebench:v5", 3),
        ("livecodebench:v6", 5), ("livecodebench:2024-02-29..2025-01-31", 3), ("livecodebench:..2024-02-28", 1),
        ("livecodebench:v2:2024-01-01..", 2),
    ],
)  # fmt: skip
def test_releases_and_dates(tmp_path, name: str, count: int):
    data = load(tmp_path, name)
    assert len(data.rows) == count
    assert data.item(0).task == "livecodebench"


def test_prompts_and_ids(tmp_path):
    data = load(tmp_path, "livecodebench")
    stdin, function = data.prompt(0, "generation", 0, "fixed"), data.prompt(2, "generation", 0, "fixed")
    assert stdin.startswith("You are an expert Python programmer.")
    assert "### Question:\nSolve it (2023-06-01).\n\n### Format: Read the inputs from stdin" in stdin
    assert "```python\nclass Solution:\n    def add" in function
    assert stdin.endswith("### Answer: (use the provided format with backticks)\n\n")
    window = load(tmp_path, "livecodebench:2025-01-01..")
    assert window.item_ids == data.item_ids[3:]


@pytest.mark.parametrize("part", ["v7", "v0", "easy", "2024-13-01..", "2025-01-01..2024-01-01"])
def test_unknown_parts_are_clear_messages(part: str):
    with pytest.raises(UserError, match="livecodebench"):
        find_benchmark(f"livecodebench:{part}")
    assert days_of("2024-08-01..2025-01-31") == (date(2024, 8, 1), date(2025, 1, 31))
