"""Two real processes with gloo against one: the same training to rounding, with and without sharded weights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.distill.small_training import training

from stillmark.distill.processes import Processes
from stillmark.distill.train import SAVED_COUNTS
from stillmark.errors import UserError
from stillmark.models.build import load_model

ROOT = Path(__file__).parent.parent.parent


def launch(recipe: dict[str, Any], folder: Path, **environment: str) -> dict[str, Any]:
    """Trains in two processes, started as a user would start them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    child = [str(Path(__file__).parent / "launched_training.py"), json.dumps(recipe), str(folder)]
    paths = {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [*command, *child], env={**os.environ, **paths}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return facts


RECIPES = {
    "logits": {"loss": "forward_kl"},
    "packed": {"packing": True, "batch_samples": 7, "gradient_checkpointing": True},
    "lora": {"lora": {"rank": 3}, "batch_samples": 1},  # one sample a step: the second process has none
}


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "fsdp"])
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_train_as_one(name: str, sharded: bool, tmp_path: Path):
    recipe = {**RECIPES[name], "learning_rate": 1e-2, "warmup_samples": 1}
    alone = training(**recipe)
    for _ in range(4):
        alone.step()
    fsdp = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    }
    facts = launch(recipe, tmp_path, **(fsdp if sharded else {}))

    assert facts["processes"] == 2
    assert facts["resumes_exactly"]
    for count in ("step", "samples", "tokens"):
        assert facts["counts"][count] == getattr(alone.spent, count)
    assert facts["loss"] == pytest.approx(alone.spent.loss_sum / alone.spent.loss_tokens, rel=1e-5)
    weights, kept = load_file(tmp_path / "weights.safetensors"), load_model(tmp_path / "model").state_dict()
    assert weights.keys() == alone.averaged_weights().keys()
    for key, weight in alone.averaged_weights().items():
        torch.testing.assert_close(weights[key], weight, rtol=1e-4, atol=1e-6)
        assert torch.equal(weights[key], kept[key])
    going_on = training(**recipe)  # one process from the state of two
    going_on.load(tmp_path / "state.safetensors", facts["saved_counts"])
    for _ in range(2):
        going_on.step()
    for key, weight in going_on.averaged_weights().items():
        torch.testing.assert_close(weights[key], weight, rtol=1e-4, atol=1e-6)
    whole = sum(parameter.numel() for parameter in alone.parameters)
    assert facts["own_numbers"] < 0.6 * whole if sharded else facts["own_numbers"] == whole


@pytest.mark.slow
def test_flops_are_the_sum_of_what_each_process_ran(tmp_path: Path):
    """Each pads its own samples; counted beside two single runs over every second sample."""
    recipe = {"loss": "forward_kl"}
    facts = launch(recipe, tmp_path)
    totals = dict.fromkeys(SAVED_COUNTS, 0)
    for rank in range(2):
        half = training(**recipe)
        rows = half.source.rows
        half.source.rows = lambda indices, rows=rows, rank=rank: rows(indices[rank::2])  # type: ignore[method-assign]
        for _ in range(4):
            half.step()
        for count in SAVED_COUNTS:
            totals[count] += getattr(half.spent, count)
    for count in ("tokens", "positions", "train_flops", "teacher_flops"):
        assert facts["counts"][count] == totals[count], count


def test_one_process_asks_nobody(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", None)
    monkeypatch.setattr(torch.distributed, "all_gather_object", None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = Processes.launched()
    assert (processes.count, processes.rank, processes.is_first, processes.accelerator) == (1, 0, True, None)
    run = training(processes=processes)
    run.step()
    assert run.judged.model is run.model


class FakeAccelerator:
    num_processes, process_index, mixed_precision, device = 2, 1, "no", "cpu"

    class state:
        fsdp_plugin: Any = None


def test_a_launch_that_contradicts_the_recipe_or_needs_the_old_fsdp_is_refused():
    mixed = FakeAccelerator()
    mixed.mixed_precision = "bf16"
    with pytest.raises(UserError, match="mixed precision bf16"):
        Processes(mixed)
    old = FakeAccelerator()
    old.state.fsdp_plugin = type("Plugin", (), {"fsdp_version": 1})()
    with pytest.raises(UserError, match="version 1"):
        Processes(old)
