"""What test_processes.py launches: a few steps of a small training; the first process writes what came of it.

torchrun --nproc_per_node 2 tests/distill/launched_training.py RECIPE_JSON FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.distill.small_training import TOKENIZER, training

from stillmark.distill.processes import Processes
from stillmark.distill.train import SAVED_COUNTS, Training
from stillmark.models.build import save_model


def steps(run: Training, number: int) -> None:
    for _ in range(number):
        run.step()


def main(recipe: dict[str, object], folder: Path) -> None:
    torch.set_num_threads(1)
    processes = Processes.launched()
    run = training(processes=processes, **recipe)
    reports: list[object] = []
    run.on_step = reports.append
    steps(run, 2)
    run.save(folder / "state.safetensors")
    saved_counts = {name: getattr(run.spent, name) for name in SAVED_COUNTS}
    resumed = training(processes=processes, **recipe)
    resumed.on_step = reports.append
    resumed.load(folder / "state.safetensors", saved_counts)
    steps(resumed, 2)
    steps(run, 2)
    weights, again = run.averaged_weights(), resumed.averaged_weights()
    resumes_exactly = all(torch.equal(weights[name], again[name]) for name in weights)
    if processes.is_first:
        save_model(folder / "model", run.model, weights, TOKENIZER)
        save_file(
            {name: tensor.contiguous() for name, tensor in weights.items()}, folder / "weights.safetensors"
        )
        counts = {name: getattr(run.spent, name) for name in SAVED_COUNTS}
        facts = {
            "counts": counts,
            "saved_counts": saved_counts,
            "loss": run.spent.loss_sum / run.spent.loss_tokens,
            "resumes_exactly": resumes_exactly,
            "processes": processes.count,
            "own_numbers": sum(
                p.to_local().numel() if processes.is_sharded else p.numel() for p in run.parameters
            ),
        }
        (folder / "facts.json").write_text(json.dumps(facts))
    else:
        assert len(reports) == 0, "only the first process reports"
    processes.wait()
    if processes.count > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
