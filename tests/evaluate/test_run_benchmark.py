"""Evaluation end to end with an engine whose replies are known: nothing lost, doubled or mixed up."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from tests.evaluate.fakes import FakeBackend, fake_model

from stillmark.backends.protocol import Loglikelihood
from stillmark.errors import UserError
from stillmark.evaluate.cache import CachedBackend
from stillmark.evaluate.compare import answers_of, compare_answers, latest_answers
from stillmark.evaluate.model import Chat
from stillmark.evaluate.rescore import accuracy_at_budgets, rescore
from stillmark.evaluate.run_benchmark import EvalSettings, make_job, run_job
from stillmark.evaluate.summary import evaluation_jobs, results
from stillmark.records import Store
from stillmark.tasks.benchmark import BenchmarkData
from stillmark.tasks.choice_scorer import choice_target, judge_likelihoods
from stillmark.tasks.registry import find_benchmark

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def task(tmp_path: Path) -> str:
    """Seventy sums: a user's task in a JSONL and some lines of YAML."""
    rows = [json.dumps({"a": a, "b": b, "sum": a + b}) for a in range(10) for b in range(7)]
    (tmp_path / "sums.jsonl").write_text("\n".join(rows))
    path = tmp_path / "sums.yaml"
    path.write_text(
        "name: sums\nfile: sums.jsonl\nquestion: '{a}+{b}?'\nanswer: '{sum}'\nscorer: number\nnum_fewshot: 2\n"
    )
    return str(path)


def adds(prompt: str) -> str:
    """Right where the first number is even; else thinks on for ever."""
    first, second = prompt.rpartition("Question: ")[2].partition("?")[0].split("+")
    if int(first) % 2:
        return "<think>" + "hm " * 100
    return f"<think>{first} and {second}</think>#### {int(first) + int(second)}."


def job_of(task: str, model, **settings):
    benchmark, mode = find_benchmark(task)
    return make_job(model, BenchmarkData(benchmark, None), mode, EvalSettings(**settings), reference=task)


def run(store: Store, job, **options) -> None:
    for _ in run_job(store, job, **options):
        pass


def test_counts_tokens_and_outcomes(tmp_path, task):
    store = Store.create(tmp_path / "records.sqlite")
    run(store, job_of(task, fake_model(FakeBackend(adds)), max_new_tokens=100))
    (result,) = results(store)
    assert (result.num_items, result.num_samples) == (70, 70)
    assert result.outcomes == {"correct": 35, "wrong": 0, "truncated": 35, "unparsed": 0, "error": 0}
    assert result.accuracy is not None
    assert result.accuracy.value == 0.5
    assert result.mean_seconds == pytest.approx(0.3)
    assert result.mean_flops is None  # the fake has no shape: unknown, not 0
    assert result.mean_thinking_tokens == pytest.approx((35 * len("2 and 2") + 35 * 93) / 70)
    sample = store.samples(result.job_key)[0]
    detail = store.details(result.job_key)[sample.item_id, 0]
    assert store.prompt(detail.prompt_sha256).endswith("Question: 0+0?\nAnswer:")
    assert store.prompt(detail.prompt_sha256).count("Question:") == 3


def test_stopped_and_gone_on_is_the_same_as_one_run(tmp_path, task):
    whole, parts = Store.create(tmp_path / "a.sqlite"), Store.create(tmp_path / "b.sqlite")
    run(whole, job_of(task, fake_model(FakeBackend(adds))))
    with pytest.raises(KeyboardInterrupt):
        run(parts, job_of(task, fake_model(FakeBackend(adds, fail_after=50))))
    again = FakeBackend(adds)
    job = job_of(task, fake_model(again))
    assert len(parts.samples(job.key)) == 36  # the chunks that were finished, of 4 and of 32
    run(parts, job)
    assert len(again.prompts) == 34
    assert whole.samples(job.key) == parts.samples(job.key)
    assert len(parts.ledger(job.key)) == 4


def test_a_larger_limit_goes_on_from_a_smaller_one(tmp_path, task):
    store, backend = Store.create(tmp_path / "records.sqlite"), FakeBackend(adds)
    job = job_of(task, fake_model(backend))
    run(store, job, limit=10)
    first = {sample.item_id for sample in store.samples(job.key)}
    run(store, job, limit=30)
    assert len(backend.prompts) == 30
    assert first < {sample.item_id for sample in store.samples(job.key)}


