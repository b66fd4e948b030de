"""`--tasks lm_eval:NAME` from the command line, against lm-eval's own Hugging Face model on the same requests."""

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="needs the extra `lm-eval`: pip install 'lm-eval[hf]==0.4.13'")

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tests.backends.tiny import char_tokenizer, tiny_model
from typer.testing import CliRunner

from stillmark.cli import app
from stillmark.records import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # lm-eval's and datasets' own
CHOICE = """output_type: multiple_choice
doc_to_text: "{{q}}:"
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
WRITTEN = """output_type: generate_until
doc_to_text: "{{q}}:"
doc_to_target: "{{written}}"
generation_kwargs: {until: ["q", "\\n"], max_gen_toks: 8, do_sample: false}
filter_list:
  - {name: digit, filter: [{function: regex, regex_pattern: "([0-9])"}, {function: take_first}]}
  - {name: whole, filter: [{function: take_first}]}
metric_list: [{metric: exact_match}]
"""
ROLLING = """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{q}}"
metric_list: [{metric: word_perplexity}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm_eval")
    for seed in (0, 1):
        tiny_model("llama", seed=seed).save_pretrained(path / f"model{seed}")
        char_tokenizer().save_pretrained(path / f"model{seed}")
    tasks = path / "tasks"
    tasks.mkdir()
    rows = [
        {"q": chr(97 + i) * (i % 4 + 1), "choices": ["ab", "cde", "f"], "gold": i % 3, "written": str(i % 10)}
        for i in range(12)
    ]
    (tasks / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, body in (("choice", CHOICE), ("written", WRITTEN), ("rolling", ROLLING)):
        data = f"dataset_kwargs: {{data_files: {{test: {tasks}/rows.jsonl}}}}\n"
        head = f"task: tiny_{name}\ndataset_path: json\n{data}test_split: test\n"
        (tasks / f"{name}.yaml").write_text(head + body)
    return path


def evaluate(folder: Path, out: Path, *more: str, model: str = "model0") -> dict:
    options = ["--model", str(folder / model), "--data", str(folder / "tasks"), "--out", str(out), "--json"]
    done = CliRunner().invoke(app, ["eval", *options, *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> dict:
    model = HFLM(pretrained=str(folder / "model0"), batch_size=1, device="cpu", dtype="float32")
    manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
    names = ["tiny_choice", "tiny_written", "tiny_rolling"]
    return lm_eval.simple_evaluate(model=model, tasks=names, task_manager=manager, bootstrap_iters=0)


def test_scores_replies_and_likelihoods_are_theirs(folder: Path, theirs: dict, tmp_path: Path):
    said = evaluate(
        folder, tmp_path, "--tasks", "lm_eval:tiny_choice,lm_eval:tiny_written,lm_eval:tiny_rolling"
    )
    values = {(result["task"], result["metric"]): result["value"] for result in said["lm_eval"]}
    assert values["tiny_choice", "acc,none"] == theirs["results"]["tiny_choice"]["acc,none"]
    assert values["tiny_choice", "acc_norm,none"] == theirs["results"]["tiny_choice"]["acc_norm,none"]
    for name in ("digit", "whole"):
        metric = f"exact_match,{name}"
        assert values["tiny_written", metric] == theirs["results"]["tiny_written"][metric]
    expected = theirs["results"]["tiny_rolling"]["word_perplexity,none"]
    assert values["tiny_rolling", "word_perplexity,none"] == pytest.approx(expected, rel=1e-3)

    results = {result["task"]: result for result in said["results"]}
    assert set(results) == {"lm_eval:tiny_choice", "lm_eval:tiny_written"}
    assert "lm_eval:tiny_rolling has no outcomes" in said["notes"][0]
    assert "loglikelihood_rolling" in said["notes"][0]
    for task, metric in (("tiny_choice", "acc,none"), ("tiny_written", "exact_match,digit")):
        result = results[f"lm_eval:{task}"]
        assert result["accuracy"]["value"] == theirs["results"][task][metric]
        assert sum(result["outcomes"].values()) == result["num_items"] == 12
        assert result["mean_flops"] > 0
        assert result["mean_seconds"] > 0

    store = Store.open(tmp_path)
    choice, written = (results[f"lm_eval:tiny_{name}"]["job_key"] for name in ("choice", "written"))
    for key in (choice, written):  # as it was run: what prompts share once
        (entry,) = store.ledger(key)
        assert entry.flops > 0
        assert 0 < entry.positions < entry.tokens
    logged = {sample["doc_id"]: sample for sample in theirs["samples"]["tiny_choice"]}
    details = store.details(choice)
    for sample in store.samples(choice):
        nats = json.loads(details[sample.item_id, 0].nats)
        assert nats == pytest.approx([resp[0][0] for resp in logged[sample.position]["resps"]], abs=1e-3)
        assert (sample.outcome == "correct") == (logged[sample.position]["acc"] == 1.0)
    by_filter = {(sample["doc_id"], sample["filter"]): sample for sample in theirs["samples"]["tiny_written"]}
    for sample in store.samples(written):
        their_reply = by_filter[sample.position, "digit"]
        assert sample.response == their_reply["resps"][0][0]
        found = their_reply["filtered_resps"][0] != "[invalid]"
        right = their_reply["exact_match"] == 1.0
        missing = "truncated" if sample.stop_reason == "length" else "unparsed"
        assert sample.outcome == ("correct" if right else "wrong" if found else missing)
    assert len({sample.outcome for sample in store.samples(written)}) > 1
    store.close()


def test_against_rescore_and_a_changed_task(folder: Path, tmp_path: Path):
    names = "lm_eval:tiny_choice,lm_eval:tiny_written"
    first = evaluate(folder, tmp_path / "a", "--tasks", names)
    again = evaluate(folder, tmp_path / "a", "--tasks", names)  # nothing is run or recorded twice
    assert again["results"] == first["results"]
    both = evaluate(
        folder, tmp_path / "b", "--tasks", names, "--against", str(tmp_path / "a"), model="model1"
    )
    assert both["comparison"]["beware"] == []
    for task, compared in both["comparison"]["tasks"].items():
        ours, theirs = (
            next(r["accuracy"]["value"] for r in run["results"] if r["task"] == task.partition("@")[0])
            for run in (both, first)
        )
        assert compared["num_items"] == 12
        assert compared["difference"]["value"] == pytest.approx(ours - theirs)
    done = CliRunner().invoke(app, ["rescore", str(tmp_path / "a"), "--json"], catch_exceptions=False)
    assert all("alone can grade" in job["left_as_is"] for job in json.loads(done.stdout)["changes"])

    rows = folder / "tasks" / "rows.jsonl"
    before = rows.read_text()
    rows.write_text("\n".join(before.splitlines()[:5]))
    changed = evaluate(folder, tmp_path / "a", "--tasks", "lm_eval:tiny_choice")
    rows.write_text(before)
    assert changed["results"][0]["num_items"] == 5
