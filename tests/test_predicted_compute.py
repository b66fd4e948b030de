"""What a plan predicts, and what a control is given, against what training was counted to take, recipe by recipe."""

from pathlib import Path

import pytest
import yaml
from tests.conftest import run_stillmark
from tests.test_text_study import RECIPE, opened
from tests.text_models import write_documents, write_given_model, write_held_out

from stillmark.analysis.conclusion import conclude_study
from stillmark.report.text_answer import spent_line

RECIPES = {
    "plain": {},
    "lora": {"lora": {"rank": 4}},
    "lora-on-two": {"lora": {"rank": 8, "target_modules": ["q_proj", "v_proj"]}},
    "checkpointing": {"gradient_checkpointing": True},
    "hidden": {"hidden_states": {}},
    "hidden-alone": {"hidden_states": {}, "loss": "cross_entropy"},
    "cached": {"logit_cache": {"k": 20}},
    "text-alone": {"cross_entropy_weight": 1.0},
}
MATCHES = {"plain": "steps", "hidden": "tokens"}  # the others: compute_with_teacher


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of one length, but for each document's last, so that there is next to no padding."""
    folder = tmp_path_factory.mktemp("predicted")
    text, _ = write_documents(folder)
    write_given_model(folder / "teacher", seed=1, hidden_size=64)
    write_given_model(folder / "student")
    basis = {**RECIPE, "train_flops": 2e8, "batch_samples": 1, "checkpoints": 1}
    arms = {
        name: {"kind": "distilled", "model": "small", "teacher": "teacher", "recipe": basis | changes,
               "control": {"match": MATCHES.get(name, "compute_with_teacher")}}
        for name, changes in RECIPES.items()
    }  # fmt: skip
    study = {
        "name": "predicted", "seeds": [0], "threads": 1,
        "tasks": {"pages": {"kind": "text", "context_tokens": 24, "test_sequences": 1, "train": [{"file": str(text)}],
                            "test": [{"file": str(write_held_out(folder))}]}},
        "models": {"given": {"checkpoint": str(folder / "teacher")}, "small": {"checkpoint": str(folder / "student")}},
        "arms": {"teacher": {"kind": "teacher", "model": "given"}, **arms},
        "conclusion": {"students": list(arms)},
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    done = run_stillmark("run", folder / "study.yaml", "--out", folder / "run", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_control_takes_what_its_match_says(run: Path, name: str):
    store, plan = opened(run)
    key, control = (plan.train_keys[arm, 0] for arm in (name, f"{name}-control"))
    mine, other = (store.checkpoints(job)[-1] for job in (key, control))
    if MATCHES.get(name) == "steps":
        assert other.step == mine.step
        return
    if MATCHES.get(name) == "tokens":
        assert 0 <= other.tokens - mine.tokens < 24  # of a step of one window
        return
    counted = {job: sum(entry.flops for entry in store.ledger(job)) for job in (key, control)}
    if capture := plan.capture_keys.get((name, 0)):
        counted[key] += sum(entry.flops for entry in store.ledger(capture))
    assert (
        0 <= counted[control] - counted[key] < 1.2 * counted[control] / other.step
    )  # windows are not all of a length


@pytest.mark.parametrize("name", RECIPES)
def test_a_job_takes_what_was_predicted(run: Path, name: str):
    store, plan = opened(run)
    job = plan.jobs[plan.train_keys[name, 0]]
    counted = sum(entry.flops for entry in store.ledger(job.key))
    assert job.predicted_flops == pytest.approx(counted, rel=0.03)


def test_equal_steps_are_told_in_steps(run: Path):
    store, plan = opened(run)
    pair = next(pair for pair in conclude_study(store)["pairs"] if pair["student"] == "plain")
    mine, other = (
        store.checkpoints(plan.train_keys[arm, 0])[-1].step for arm in (pair["student"], pair["other"])
    )
    assert (pair["spent"]["unit"], pair["spent"]["other_over_student"]) == ("steps", other / mine)
    assert f", in {mine} and {other} steps; in steps, " in spent_line(pair)