def test_two_models_never_share_an_answer(tmp_path, task):
    """lm-evaluation-harness#2715: there the response cache serves one model's answers as another's."""
    store, cache = Store.create(tmp_path / "records.sqlite"), tmp_path / "cache.sqlite"
    right, wrong = FakeBackend(adds), FakeBackend(lambda prompt: "#### 1000 apples")
    for name, backend in (("right", right), ("wrong", wrong), ("right", right)):
        model = fake_model(CachedBackend(backend, {"weights": name}, cache), name)
        run(store, job_of(task, model))
    counts = {result.label: result.outcomes["correct"] for result in results(store)}
    assert counts == {"right": 35, "wrong": 0}
    other = Store.create(tmp_path / "other.sqlite")
    run(other, job_of(task, fake_model(CachedBackend(right, {"weights": "right"}, cache), "right")))
    assert len(right.prompts) == 70  # not asked again
    (result,) = results(other)
    assert (result.num_cached, result.outcomes["correct"]) == (70, 35)
    run(other, job_of(task, fake_model(CachedBackend(right, {"weights": "right"}, cache), "right"), seed=1))
    assert len(right.prompts) == 140  # another setting is another request


def test_a_failing_engine_is_an_error_and_asked_again(tmp_path, task):
    store = Store.create(tmp_path / "records.sqlite")
    backend = FakeBackend(adds)
    whole = backend.generate

    def failing(prompts, sampling):
        replies = whole(prompts, sampling)
        bad = type(replies[0][0])(
            text="", stop_reason="error", prompt_tokens=1, generated_tokens=0, error="connection reset"
        )
        return [[bad], *replies[1:]]

    backend.generate = failing
    job = job_of(task, fake_model(backend))
    run(store, job)
    (result,) = results(store)
    assert result.outcomes["error"] == 4  # one a chunk
    assert result.accuracy.value == pytest.approx(result.outcomes["correct"] / 66)
    backend.generate = whole
    run(store, job)
    (result,) = results(store)
    assert result.outcomes == {"correct": 35, "wrong": 0, "truncated": 35, "unparsed": 0, "error": 0}


def test_paired_comparison_of_two_models(tmp_path, task):
    store = Store.create(tmp_path / "records.sqlite")
    for name, answer in (("half", adds), ("none", lambda prompt: "no idea")):
        run(store, job_of(task, fake_model(FakeBackend(answer), name)))
    first, second = ({"sums": answers_of(store, job)} for job in evaluation_jobs(store))
    compared, cautions = compare_answers(first, second)
    result = compared["sums"]
    assert (result.num_items, result.num_first_only, result.num_second_only) == (70, 35, 0)
    assert result.p_value == pytest.approx(2 / 2**35)
    assert (result.verdict, cautions) == ("better", [])


def test_accuracy_at_a_budget_is_that_of_a_run_with_that_limit(tmp_path, task):
    store = Store.create(tmp_path / "records.sqlite")
    long = job_of(task, fake_model(FakeBackend(adds)), max_new_tokens=100)
    run(store, long)
    (record,) = evaluation_jobs(store)
    for point in accuracy_at_budgets(store, record):
        short = Store.create(tmp_path / f"{point.max_new_tokens}.sqlite")
        run(short, job_of(task, fake_model(FakeBackend(adds)), max_new_tokens=point.max_new_tokens))
        (result,) = results(short)
        assert (point.outcomes, point.accuracy) == (result.outcomes, result.accuracy)
    assert [point.max_new_tokens for point in accuracy_at_budgets(store, record)] == [16, 32, 64]


