"""Files that a run's later jobs read are gone: what makes them is done again, and the run ends as one without harm."""

import shutil
from pathlib import Path

import pytest
from tests.test_runner import records
from tests.text_models import write_documents, write_given_model

from stillmark.distilled import budgeted_study
from stillmark.plan import Plan
from stillmark.records import Store
from stillmark.runner import run_study
from stillmark.stages.lost import forget_lost
from stillmark.study import Study
from stillmark.study.distill import DistillRequest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    _, pairs = write_documents(folder)
    request = DistillRequest(
        teacher=str(write_given_model(folder / "given")), num_hidden_layers=2, data=(str(pairs),), prompt="question",
        response="answers", batch_samples=4, context_tokens=32, held_out_share=0.2, threads=1, learning_rate=1e-3,
        logit_cache_k=8,
    )  # fmt: skip
    run_study(budgeted_study(request, 1), "", folder / "whole", workers=1, quiet=True)
    return folder / "whole"


def test_what_nothing_to_come_reads_is_not_made_again(whole: Path, tmp_path: Path):
    """A teacher that was deleted to make room, when its cache is all that is learnt from."""
    folder = shutil.copytree(whole, tmp_path / "run")
    store = Store.open(folder)
    plan = Plan(Study.model_validate(store.study()[1]))
    shutil.rmtree(folder / "models")
    train = plan.train_keys["student", 0]
    cached = plan.capture_keys["student", 0]
    assert forget_lost(plan, store, set(), set()) == set()
    teacher = plan.train_keys["teacher", 0]
    assert forget_lost(plan, store, set(), {train}) == {train, teacher}  # it starts from it
    assert forget_lost(plan, store, {train, teacher}, set()) == set()
    assert store.ledger(cached)
    store.close()


@pytest.mark.parametrize(
    ("stages", "pattern"),
    [
        (
            ["evaluate"],
            "models/{adopt}",
        ),  # its head turns the captured hidden states into what the judge says
        (["train", "evaluate"], "captures/*/manifest.json"),
        (["train", "evaluate"], "captures/*/chunks.jsonl"),
    ],
)
def test_what_is_read_is_made_again(whole: Path, tmp_path: Path, stages: list[str], pattern: str):
    """`stages` of the student are as if they had not begun."""
    folder = shutil.copytree(whole, tmp_path / "run")
    store = Store.open(folder)
    plan = Plan(Study.model_validate(store.study()[1]))
    (adopt,) = (job.key for job in plan.jobs.values() if job.stage == "adopt")
    with store.transaction():
        for job in plan.jobs.values():
            if job.arm == "student" and job.stage in stages:
                store.connection.execute("DELETE FROM text_scores WHERE job_key = ?", (job.key,))
                store.connection.execute("DELETE FROM ledger WHERE job_key = ?", (job.key,))
                store.connection.execute("DELETE FROM checkpoints WHERE job_key = ?", (job.key,))
                store.connection.execute("UPDATE jobs SET finished_at = NULL WHERE key = ?", (job.key,))
    store.close()
    (path,) = folder.glob(pattern.format(adopt=adopt))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_study(plan.study, "", folder, workers=1, quiet=True)
    expected, found = records(whole), records(folder)
    for table in expected:
        assert found[table] == expected[table], table
