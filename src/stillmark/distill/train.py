"""The training loop: one for every arm. What differs is the text and whether a teacher's logits judge it.

The learning rate is constant after a warm-up, and what is evaluated and kept is an average of the weights with a
power-law profile (Karras et al., arXiv:2312.02696, eq. 127: the weight of step s at step t is proportional to
s^gamma). Such an average has the same relative width at every step, so a checkpoint is as good a model as a run
that was planned to end there: a curve over compute needs no schedule that knows its end.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stillmark.backends.kernels import faster_linears, is_onednn_faster
from stillmark.compute.model_shape import ModelShape
from stillmark.distill.counting import checkpoint_layers, executed_shape, training_formula
from stillmark.distill.lora import add_lora, counted_lora, merged_weights
from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.on_policy import OnPolicyText
from stillmark.distill.packing import SampleBatches
from stillmark.distill.processes import Processes, fill, whole
from stillmark.distill.spent import SAVED_COUNTS, Spent, batch_flops
from stillmark.distill.text import MicroBatch, TextSource, empty_batch
from stillmark.distill.trackers import StepReport
from stillmark.errors import UserError
from stillmark.models.tensor_files import read_tensors, write_tensors
from stillmark.study.recipe import Recipe

AVERAGE_GAMMA = 6.94  # relative width 0.10 of the run (arXiv:2312.02696, figure 13)
MAX_GRADIENT_NORM = 1.0
ADAM_BETAS = (0.9, 0.95)
MICRO_BATCH_POSITIONS = 4096
SUMMED_COUNTS = tuple(name for name in SAVED_COUNTS if name not in ("step", "samples"))
SUMMED_SECONDS = ("train_cpu_seconds", "teacher_cpu_seconds", "generate_cpu_seconds")


class Judged(torch.nn.Module):  # type: ignore[misc]
    """Model and objective as one module, so that what gathers sharded weights does it around both."""

    def __init__(self, model: Any, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self._no_split_modules = model._no_split_modules

    def forward(self, batch: MicroBatch, num_loss_tokens: int, spent: Spent) -> torch.Tensor:
        return self.objective.loss(self.model, batch, num_loss_tokens, spent)


@dataclass(kw_only=True)
class Training:
    """One model on its way. `run` stops at each checkpoint; `save` and `load` make it go on in another process.

    `seed` draws the first adapters of a recipe with `lora`, and what each step draws at random (dropout). `on_step`
    is told of every step, in the first process.
    """

    model: Any
    shape: ModelShape
    tokenizer: Any
    source: TextSource
    recipe: Recipe
    objective: Objective
    spent: Spent = field(default_factory=Spent)
    seed: int = 0
    processes: Processes = field(default_factory=Processes)
    on_step: Callable[[StepReport], None] | None = None

    def __post_init__(self) -> None:
        recipe = self.recipe
        is_onednn_faster()  # measured before the clock starts
        self.device = next(self.model.parameters()).device
        self.shape = executed_shape(self.model, self.shape)
        teacher = self.objective.teacher
        self.sample_batches = SampleBatches(
            models=[self.model, teacher.model] if isinstance(teacher, LiveTeacher) else [self.model],
            pad_id=self.tokenizer.pad_token_id or 0,
            max_positions=MICRO_BATCH_POSITIONS,
            is_packed=recipe.packing,
        )
        if recipe.gradient_checkpointing:
            checkpoint_layers(self.model)
        lora = None
        if recipe.lora:
            add_lora(self.model, recipe.lora, self.seed)
            lora = counted_lora(self.model, self.shape, recipe.lora.rank)
        self.formula = training_formula(self.model, self.shape, lora, recipe.gradient_checkpointing)
        self.objective.bind(self.model)
        if self.processes.is_sharded and self.objective.parameters():
            raise UserError("hidden_states: projectors are not trained beside sharded weights (FSDP)",
                            hint="launch without FSDP: each process then holds the whole student")  # fmt: skip
        self.judged = self.processes.shard(Judged(self.model, self.objective))
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        trained += zip(self.objective.state(), self.objective.parameters(), strict=True)
        self.names = [name for name, _ in trained]
        self.parameters = [parameter for _, parameter in trained]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        decayed = [parameter for parameter in self.parameters if parameter.ndim > 1]
        others = [parameter for parameter in self.parameters if parameter.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=ADAM_BETAS)

    def run(self, checkpoints: Sequence[float], *, of: str = "train_flops", first: int = 0) -> Iterator[int]:
        """Trains to each amount in turn of what `Spent` counts as `of`, and yields its index, ready to be saved.

        Those before `first` are saved already. A step that passes two marks is both checkpoints.
        """
        for index, until in enumerate(checkpoints[first:], start=first):
            while getattr(self.spent, of) < until:
                self.step()
            yield index
            self.spent.reset_segment()

    def step(self) -> None:
        """One optimiser step over `batch_samples` samples, summed over micro-batches and processes."""
        spent, recipe = self.spent, self.recipe
        before = Spent(**vars(spent))
        started, cpu_started = time.perf_counter(), time.process_time()
        batches, num_loss_tokens = self.batches()
        faster = nullcontext() if self.processes.is_sharded else faster_linears(self.model)
        with faster, seeded(self.device, f"{self.seed} {spent.step} {self.processes.rank}"):
            own_loss = sum(self.backward(batch, num_loss_tokens) for batch in batches)
        self.processes.sum_gradients(self.parameters)
        gradient_norm = whole(torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM))
        warmup = min(1.0, (spent.samples + recipe.batch_samples) / max(1, recipe.warmup_samples))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warmup
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        spent.step += 1
        spent.samples += recipe.batch_samples
        share = 1 - (1 - 1 / spent.step) ** (AVERAGE_GAMMA + 1)
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], share)
        others = spent.seconds_of_others - before.seconds_of_others
        spent.train_seconds += time.perf_counter() - started - others
        cpu_seconds_of_others = spent.cpu_seconds_of_others - before.cpu_seconds_of_others
        spent.train_cpu_seconds += time.process_time() - cpu_started - cpu_seconds_of_others
        loss_sum = self.sum_over_processes(before, own_loss) * num_loss_tokens
        if not loss_sum < float("inf"):
            raise UserError(f"training diverged: the loss is {loss_sum} at step {spent.step}",
                            hint="lower `learning_rate` or raise `warmup_samples`")  # fmt: skip
        spent.loss_sum += loss_sum
        spent.loss_tokens += num_loss_tokens
        if self.on_step is not None and self.processes.is_first:
            self.on_step(
                StepReport.between(before, spent, float(gradient_norm), recipe.learning_rate * warmup)
            )

    def batches(self) -> tuple[list[MicroBatch], int]:
        """This process's part of the next step, and the loss tokens of the whole step."""
        first = self.spent.samples
        own_samples = self.processes.share(range(first, first + self.recipe.batch_samples))
        rows = self.source.rows(own_samples) if own_samples else []
        batches = self.sample_batches.cut(rows)
        own_tokens = sum(batch.num_loss_tokens for batch in batches)
        counts = self.processes.gather([own_tokens, len(batches)])
        if self.processes.is_sharded:  # layers are gathered by all together: each must run as many batches
            most = max(int(number) for _, number in counts)
            batches += [empty_batch(self.sample_batches.pad_id)] * (most - len(batches))
        return [batch.to(self.device) for batch in batches], int(sum(tokens for tokens, _ in counts))

    def backward(self, batch: MicroBatch, num_loss_tokens: int) -> float:
        """Adds a micro-batch's gradient; returns its share of the mean loss."""
        loss = self.judged(batch, num_loss_tokens, self.spent)
        loss.backward()
        self.count(batch)
        return float(loss.detach())

    def count(self, batch: MicroBatch) -> None:
        """FLOPs of all positions that were run, padding included; the head on those with a loss."""
        num_rows, width = batch.input_ids_BT.shape
        self.spent.tokens += batch.num_tokens
        self.spent.positions += num_rows * width
        self.spent.train_flops += batch_flops(
            self.formula, self.shape, num_rows, width, batch.num_loss_tokens
        )

    def sum_over_processes(self, before: Spent, own_loss: float) -> float:
        """Adds what the other processes counted in this step; returns the loss of the whole step."""
        if self.processes.count == 1:
            return own_loss
        names = (*SUMMED_COUNTS, *SUMMED_SECONDS)
        own = [getattr(self.spent, name) - getattr(before, name) for name in names]
        *totals, loss = self.processes.sums([*own, own_loss])
        for name, total in zip(names, totals, strict=True):
            setattr(self.spent, name, getattr(before, name) + total)
        return float(loss)

    def averaged_weights(self) -> dict[str, torch.Tensor]:
        """What is evaluated and kept: whole weights under the model's own names, adapters merged in. All processes
        must ask together, as for `save`.
        """
        average = dict(zip(self.names, map(whole, self.average), strict=True))
        if self.recipe.lora:
            return merged_weights(self.model, average)
        beside = self.objective.state().keys()
        return {name: weight for name, weight in average.items() if name not in beside}

    def save(self, path: Path) -> None:
        """Everything that the next step depends on, as safetensors, replaced in one go by the first process."""
        tensors = {}
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            state = self.optimizer.state[parameter]
            tensors[f"weight.{name}"] = whole(parameter.detach())
            tensors[f"average.{name}"] = whole(average)
            tensors[f"first_moment.{name}"] = whole(state["exp_avg"])
            tensors[f"second_moment.{name}"] = whole(state["exp_avg_sq"])
        if isinstance(self.source, OnPolicyText):
            tensors |= self.source.state(self.processes.gather)
        if self.processes.is_first:
            write_tensors(path, tensors, {name: str(getattr(self.spent, name)) for name in SAVED_COUNTS})
        self.processes.wait()

    @torch.no_grad()
    def load(self, path: Path, counts: dict[str, int]) -> None:
        """Goes on from a saved state; `counts` are the recorded ones. UserError where the file is damaged."""
        tensors, _ = read_tensors(path)
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            fill(parameter, tensors[f"weight.{name}"])
            fill(average, tensors[f"average.{name}"])
            moments = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
            fill(moments["exp_avg"], tensors[f"first_moment.{name}"])
            fill(moments["exp_avg_sq"], tensors[f"second_moment.{name}"])
            self.optimizer.state[parameter] = {"step": torch.tensor(float(counts["step"])), **moments}
        if isinstance(self.source, OnPolicyText):
            self.source.load_state(tensors)
        for name in SAVED_COUNTS:
            setattr(self.spent, name, counts[name])
        self.spent.reset_segment()


@contextmanager
def seeded(device: torch.device, seed: str) -> Iterator[None]:
    """Within, what torch draws at random depends on the text `seed` alone; afterwards it draws on as before.

    So a step's dropout is the same in training that was killed, in the next run of a job and beside other work.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(random.Random(f"step {seed}").getrandbits(63))
        yield