def test_rescoring_needs_no_torch_and_undoes_a_wrong_grade(tmp_path, task):
    store = Store.create(tmp_path / "records.sqlite")
    run(store, job_of(task, fake_model(FakeBackend(adds))))
    with store.transaction():
        store.connection.execute("UPDATE samples SET outcome = 'wrong' WHERE outcome = 'correct'")
    store.close()
    code = (
        "import sys, pathlib; from stillmark.evaluate.rescore import rescore; from stillmark.records import Store\n"
        f"job, = rescore(Store.open(pathlib.Path({str(tmp_path)!r}))); print(len(job.changes))\n"
        "heavy = {'torch', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "35\n"
    again = Store.open(tmp_path)
    assert results(again)[0].outcomes["correct"] == 35
    assert rescore(again)[0].changes == []


def test_chat_template_is_applied_and_recorded(tmp_path, task):
    store, backend = Store.create(tmp_path / "records.sqlite"), FakeBackend(adds)
    chat = Chat(template="<user>{}<assistant>", apply=lambda prompt: f"<user>{prompt}<assistant>")
    job = job_of(task, fake_model(backend, chat=chat))
    run(store, job, limit=1)
    assert backend.prompts[0].startswith("<user>")
    assert store.jobs()[0].inputs["chat_template"] == chat.template
    plain = job_of(task, fake_model(backend, chat=chat), chat="never")
    assert plain.key != job.key
    assert not plain.sent(0).startswith("<user>")


def test_pass_and_majority_of_several_samples(tmp_path, task):
    store = Store.create(tmp_path / "records.sqlite")
    backend = FakeBackend(adds)
    whole = backend.generate

    def varied(prompts, sampling):
        """Of four samples the first is right where `adds` is, the others agree on 1000."""
        replies = whole(prompts, sampling)
        wrong = [whole_reply(group[0], "#### 1000 it is") for group in replies]
        return [[group[0], bad, bad, bad] for group, bad in zip(replies, wrong, strict=True)]

    def whole_reply(reply, text):
        return type(reply)(text=text, stop_reason="stop", prompt_tokens=1, generated_tokens=len(text) + 1)

    backend.generate = varied
    run(store, job_of(task, fake_model(backend), num_samples=4, temperature=1.0))
    (result,) = results(store)
    assert result.accuracy.value == pytest.approx(35 / 280)
    assert result.at_k["pass@4"].value == pytest.approx(0.5)
    assert result.at_k["pass@2"].value == pytest.approx(0.25)
    assert result.at_k["maj@4"].value == 0


def test_forms_and_engines_are_compared_on_the_same_items(tmp_path):
    """Generation against loglikelihood: items by hand, so every number has a closed form (Bonett-Price, McNemar)."""
    rows = [{"q": f"item {n}", "options": ["x", "xx"], "right": 0 if n < 30 else 1} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "pick.yaml").write_text(
        "name: pick\nfile: rows.jsonl\nquestion: '{q}'\nchoices: options\nanswer: '{right}'\nanswer_is: index\n"
    )

    def write(prompt: str) -> str:  # right on items 0-14 and 30-39
        number = int(prompt.rpartition("item ")[2].split("\n")[0])
        return f"The answer is ({'A' if number < 15 else 'B'})."

    backend = FakeBackend(write)
    backend.loglikelihood = lambda requests: [  # the letter A is always likelier: right on 0-29
        Loglikelihood(
            loglikelihood=-1.0 if text == " A" else -2.0,
            is_greedy=False,
            prompt_tokens=1,
            continuation_tokens=1,
        )
        for _, text in requests
    ]
    store = Store.create(tmp_path / "records.sqlite")
    task = str(tmp_path / "pick.yaml")
    for mode in ("loglikelihood", "generation"):
        run(store, job_of(f"{task}@{mode}", fake_model(backend)))
    written = latest_answers(store, mode="generation")
    scored = latest_answers(store, mode="loglikelihood")
    compared, cautions = compare_answers(written, scored)
    (result,) = compared.values()
    # 15 right in both, 10 by generation alone, 15 by loglikelihood alone
    assert (result.num_items, result.num_first_only, result.num_second_only) == (40, 10, 15)
    assert result.difference.value == pytest.approx(-5 / 40)
    assert result.p_value == pytest.approx(2 * sum(math.comb(25, k) for k in range(11)) / 2**25)
    centre = (10 - 15) / 42
    half = 1.959964 * math.sqrt(((10 + 15 + 2) / 42 - centre**2) / 42)
    assert result.difference.low == pytest.approx(centre - half, abs=1e-6)
    assert result.difference.high == pytest.approx(centre + half, abs=1e-6)
    assert any("mode differs: generation against loglikelihood" in text for text in cautions)
    itself, cautions = compare_answers(written, latest_answers(store, mode="generation"))
    assert next(iter(itself.values())).difference.value == 0
    assert any("the same run" in text for text in cautions)
    with pytest.raises(UserError, match="no evaluation by generation"):
        latest_answers(Store.create(tmp_path / "empty.sqlite"), mode="generation")


def test_forty_choices_by_likelihood_and_none_left_out_by_letter(tmp_path):
    rows = [
        {"q": f"item {n}", "options": ["x" * (40 - k) for k in range(40)], "right": 39 if n % 2 else 27}
        for n in range(6)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = "name: many\nfile: rows.jsonl\nquestion: '{q}'\nchoices: options\nanswer: '{right}'\nanswer_is: index\n"
    (tmp_path / "texts.yaml").write_text(text + "likelihood: texts\n")
    (tmp_path / "letters.yaml").write_text(text)
    backend = FakeBackend(lambda prompt: "no")
    backend.loglikelihood = (
        lambda requests: [  # nats a character: the shortest, the last of forty, is likeliest
            Loglikelihood(
                loglikelihood=-(float(len(t)) ** 2), is_greedy=False, prompt_tokens=1, continuation_tokens=1
            )
            for _, t in requests
        ]
    )
    store = Store.create(tmp_path / "records.sqlite")
    run(store, job_of(str(tmp_path / "texts.yaml"), fake_model(backend)))
    (result,) = results(store)
    assert result.outcomes["correct"] == 3
    assert {sample.response for sample in store.samples(result.job_key)} == {"AN"}  # the fortieth label
    with pytest.raises(UserError, match="40 choices, and letters name 26"):
        run(store, job_of(str(tmp_path / "letters.yaml"), fake_model(backend)))


def test_a_likelihood_that_is_not_a_number_is_an_error_and_no_choice(tmp_path):
    assert judge_likelihoods([-1.0, math.nan], choice_target(0, ["a", "b"]), "sum").outcome == "error"
    assert judge_likelihoods([-1.0, -2.0], choice_target(0, ["a", "b"]), "sum").outcome == "correct"
