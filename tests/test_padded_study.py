"""A text study of models with sliding windows and padded output heads: every job's ledger against torch's own counter."""

import shutil
import sqlite3
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from tests.conftest import run_stillmark
from tests.test_text_study import RECIPE, opened
from tests.text_models import write_documents, write_given_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import MistralConfig, MistralForCausalLM

from stillmark.backends import kernels
from stillmark.distill import logit_capture
from stillmark.distill.corpus import read_corpus
from stillmark.distill.head import output_head
from stillmark.distill.logit_cache import Manifest
from stillmark.distill.processes import Processes
from stillmark.evaluate import text_quality
from stillmark.models.build import load_model
from stillmark.models.given import given_tokenizer
from stillmark.plan import Job, Plan
from stillmark.records import Store
from stillmark.report.disclosure import disclose
from stillmark.report.verify import verify
from stillmark.stages import do_job, text

train = import_module("stillmark.stages.train")  # the package has a function of this name
TOKENS, ROWS = 300, 512  # of the tokenizer, and of the heads


def write_model(folder: Path, *, seed: int, hidden_size: int) -> Path:
    write_given_model(folder, vocab_size=TOKENS)
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=ROWS, hidden_size=hidden_size, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=48, sliding_window=8, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0,
        pad_token_id=0,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("padded")
    pages, pairs = write_documents(folder)
    recipe = {**RECIPE, "train_flops": 3e7, "checkpoints": 1, "first_checkpoint": 1.0}
    student = {"kind": "distilled", "model": "small", "teacher": "teacher", "recipe": recipe}
    study = {
        "name": "padded", "seeds": [0], "threads": 1,
        "tasks": {"mixed": {"kind": "text", "context_tokens": 32, "test_sequences": 4, "train": [
            {"file": str(pages)}, {"file": str(pairs), "prompt": "question", "response": "answers",
                                   "held_out_share": 0.3}]}},
        "models": {
            "given": {"checkpoint": str(write_model(folder / "given", seed=1, hidden_size=40))},
            "small": {"checkpoint": str(write_model(folder / "small", seed=0, hidden_size=32))},
            "cut": {"pruned_from": "given", "num_hidden_layers": 2, "calibration_sequences": 4},
        },
        "arms": {
            "teacher": {"kind": "teacher", "model": "given"},
            "live": student,
            "cached": {**student, "recipe": {**recipe, "logit_cache": {"k": TOKENS}}},
            "pruned": {**student, "model": "cut", "base": "teacher"},
        },
        "conclusion": {"students": ["live", "cached", "pruned"]},
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    done = run_stillmark("run", folder / "study.yaml", "--out", folder / "run", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> tuple[Store, Plan]:
    shutil.copytree(run / "run", tmp_path / "run")
    _, plan = opened(run)
    return Store.create(tmp_path / "run" / "records.sqlite"), plan


@pytest.fixture
def _countable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch's counter sees: eager attention and MKL's products, and no head tried on a few tokens first."""

    def eager(folder: Path, sha256: str | None = None):
        model = load_model(folder, sha256)
        model.set_attn_implementation("eager")
        return model

    def final_model(store: Store, key: str):
        last = store.checkpoints(key)[-1]
        return eager(store.folder / last.path, last.sha256)

    monkeypatch.setattr(kernels, "is_onednn_faster", lambda: False)
    monkeypatch.setattr(text, "load_model", eager)
    for module in (text, train):
        monkeypatch.setattr(module, "final_model", final_model)
    for module in (text, text_quality, logit_capture):
        monkeypatch.setattr(module, "checked_output_head", output_head)


def forget(store: Store, job: Job, *tables: str) -> None:
    """As if the job had not been done."""
    with sqlite3.connect(store.folder / "records.sqlite") as connection:
        for table in tables:
            connection.execute(f"DELETE FROM {table} WHERE job_key = ?", (job.key,))
    connection.close()
    if job.stage == "capture":
        shutil.rmtree(text.capture_folder(store, job.key))


def counted_jobs(plan: Plan) -> list[Job]:
    return [job for job in plan.jobs.values() if job.stage in ("evaluate", "capture")]


@pytest.mark.usefixtures("_countable")
def test_the_ledger_has_what_reading_the_text_runs(copied: tuple[Store, Plan]):
    store, plan = copied
    for job in sorted(counted_jobs(plan), key=lambda job: job.stage == "evaluate"):
        forget(store, job, "ledger", "text_scores")
        work = text.capture if job.stage == "capture" else text.evaluate_text
        with FlopCounterMode(display=False) as counted:
            work(job, plan, store, lambda fraction: None, Processes())
        entries = store.ledger(job.key)
        assert sum(entry.flops for entry in entries) == counted.get_total_flops() > 0, (job.stage, job.arm)
        text._judges.clear()
    assert {job.inputs.get("split") for job in counted_jobs(plan)} == {None, "train", "test"}


@pytest.mark.usefixtures("_countable")
def test_the_ledger_has_what_pruning_runs(copied: tuple[Store, Plan]):
    store, plan = copied
    job = plan.jobs[plan.train_keys["pruned", 0]]
    forget(store, job, "ledger")
    with FlopCounterMode(display=False) as counted:
        train.starting_model(job, plan, store, Processes())
    (entry,) = store.ledger(job.key)
    assert entry.flops == counted.get_total_flops() > 0


def test_a_cache_holds_the_tokens_and_not_the_padding_of_a_head(run: Path):
    store, plan = opened(run)
    capture = plan.capture_keys["cached", 0]
    assert Manifest.read(text.capture_folder(store, capture)).vocab_size == TOKENS
    losses = [store.checkpoints(plan.train_keys[arm, 0])[-1].loss for arm in ("live", "cached")]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_key_says_how_many_rows_are_tokens_only_where_some_are_padding(run: Path):
    _, plan = opened(run)
    assert plan.task_key("live")["token_rows"] == TOKENS
    tokenizer = given_tokenizer(str(run / "given"))
    unpadded = read_corpus(plan.study.tasks["mixed"], tokenizer).resolved(TOKENS, tokenizer)
    assert "token_rows" not in unpadded.model_dump(exclude_defaults=True)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_capture_killed_before_it_was_marked_finished_is_not_done_again(
    copied: tuple[Store, Plan], split: str
):
    store, plan = copied
    (job,) = [job for job in plan.jobs.values() if job.stage == "capture" and job.inputs["split"] == split]
    before = store.ledger(job.key)
    do_job(job, plan, store)
    assert store.ledger(job.key) == before
    assert len(before) == 1


def test_the_run_is_disclosed_and_verified(run: Path, tmp_path: Path):
    made = disclose(run / "run", tmp_path / "padded.zip")
    assert [check for check in verify(made.path, made.digest) if check.outcome == "differs"] == []
