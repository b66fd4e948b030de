"""A study's jobs on a device that is not the CPU: every tensor is put there, and the records are those of the CPU."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.benchmark_tasks import benchmark_study
from tests.pretended_device import IS_POSSIBLE, pretended_device, register
from tests.test_text_study import RECIPE
from torch.nn.attention import SDPBackend, sdpa_kernel

from stillmark.distill.processes import Processes
from stillmark.plan import Plan
from stillmark.records import Store
from stillmark.resolve import resolve
from stillmark.stages import do_job
from stillmark.study import study_from_text

pytestmark = pytest.mark.skipif(
    not IS_POSSIBLE, reason="this torch has no seam for devices written in Python"
)
OTHER = (
    "seconds",
    "cpu_seconds",
    "joules",
    "joules_source",
    "device",
    "sha256",
)  # weights and times may differ


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """autograd has threads for the devices that are known when a process first goes backward."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def check_device() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    model, ids = LlamaForCausalLM(config), torch.arange(8)[None]
    with pretended_device() as device:
        expected = model(input_ids=ids, labels=ids).loss
        expected.backward()
        gradient = model.lm_head.weight.grad
        model.zero_grad()
        model.to(device)
        assert model.device == torch.device(device)
        loss = model(input_ids=ids.to(device), labels=ids.to(device)).loss
        loss.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(model.lm_head.weight.grad.cpu(), gradient)
        with pytest.raises(RuntimeError, match="some are on the CPU"):
            model(input_ids=ids)


def test_the_pretended_device_computes_and_refuses_as_a_gpu_would():
    in_own_process(check_device)


def sharpen(weights: Path) -> None:
    """Larger matrices: AdamW's first steps are the gradient's sign, which rounding decides where gradients are tiny."""
    tensors = load_file(weights)
    save_file({name: tensor * (6 if tensor.dim() == 2 else 1) for name, tensor in tensors.items()}, weights,
              metadata={"format": "pt"})  # fmt: skip


def texts(folder: Path) -> dict:
    """The methods of training, a student that is pruned, captures of both kinds, text and benchmarks evaluated."""
    study = benchmark_study(folder) | {"seeds": [0]}
    sharpen(folder / "given" / "model.safetensors")
    study["benchmarks"]["limit"] = 4
    recipe = {**RECIPE, "train_flops": 2e7, "checkpoints": 1, "first_checkpoint": 1.0}
    student = {"kind": "distilled", "model": "small", "teacher": "teacher", "base": "teacher"}
    recipes = {
        "live": {"loss": "skew_kl", "packing": True, "gradient_checkpointing": True},
        "cached": {"logit_cache": {"k": 20}},
        "drawn": {"logit_cache": {"k": 20, "keep": "samples"}},
        "states": {"hidden_states": {"weight": 0.5}},
        "uld": {"loss": "uld"},
        "adapters": {"lora": {"rank": 2, "alpha": 4}},
        "own": {"loss": "jsd", "on_policy": {"fraction": 1.0, "max_new_tokens": 8}},
    }
    arms = {name: {**student, "recipe": {**recipe, **said}} for name, said in recipes.items()}
    return study | {"arms": {"teacher": study["arms"]["teacher"], **arms}}


def questions(folder: Path) -> dict:
    """A model that is trained and asked. Few steps: rounding is not to change what it writes."""
    recipe = {"text": "solutions", "train_flops": 3e7, "learning_rate": 5e-3, "batch_samples": 4, "warmup_samples": 0,
              "checkpoints": 1, "first_checkpoint": 1.0}  # fmt: skip
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return {
        "name": "questions", "seeds": [0], "threads": 1,
        "tasks": {"shuffled": {"kind": "shuffled_objects", "objects": 3, "min_swaps": 1, "max_swaps": 2,
                               "test_samples": 10, "validation_samples": 4}},
        "models": {"small": size}, "arms": {"vanilla": {"kind": "vanilla", "model": "small", "recipe": recipe}},
    }  # fmt: skip


def run_on_both(study: str, folder: Path) -> None:
    """On the CPU and on the pretended device; with attention by plain products on both, as it is there."""
    plan = Plan(resolve(study_from_text(study)))
    with sdpa_kernel(SDPBackend.MATH):
        register()
        run_jobs(plan, folder / "here", "cpu")
        with pretended_device() as device:
            run_jobs(plan, folder / "there", device)


def run_jobs(plan: Plan, folder: Path, device: str) -> None:
    folder.mkdir()
    store = Store.create(folder / "records.sqlite")
    for job in plan.jobs.values():
        do_job(job, plan, store, processes=Processes(device=device))


def kept(record: Any) -> dict[str, Any]:
    """Its fields that two devices must agree on."""
    fields = {name: value for name, value in vars(record).items() if name not in OTHER}
    return {
        name: pytest.approx(value, rel=1e-3, abs=1e-6) if isinstance(value, float) else value
        for name, value in fields.items()
    }


@pytest.mark.parametrize(
    ("study_in", "stages"),
    [
        (texts, {"adopt", "train", "capture", "evaluate", "benchmark"}),
        (questions, {"train", "evaluate"}),
    ],
)
def test_every_job_records_there_what_it_records_on_the_cpu(
    tmp_path: Path, study_in: Callable[[Path], dict], stages: set[str]
):
    study = yaml.safe_dump(study_in(tmp_path))
    in_own_process(run_on_both, study, tmp_path)
    plan = Plan(resolve(study_from_text(study)))
    here, there = (Store.create(tmp_path / name / "records.sqlite") for name in ("here", "there"))
    assert {job.stage for job in plan.jobs.values()} == stages
    for key, job in plan.jobs.items():
        # How requests are batched, and with it what they share, is the device's own
        records = (
            ("samples",) if job.stage == "benchmark" else ("checkpoints", "ledger", "samples", "text_scores")
        )
        for of in records:
            on_cpu, elsewhere = (getattr(store, of)(key) for store in (here, there))
            assert [kept(record) for record in on_cpu] == [
                {name: value for name, value in vars(record).items() if name not in OTHER}
                for record in elsewhere
            ], (of, job.stage, job.arm)
        assert {entry.device for entry in there.ledger(key)} <= {"pretended", "pretended:0"}, job.stage
