"""A user's task in YAML, held against lm-evaluation-harness's own prompts and scores; and its clear refusals."""

import json
from pathlib import Path

import pytest
from tests.paths import SHARED

from stillmark.errors import UserError
from stillmark.records import Outcome
from stillmark.tasks.benchmark import BenchmarkData
from stillmark.tasks.choice_scorer import judge_likelihoods
from stillmark.tasks.registry import find_benchmark


def write(folder: Path, yaml: str, rows: list[dict] | None = None) -> str:
    lines = [json.dumps(row) for row in rows or [{"q": "2+2", "a": "4", "o": ["3", "4"], "n": ["1", "2"]}]]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    path = folder / "task.yaml"
    path.write_text("name: mine\nfile: rows.jsonl\n" + yaml)
    return str(path)


def data_of(path: str) -> BenchmarkData:
    return BenchmarkData(find_benchmark(path)[0], None)


@pytest.mark.skipif(SHARED is None, reason="the shared data are not here")
def test_prompts_and_scores_are_those_of_lm_eval(tmp_path: Path):
    """Its task `mc_text` (100 items, 5 fixed shots): 400 prompts and continuations equal, acc .24, acc_norm .25."""
    peer = SHARED / "peers/lmeval"
    path = tmp_path / "mc_text.yaml"
    path.write_text(
        f"name: mc_text\nfile: {peer}/data/mc_test100.jsonl\nexamples: {peer}/data/mc_fewshot.jsonl\n"
        "question: '{question}'\nchoices: choices\nanswer: '{answer}'\nanswer_is: index\nlikelihood: texts\nshots: fixed\n"
        "num_fewshot: 5\n"
    )
    data = data_of(str(path))
    form = data.benchmark.forms["loglikelihood"]
    ours = [
        (data.prompt(index, "loglikelihood", 5, "fixed"), text)
        for index, row in enumerate(data.rows)
        for text in form.continuations(row)
    ]
    theirs = [json.loads(line) for line in (peer / "requests/mc_text.jsonl").read_text().splitlines()]
    assert ours == [(request["context"], request["continuation"]) for request in theirs]

    samples = [
        json.loads(line)
        for line in (peer / "reference/mc_text.bs1.t1.samples.jsonl").read_text().splitlines()
    ]
    correct = {"sum": 0, "per_character": 0}
    for sample in samples:
        row = data.rows[sample["doc_id"]]
        nats = [float(answer[0]) for answer in sample["filtered_resps"]]
        for rule in correct:
            correct[rule] += judge_likelihoods(nats, row.target, rule).outcome is Outcome.CORRECT
    assert correct == {"sum": 24, "per_character": 25}  # what lm-eval 0.4.13 reported for them


def test_open_question(tmp_path: Path):
    path = write(tmp_path, "question: 'What is {q}? Write \\boxed{42}.'\nanswer: '{a}'\nscorer: number\n")
    data = data_of(path)
    # Braces that name no column stay: LaTeX has many
    assert data.prompt(0, "generation", 0, "fixed") == "Question: What is 2+2? Write \\boxed{42}.\nAnswer:"


@pytest.mark.parametrize("answer", ["1", "B", "4"])
def test_the_right_choice_by_index_letter_or_text(tmp_path: Path, answer: str):
    path = write(
        tmp_path,
        "question: '{q}'\nchoices: o\nanswer: '{right}'\n",
        [{"q": "x", "o": ["3", "4"], "right": answer}],
    )
    assert data_of(path).rows[0].answer == "B"


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("question: '{q}'\n", "answer"),
        ("question: '{q}'\nanswer: '{a}'\nquestoin: x\n", "did you mean `question`"),
        ("question: '{q}'\nanswer: '{b}'\n", "no column `b`; there are q, a, o, n"),
        ("question: '{q}'\nanswer: '{a}'\nscorer: choice\n", "choices"),
        ("question: '{q}'\nanswer: '{q}'\nscorer: number\n", "not a number"),
        ("question: '{q}'\nanswer: 'Z'\nchoices: o\n", "none of the choices"),
        ("question: '{q}'\nanswer: '1'\nchoices: n\n", "say `answer_is: index`"),  # "1" is a text there too
        ("question: [\n", "not YAML"),
    ],
)
def test_mistakes_are_clear(tmp_path: Path, yaml: str, message: str):
    with pytest.raises(UserError) as error:
        data_of(write(tmp_path, yaml))
    assert message in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(UserError, match="No such file"):
        find_benchmark(str(tmp_path / "none.yaml"))
    path = write(tmp_path, "question: '{q}'\nanswer: '{a}'\n")
    (tmp_path / "rows.jsonl").write_text("not json")
    with pytest.raises(UserError, match="not readable as"):
        data_of(path)


def test_reasoning_gym_s_own_answers_are_right():
    pytest.importorskip("reasoning_gym")
    from stillmark.tasks.verdict import judge

    for name in ("chain_sum*20", "leg_counting*5"):
        data = data_of(f"reasoning_gym:{name}")
        scorer = data.benchmark.scorer
        for row in data.rows:
            assert judge(scorer, f"So <answer>{row.answer}</answer>", row.target, "stop").outcome == "correct"
            assert judge(scorer, "So <answer>-98765</answer>", row.target, "stop").outcome == "wrong"
            assert judge(scorer, "Let us add", row.target, "length").outcome == "truncated"
            assert judge(scorer, "", row.target, "stop").outcome == "unparsed"
    with pytest.raises(UserError, match="chain_sum"):
        find_benchmark("reasoning_gym:chain_sums")
