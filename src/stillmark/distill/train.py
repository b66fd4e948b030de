"""The training loop: one for every arm. What differs is the text and whether a teacher's logits judge it.

The learning rate is constant after a warm-up, and what is evaluated and kept is an average of the weights with a
power-law profile (Karras et al., arXiv:2312.02696, eq. 127: the weight of step s at step t is proportional to
s^gamma). Such an average has the same relative width at every step, so a checkpoint is as good a model as a run
that was planned to end there: a curve over compute needs no schedule that knows its end.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from stillmark.compute.flops import train_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.distill.objective import Objective
from stillmark.distill.on_policy import OnPolicyText
from stillmark.distill.spent import SAVED_COUNTS, Spent, batch_flops
from stillmark.distill.text import MicroBatch, TextSource, micro_batches
from stillmark.errors import UserError
from stillmark.study.recipe import Recipe

AVERAGE_GAMMA = 6.94  # relative width 0.10 of the run (arXiv:2312.02696, figure 13)
MAX_GRADIENT_NORM = 1.0
ADAM_BETAS = (0.9, 0.95)
MICRO_BATCH_POSITIONS = 4096


@dataclass(kw_only=True)
class Training:
    """One model on its way. `run` stops at each checkpoint; `save` and `load` make it go on in another process."""

    model: Any
    shape: ModelShape
    tokenizer: Any
    source: TextSource
    recipe: Recipe
    objective: Objective
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        self.objective.bind(self.model)
        self.names = [name for name, _ in self.model.named_parameters()]
        self.parameters = [parameter for _, parameter in self.model.named_parameters()]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        decayed = [parameter for parameter in self.parameters if parameter.ndim > 1]
        others = [parameter for parameter in self.parameters if parameter.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=self.recipe.learning_rate, betas=ADAM_BETAS)

    def run(self, checkpoints: Sequence[float]) -> Iterator[int]:
        """Trains to each number of train FLOPs in turn and yields its index, ready to be saved."""
        for index, until in enumerate(checkpoints):
            if self.spent.train_flops >= until:
                continue  # recorded before
            while self.spent.train_flops < until:
                self.step()
            yield index
            self.spent.reset_segment()

    def step(self) -> None:
        """One optimiser step over `batch_samples` samples, summed over micro-batches."""
        spent, recipe = self.spent, self.recipe
        started, cpu_started = time.perf_counter(), time.process_time()
        others_before, others_cpu_before = spent.seconds_of_others, spent.cpu_seconds_of_others
        indices = range(spent.samples, spent.samples + recipe.batch_samples)
        batches = micro_batches(
            self.source.rows(indices), self.tokenizer.pad_token_id or 0, max_positions=MICRO_BATCH_POSITIONS
        )
        num_loss_tokens = sum(batch.num_loss_tokens for batch in batches)
        loss_sum = sum(self.backward(batch, num_loss_tokens) for batch in batches) * num_loss_tokens
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
        warmup = min(1.0, (spent.samples + recipe.batch_samples) / max(1, recipe.warmup_samples))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warmup
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        spent.step += 1
        spent.samples += recipe.batch_samples
        share = 1 - (1 - 1 / spent.step) ** (AVERAGE_GAMMA + 1)
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], share)
        if not loss_sum < float("inf"):
            raise UserError(f"training diverged: the loss is {loss_sum} at step {spent.step}",
                            hint="lower `learning_rate` or raise `warmup_samples`")  # fmt: skip
        spent.loss_sum += loss_sum
        spent.loss_tokens += num_loss_tokens
        spent.train_seconds += time.perf_counter() - started - (spent.seconds_of_others - others_before)
        cpu_seconds = time.process_time() - cpu_started
        spent.train_cpu_seconds += cpu_seconds - (spent.cpu_seconds_of_others - others_cpu_before)

    def backward(self, batch: MicroBatch, num_loss_tokens: int) -> float:
        """Adds a micro-batch's gradient; returns its share of the mean loss."""
        loss = self.objective.loss(self.model, batch, num_loss_tokens, self.spent)
        loss.backward()
        self.count(batch)
        return float(loss.detach())

    def count(self, batch: MicroBatch) -> None:
        """FLOPs of all positions that were run, padding included; the head on those with a loss."""
        num_rows, width = batch.input_ids_BT.shape
        self.spent.tokens += batch.num_tokens
        self.spent.positions += num_rows * width
        self.spent.train_flops += batch_flops(train_flops, self.shape, num_rows, width, batch.num_loss_tokens)

    def averaged_weights(self) -> dict[str, torch.Tensor]:
        """What is evaluated and kept."""
        return dict(zip(self.names, self.average, strict=True))

    def save(self, path: Path) -> None:
        """Everything that the next step depends on, as safetensors, replaced in one go."""
        tensors = {}
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            state = self.optimizer.state[parameter]
            tensors[f"weight.{name}"] = parameter.detach()
            tensors[f"average.{name}"] = average
            tensors[f"first_moment.{name}"] = state["exp_avg"]
            tensors[f"second_moment.{name}"] = state["exp_avg_sq"]
        if isinstance(self.source, OnPolicyText):
            tensors |= self.source.state()
        counts = {name: str(getattr(self.spent, name)) for name in SAVED_COUNTS}
        scratch = path.with_suffix(".partial")
        save_file(tensors, scratch, metadata=counts)
        scratch.replace(path)

    def load(self, path: Path, counts: dict[str, int]) -> None:
        """Goes on from a saved state; `counts` are the recorded ones."""
        tensors = load_file(path)
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            parameter.data.copy_(tensors[f"weight.{name}"])
            average.copy_(tensors[f"average.{name}"])
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(counts["step"])),
                "exp_avg": tensors[f"first_moment.{name}"],
                "exp_avg_sq": tensors[f"second_moment.{name}"],
            }
        if isinstance(self.source, OnPolicyText):
            self.source.load_state(tensors)
        for name in SAVED_COUNTS:
            setattr(self.spent, name, counts[name])
        self.spent.reset_segment()
