"""What training has taken so far: counts that go to the ledger at each checkpoint."""

from dataclasses import dataclass
from typing import Any

from stillmark.compute.model_shape import ModelShape


@dataclass(kw_only=True)
class Spent:
    """What training has taken so far; seconds are of this process since the last checkpoint."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    positions: int = 0
    train_flops: int = 0
    teacher_flops: int = 0
    teacher_tokens: int = 0  # that a live teacher read, padding left out
    teacher_positions: int = 0
    loss_sum: float = 0.0  # nats, since the last checkpoint
    loss_tokens: int = 0
    train_seconds: float = 0.0
    teacher_seconds: float = 0.0
    train_cpu_seconds: float = 0.0
    teacher_cpu_seconds: float = 0.0
    generate_flops: int = 0  # of the student's own replies that it learns from (distill/on_policy.py)
    generate_tokens: int = 0  # of their prompts and of themselves
    generate_positions: int = 0  # that went through the layers: a prefix that prompts share once
    generate_seconds: float = 0.0
    generate_cpu_seconds: float = 0.0

    @property
    def seconds_of_others(self) -> float:
        """Wall seconds of a step that are not the student's forward and backward."""
        return self.teacher_seconds + self.generate_seconds

    @property
    def cpu_seconds_of_others(self) -> float:
        return self.teacher_cpu_seconds + self.generate_cpu_seconds

    train_flops_before: int = 0  # at the last checkpoint

    @property
    def flops_per_second(self) -> float | None:
        """The student's training FLOPs over its seconds, both since the last checkpoint; None before the first step.

        Over this machine's matmul peak, it is the MFU.
        """
        flops = self.train_flops - self.train_flops_before
        return flops / self.train_seconds if self.train_seconds else None

    def reset_segment(self) -> None:
        self.train_flops_before = self.train_flops
        self.loss_sum = self.train_seconds = self.teacher_seconds = 0.0
        self.train_cpu_seconds = self.teacher_cpu_seconds = 0.0
        self.generate_seconds = self.generate_cpu_seconds = 0.0
        self.loss_tokens = 0


SAVED_COUNTS = (
    "step", "samples", "tokens", "positions", "train_flops", "teacher_flops", "teacher_tokens", "teacher_positions",
    "generate_flops", "generate_tokens", "generate_positions",
)  # fmt: skip


def batch_flops(formula: Any, shape: ModelShape, num_rows: int, width: int, num_scored: int) -> int:
    """A batch's FLOPs: the formula is linear in scored tokens, so their sum over rows is enough."""
    without_head = formula(shape, tokens=width, scored_tokens=0)
    head = formula(shape, tokens=width, scored_tokens=1) - without_head
    return int(num_rows * without_head + num_scored * head)
