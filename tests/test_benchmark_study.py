"""Public benchmarks within a study: replies against `stillmark eval` of the same weights, and against the logits."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
import yaml
from tests.benchmark_tasks import WRITTEN, benchmark_study
from tests.conftest import run_stillmark
from tests.endpoint import chat_endpoint
from tests.text_models import write_given_model

from stillmark.analysis.conclusion import conclude_study
from stillmark.analysis.lineage import Lineage
from stillmark.compute.ledger import Boundary
from stillmark.models.build import load_model
from stillmark.models.given import given_tokenizer
from stillmark.records import Store
from stillmark.report.record_checks import check_records
from stillmark.report.text_answer import text_answer_of

PRICES = """api_tokens:
  - {model: large-1, vendor: nobody, input: 2.0, output: 8.0, read_on: 2026-11-26, source: this test}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "study.yaml").write_text(yaml.safe_dump(benchmark_study(folder)))
    done = run_stillmark("run", folder / "study.yaml", "--out", folder / "run", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


def jobs_of(folder: Path) -> tuple[Store, Lineage, dict]:
    store = Store.open(folder / "run")
    lineage = Lineage(store)
    return store, lineage, lineage.plan.benchmark_keys


def test_each_trained_model_answers_every_item_and_a_given_one_once(run: Path):
    store, _, keys = jobs_of(run)
    assert {(arm, at) for arm, _, _, at in keys} == {
        ("teacher", 0), *((arm, at) for arm in ("live", "live-control") for at in (0, 1))
    }  # fmt: skip
    for (arm, seed, name, at), key in keys.items():
        expected = 12 if "sums" in name else len(WRITTEN)
        assert len(store.samples(key)) == expected
        if arm == "teacher":
            assert key == keys[arm, 0, name, at]
        elif seed:
            assert key != keys[arm, 0, name, at]


def test_likelihoods_are_those_of_the_models_own_logits(run: Path):
    store, lineage, keys = jobs_of(run)
    key = keys["live", 1, f"{run}/sums.yaml@loglikelihood", 0]
    first = store.checkpoints(lineage.plan.train_keys["live", 1])[0]
    model, tokenizer = (
        load_model(store.folder / first.path, first.sha256),
        given_tokenizer(str(run / "given")),
    )
    for (_, _), detail in list(store.details(key).items())[:4]:
        sent = store.prompt(detail.prompt_sha256)
        assert sent is not None
        for letter, nats in zip("ABC", json.loads(detail.nats or ""), strict=True):
            prompt, whole = (
                tokenizer(text, add_special_tokens=False)["input_ids"] for text in (sent, f"{sent} {letter}")
            )
            with torch.no_grad():
                logp = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            own = sum(float(logp[place - 1, whole[place]]) for place in range(len(prompt), len(whole)))
            assert nats == pytest.approx(own, abs=1e-4)


@pytest.mark.slow
def test_stillmark_eval_of_the_same_weights_says_the_same(run: Path, tmp_path: Path):
    store, lineage, keys = jobs_of(run)
    for name in (f"{run}/sums.yaml@loglikelihood", f"{run}/words.yaml"):
        last = store.checkpoints(lineage.plan.train_keys["live", 1])[-1]
        done = run_stillmark("eval", "--model", store.folder / last.path, "--tasks", name, "--limit", 12,
                             "--max-new-tokens", 8, "--out", tmp_path / "eval", "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        (result,) = [
            row for row in json.loads(done.stdout)["results"] if row["task"] in name.rpartition("/")[2]
        ]
        samples = store.samples(keys["live", 1, name, 1])
        correct = sum(sample.outcome == "correct" for sample in samples)
        assert result["accuracy"]["value"] == pytest.approx(correct / len(samples))
        evaluated = Store.open(tmp_path / "eval")
        replies = {
            sample.item_id: (sample.response, sample.outcome)
            for sample in evaluated.samples(result["job_key"])
        }
        assert {sample.item_id: (sample.response, sample.outcome) for sample in samples} == replies


def test_the_conclusion_counts_what_the_replies_are(run: Path):
    store, _, keys = jobs_of(run)
    found = conclude_study(store)["benchmarks"]
    assert len(found["results"]) == 3 * 2
    for row in found["results"]:
        own = {
            key for (arm, _, name, at), key in keys.items()
            if arm == row["arm"] and at == (0 if arm == "teacher" else 1) and name.replace(f"{run}/", "").replace(".yaml", "") == row["benchmark"]
        }  # fmt: skip
        outcomes = [sample.outcome for key in own for sample in store.samples(key)]
        assert row["num_runs"] == len(own) == (1 if row["arm"] == "teacher" else 2)
        assert row["accuracy"]["value"] == pytest.approx(outcomes.count("correct") / len(outcomes))
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
        flops = [detail.flops for key in own for detail in store.details(key).values()]
        num_correct = outcomes.count("correct")
        assert row["flops_per_correct"] == (pytest.approx(sum(flops) / num_correct) if num_correct else None)
        assert row["chance"] == (pytest.approx(1 / 3) if "sums" in row["benchmark"] else None)
    by_pair = {
        (row["benchmark"], row["arm"], row["other"]): row["difference"] for row in found["differences"]
    }
    values = {(row["benchmark"], row["arm"]): row["accuracy"]["value"] for row in found["results"]}
    assert {key[1:] for key in by_pair} == {("live", "live-control"), ("live", "teacher")}
    for (name, arm, other), difference in by_pair.items():
        assert difference["value"] == pytest.approx(values[name, arm] - values[name, other])


def test_accuracy_along_training_is_that_of_each_checkpoint_and_ratios_follow_from_it(run: Path):
    store, lineage, keys = jobs_of(run)
    found = conclude_study(store)["benchmarks"]
    assert {(row["arm"], row["checkpoint"]) for row in found["curve"]} == {
        (arm, at) for arm in ("live", "live-control") for at in (0, 1)
    }
    for row in found["curve"]:
        name = next(name for name in lineage.study.benchmarks.tasks if f"/{row['benchmark'].replace('@', '.yaml@')}" in name
                    or f"/{row['benchmark']}.yaml" in name)  # fmt: skip
        outcomes = [
            s.outcome
            for seed in (0, 1)
            for s in store.samples(keys[row["arm"], seed, name, row["checkpoint"]])
        ]
        assert row["accuracy"]["value"] == pytest.approx(outcomes.count("correct") / len(outcomes))
        spent = [lineage.checkpoint_costs(row["arm"], seed)[row["checkpoint"]] for seed in (0, 1)]
        flops = [cost.within(Boundary.STUDENT).flops for cost in spent]
        assert row["flops"]["student"] == pytest.approx(sum(flops) / 2)
    boundaries = {(row["boundary"], row["text"] == "unknown") for row in found["ratios"]}
    assert {("student", False), ("generation", False), ("base", True), ("everything", True)} <= boundaries


def test_the_page_the_tables_and_the_answer_have_them(run: Path):
    page = (run / "run" / "report.html").read_text()
    assert 'id="benchmarks"' in page
    assert "By guessing" in page
    assert (run / "run" / "tables" / "benchmarks.csv").read_text().count("\n") == 7
    answer = text_answer_of(json.loads((run / "run" / "conclusion.json").read_text()))
    assert any(
        "On sums@loglikelihood (12 items, where guessing gives 33.3%)" in line for line in answer.details
    )
    shown = run_stillmark("show", run / "run")
    assert "Accuracy on public benchmarks" in shown.stdout


def test_verify_agrees_and_finds_another_outcome_another_count_and_a_missing_reply(run: Path, tmp_path: Path):
    agreeing = {check.name: check.outcome for check in check_records(Store.open(run / "run"))}
    assert agreeing["replies to benchmarks, graded again"] == "agrees"
    tampered = (
        (["UPDATE samples SET outcome = CASE outcome WHEN 'correct' THEN 'wrong' ELSE 'correct' END"],
         "replies to benchmarks, graded again"),
        (["UPDATE samples SET generated_tokens = generated_tokens + 1"],
         "tokens and FLOPs of replies to benchmarks add up"),
        (["DELETE FROM sample_details", "DELETE FROM samples"],
         "every item of a benchmark is asked, once, and the same of every model"),
    )  # fmt: skip
    for index, (statements, check) in enumerate(tampered):
        copy = tmp_path / str(index)
        copy.mkdir()
        shutil.copy(run / "run" / "records.sqlite", copy)
        connection = sqlite3.connect(copy / "records.sqlite")
        chosen = connection.execute("SELECT job_key, item_id FROM samples LIMIT 1").fetchone()
        for statement in statements:
            connection.execute(f"{statement} WHERE job_key = ? AND item_id = ?", chosen)
        connection.commit()
        connection.close()
        found = {row.name: row.outcome for row in check_records(Store.open(copy))}
        assert found[check] == "differs"


def test_verify_needs_neither_the_users_yaml_nor_its_rows(run: Path, tmp_path: Path):
    shutil.copy(run / "run" / "records.sqlite", tmp_path)
    held = [(file, file.read_bytes()) for file in run.glob("*.yaml") if file.name != "study.yaml"]
    for file, _ in held:
        file.unlink()
    try:
        found = {row.name: row.outcome for row in check_records(Store.open(tmp_path))}
    finally:
        for file, content in held:
            file.write_bytes(content)
    assert found["replies to benchmarks, graded again"] == "agrees"
    assert "differs" not in found.values()


@pytest.mark.slow
def test_run_again_asks_nothing_and_a_larger_limit_trains_nothing(run: Path):
    again = run_stillmark("run", run / "study.yaml", "--out", run / "run", "--workers", "1")
    assert again.returncode == 0, again.stderr
    store = Store.open(run / "run")
    trained = {job.key: job.finished_at for job in store.jobs() if job.stage == "train"}
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["benchmarks"]["limit"] = 14
    changed = run / "changed.yaml"
    changed.write_text(yaml.safe_dump(study))
    shutil.copytree(run / "run", run / "more")
    done = run_stillmark("run", changed, "--out", run / "more", "--workers", "1")
    assert done.returncode == 0, done.stderr
    more = Store.open(run / "more")
    assert {job.key: job.finished_at for job in more.jobs() if job.stage == "train"} == trained
    lineage = Lineage(more)
    assert (
        len(more.samples(lineage.plan.benchmark_keys["live", 0, f"{run}/sums.yaml@loglikelihood", 1])) == 14
    )


def test_verify_is_not_told_that_a_reply_failed(run: Path, tmp_path: Path):
    """An outcome is nobody's to choose, by calling the engine's reply a failure either."""
    shutil.copy(run / "run" / "records.sqlite", tmp_path)
    connection = sqlite3.connect(tmp_path / "records.sqlite")
    connection.execute("UPDATE samples SET outcome = 'error', stop_reason = 'error' WHERE outcome = 'wrong'")
    connection.commit()
    connection.close()
    found = {row.name: row.outcome for row in check_records(Store.open(tmp_path))}
    assert found["replies to benchmarks, graded again"] == "differs"


def with_others(folder: Path, others: dict) -> Path:
    """The study, its written benchmark alone, with models beside it that are no arms."""
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["benchmarks"] |= {"tasks": [f"{folder}/words.yaml"], "others": others}
    path = folder / "others.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.mark.slow
def test_a_model_that_is_no_arm_answers_the_same_items(run: Path, tmp_path: Path):
    other = write_given_model(tmp_path / "other", seed=3, hidden_size=48)
    shutil.copytree(run / "run", tmp_path / "run")
    path = with_others(run, {"large": {"model": str(other)}})
    done = run_stillmark("run", path, "--out", tmp_path / "run", "--workers", "1")
    assert done.returncode == 0, done.stderr
    store = Store.open(tmp_path / "run")
    found = conclude_study(store)["benchmarks"]
    assert {row["arm"] for row in found["results"]} == {"teacher", "live", "live-control", "large"}
    assert ("live", "large", "other") in {
        (row["arm"], row["other"], row["role"]) for row in found["differences"]
    }
    evaluated = run_stillmark("eval", "--model", other, "--tasks", f"{run}/words.yaml", "--max-new-tokens", 8,
                              "--out", tmp_path / "eval", "--json")  # fmt: skip
    key = Lineage(store).plan.benchmark_keys["large", 0, f"{run}/words.yaml", None]
    replies = {sample.item_id: sample.response for sample in store.samples(key)}
    job_key = json.loads(evaluated.stdout)["results"][0]["job_key"]
    assert replies == {s.item_id: s.response for s in Store.open(tmp_path / "eval").samples(job_key)}
    assert {check.outcome for check in check_records(store) if "benchmark" in check.name} == {"agrees"}


@pytest.mark.slow
def test_an_endpoint_answers_is_priced_and_is_asked_again_for_what_failed(run: Path, tmp_path: Path):
    pytest.importorskip("openai")
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    variables = {"PROPRIETARY_KEY": "very-secret", "STILLMARK_PRICES": str(prices)}
    shutil.copytree(run / "run", tmp_path / "run")
    failing = {"maps"}

    def reply(prompt: str) -> str | None:
        word = prompt.split("Write ")[-1].split(" again")[0]
        return None if word in failing else f"It is {word}."

    with chat_endpoint(reply) as (url, asked):
        other = {"model": "large-1", "engine": "openai", "base_url": url, "key_variable": "PROPRIETARY_KEY"}
        other |= {"price_model": "large-1"}
        path = with_others(run, {"proprietary": other})
        first = run_stillmark("run", path, "--out", tmp_path / "run", "--workers", "1", **variables)
        assert first.returncode == 0, first.stderr
        assert Lineage(Store.open(tmp_path / "run")).unfinished == []
        store = Store.open(tmp_path / "run")
        (row,) = [
            row for row in conclude_study(store)["benchmarks"]["results"] if row["arm"] == "proprietary"
        ]
        assert row["outcomes"] == {"correct": 3, "error": 1}
        assert row["accuracy"]["value"] == 1.0  # of those that were answered
        failing.clear()
        asked.clear()
        again = run_stillmark("run", path, "--out", tmp_path / "run", "--workers", "1", **variables)
        assert again.returncode == 0, again.stderr
        assert len(asked) == 1  # what was paid for is not paid for again
    store = Store.open(tmp_path / "run")
    (row,) = [row for row in conclude_study(store)["benchmarks"]["results"] if row["arm"] == "proprietary"]
    assert row["accuracy"]["value"] == 1.0
    key = Lineage(store).plan.benchmark_keys["proprietary", 0, f"{run}/words.yaml", None]
    samples = store.samples(key)
    own = sum(2e-6 * sample.prompt_tokens + 8e-6 * sample.generated_tokens for sample in samples) / len(
        samples
    )
    assert row["answer_usd"] == pytest.approx(own)
    assert row["usd_per_correct"] == pytest.approx(own)
    assert row["answer_flops"] is None
    everything = b"".join(file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file())
    assert b"very-secret" not in everything
