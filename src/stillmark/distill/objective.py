"""What a model is held to on a batch: cross-entropy, or a divergence from a teacher, as its recipe says."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from stillmark.compute.flops import forward_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.distill.losses import DivergenceSettings, fused_cross_entropy, fused_divergence
from stillmark.distill.spent import Spent, batch_flops
from stillmark.distill.text import MicroBatch
from stillmark.study.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LiveTeacher:
    """A teacher that runs beside its student, without gradient."""

    model: Any
    shape: ModelShape


class Objective:
    """The loss of a recipe. What the teacher takes is added to `spent`, apart from the student's own."""

    def __init__(self, recipe: Recipe, teacher: LiveTeacher | None = None) -> None:
        self.recipe, self.teacher = recipe, teacher
        self.divergence = None
        if recipe.loss != "cross_entropy":
            self.divergence = DivergenceSettings(
                kind=recipe.loss,
                beta=recipe.beta,
                alpha=recipe.alpha,
                temperature=recipe.temperature,
                temperature_squared=recipe.temperature_squared,
                cross_entropy_weight=recipe.cross_entropy_weight,
            )

    def bind(self, student: Any) -> None:
        """Checks once that this student can be held to the recipe and the teacher."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained beside the student and is no part of it."""
        return []

    def state(self) -> dict[str, torch.Tensor]:
        """The same by name, in the same order."""
        return {}

    def loss(self, model: Any, batch: MicroBatch, num_loss_tokens: int, spent: Spent) -> torch.Tensor:
        """A micro-batch's share of the step's mean loss, ready for `backward`."""
        hidden = model.model(**batch.model_inputs(), use_cache=False).last_hidden_state
        head = model.lm_head.weight
        if self.divergence is None:
            return fused_cross_entropy(hidden, head, batch.targets_BT, num_loss_tokens=num_loss_tokens)
        assert self.teacher is not None
        return fused_divergence(
            hidden, head, self.teacher_hidden(batch, spent), self.teacher.model.lm_head.weight, batch.targets_BT,
            divergence=self.divergence, num_loss_tokens=num_loss_tokens,
        ).loss  # fmt: skip

    @torch.no_grad()
    def teacher_hidden(self, batch: MicroBatch, spent: Spent) -> torch.Tensor:
        assert self.teacher is not None
        with teacher_clock(spent):
            hidden: torch.Tensor = self.teacher.model.model(
                **batch.model_inputs(), use_cache=False
            ).last_hidden_state
        num_rows, width = batch.input_ids_BT.shape
        spent.teacher_flops += batch_flops(
            forward_flops, self.teacher.shape, num_rows, width, batch.num_loss_tokens
        )
        return hidden


@contextmanager
def teacher_clock(spent: Spent) -> Iterator[None]:
    started, cpu_started = time.perf_counter(), time.process_time()
    yield
    spent.teacher_seconds += time.perf_counter() - started
    spent.teacher_cpu_seconds += time.process_time() - cpu_started
