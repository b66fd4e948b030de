"""Benchmarks over their own data: counts, published keys, and worked solutions that must score as right."""

import json
from dataclasses import replace

import pytest
from tests.paths import SHARED

from stillmark.errors import UserError
from stillmark.records import Outcome
from stillmark.tasks.benchmark import BenchmarkData
from stillmark.tasks.gpqa import read as read_gpqa
from stillmark.tasks.hellaswag import read as read_hellaswag
from stillmark.tasks.mathematics import read_aime, read_math500
from stillmark.tasks.mmlu import read as read_mmlu
from stillmark.tasks.mmlu import read_pro
from stillmark.tasks.registry import BENCHMARKS, find_benchmark
from stillmark.tasks.verdict import judge

needs_data = pytest.mark.skipif(SHARED is None, reason="the shared data are not here")
DATA = None if SHARED is None else SHARED / "data"
COUNTS = {"gsm8k": 1319, "arc_easy": 2376, "arc_challenge": 1172, "mmlu": 14042, "bbh": 6511, "humaneval": 164,
          "mbpp": 500}  # as their authors publish them  # fmt: skip


def data_of(name: str) -> BenchmarkData:
    return BenchmarkData(find_benchmark(name)[0], DATA)


@needs_data
@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_counts_and_ids(name, count):
    data = data_of(name)
    assert len(data.rows) == count
    assert len(set(data.item_ids)) == count
    mode = data.benchmark.usual_mode
    assert data.rows[0].question[-40:] in data.prompt(0, mode, data.benchmark.num_fewshot, "by_item")


@needs_data
def test_arc_has_the_published_keys():
    """AI2's own answer keys, by position (SOURCE.md): 1-5 stand for A-E."""
    for name, file in (("arc_easy", "easy"), ("arc_challenge", "challenge")):
        lines = (DATA / f"arc/aristo/{file}-question-answers.jsonl").read_text().splitlines()
        keys = [json.loads(line)["answerKey"].translate(str.maketrans("12345", "ABCDE")) for line in lines]
        assert [row.answer for row in data_of(name).rows] == keys


@needs_data
def test_every_worked_solution_of_gsm8k_is_right():
    data = data_of("gsm8k")
    outcomes = {judge(data.benchmark.scorer, row.worked, row.target, "stop").outcome for row in data.rows}
    assert outcomes == {Outcome.CORRECT}
    assert not any("<<" in row.worked for row in data.rows)


@needs_data
def test_every_target_of_bbh_is_right_and_its_worked_examples_too():
    data = data_of("bbh")
    for row in [*data.rows, *(row for _, row in data.pool)]:
        worked = row.worked or f"We see. So the answer is {row.target}."
        assert judge(data.benchmark.scorer, worked, row.target, "stop").outcome is Outcome.CORRECT, row
    assert len(data.pool) == 3 * 27


@needs_data
def test_bbh_prompt_is_the_published_one():
    data = data_of("bbh:sports_understanding")
    published = (DATA / "bbh/cot-prompts/sports_understanding.txt").read_text().partition("-----\n")[2]
    prompt = data.prompt(0, "generation", 3, "fixed")
    assert prompt == f"{published.rstrip()}\n\nQ: {data.rows[0].question}\nA: Let's think step by step."


@needs_data
def test_prompts_do_not_depend_on_what_else_is_asked():
    """lm-evaluation-harness#1308, #1719: there a shard or subset has other examples."""
    data = data_of("gsm8k")
    half = BenchmarkData(replace(data.benchmark, read=lambda raw: data.benchmark.read(raw)), DATA)
    half.rows, half.item_ids = half.rows[700:], half.item_ids[700:]
    assert half.prompt(5, "generation", 5, "by_item") == data.prompt(705, "generation", 5, "by_item")
    assert set(data.chosen(10)) < set(data.chosen(50))
    assert len(data.chosen(10**6)) == 1319


@needs_data
def test_an_item_is_never_its_own_example():
    data = data_of("arc_easy")
    for index in data.chosen(50):
        assert all(shot.question != data.rows[index].question for shot in data.examples(index, 5, "by_item"))
        assert all(shot.question != data.rows[index].question for shot in data.examples(index, 5, "fixed"))


def test_hub_and_local_rows_are_the_same_row():
    hub = {"question": "2+2?", "subject": "anatomy", "choices": ["3", "4", "5", "6"], "answer": 1}
    local = {"question": "2+2?", "choice0": "3", "choice1": "4", "choice2": "5", "choice3": "6", "answer": "1",
             "_part": "anatomy_test"}  # fmt: skip
    assert read_mmlu(hub) == read_mmlu(local)


def test_rows_in_the_hub_s_columns():
    pro = read_pro({"question": "Q", "options": ["a", "b", "N/A"], "answer_index": 1, "category": "law",
                    "cot_content": "A: Let's think. The answer is (B)."})  # fmt: skip
    assert (pro.answer, pro.choices, pro.worked) == ("B", ("a", "b"), "Let's think. The answer is (B).")
    gpqa = {
        "Question": "Q",
        "Correct Answer": "right",
        **{f"Incorrect Answer {n}": f"w{n}" for n in (1, 2, 3)},
    }
    row = read_gpqa(gpqa)
    assert row.choices["ABCD".index(row.answer)] == "right"
    assert row == read_gpqa(gpqa)
    swag = read_hellaswag({"ctx_a": "A man sits [header].", "ctx_b": "he", "activity_label": "Rest", "label": "2",
                           "endings": ["a", "b", "c [step] d", "e"]})  # fmt: skip
    assert (swag.question, swag.answer, swag.choices[2]) == ("Rest: A man sits . He", "C", "c d")
    assert read_aime({"problem": "P", "answer": "025"}).target == "25"
    assert read_math500({"problem": "P", "answer": "\\pi", "solution": "so \\boxed{\\pi}"}).worked is not None


def test_unknown_names_say_what_there_is():
    with pytest.raises(UserError, match="gsm8k") as error:
        find_benchmark("gsm8")
    assert "did you mean `gsm8k`" in str(error.value)
    with pytest.raises(UserError, match="unknown mode"):
        find_benchmark("gsm8k@telepathy")
    with pytest.raises(UserError, match="cannot be asked by loglikelihood"):
        find_benchmark("gsm8k@loglikelihood")


@needs_data
def test_a_missing_subject_or_file_is_a_clear_message():
    with pytest.raises(UserError, match="anatomy"):
        data_of("mmlu:anatomia")
    with pytest.raises(UserError, match="HuggingFaceH4/MATH-500"):
        data_of("math_500")


def test_hub_revisions_are_commits_or_openly_unknown():
    for benchmark in BENCHMARKS.values():
        hub = benchmark.source.hub
        assert hub.revision is None or len(hub.revision) == 40
