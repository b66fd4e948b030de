"""What is said of training as it goes: a line in the console, and values for the trackers that accelerate knows."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from stillmark.distill.spent import Spent
from stillmark.errors import UserError

PARTS = (
    "train_flops", "teacher_flops", "generate_flops", "train_seconds", "teacher_seconds", "generate_seconds",
)  # fmt: skip
TRACKERS = ("trackio", "mlflow", "wandb", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One optimiser step, in the parts that the ledger has: their sums over steps are a training job's entries.

    Seconds are wall seconds of the first process; FLOPs and tokens are those of all processes.
    """

    step: int
    samples: int  # since the start of training
    tokens: int  # trained on in this step, as the others below; padding left out
    generated_tokens: int  # of the student's own new replies, and of their prompts
    loss: float  # nats a loss token
    loss_tokens: int
    gradient_norm: float  # before clipping
    learning_rate: float
    train_flops: int  # the student's forward and backward
    teacher_flops: int  # a live teacher's forward
    generate_flops: int  # the student's writing of replies of its own
    train_seconds: float
    teacher_seconds: float
    generate_seconds: float

    @property
    def flops(self) -> int:
        return self.train_flops + self.teacher_flops + self.generate_flops

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.teacher_seconds + self.generate_seconds

    @classmethod
    def between(cls, before: Spent, after: Spent, gradient_norm: float, learning_rate: float) -> "StepReport":
        """What happened between two states of the counts."""
        loss_tokens = after.loss_tokens - before.loss_tokens
        return cls(
            step=after.step,
            samples=after.samples,
            tokens=after.tokens - before.tokens,
            loss=(after.loss_sum - before.loss_sum) / loss_tokens,
            loss_tokens=loss_tokens,
            gradient_norm=gradient_norm,
            learning_rate=learning_rate,
            generated_tokens=after.generate_tokens - before.generate_tokens,
            **{name: getattr(after, name) - getattr(before, name) for name in PARTS},
        )


class TrainingLog:
    """Called with each `StepReport`; speaks every `interval` steps, of all steps since it last spoke.

    matmul_peak: FLOPs a second of this machine (`distill/speed.py`), of all processes together, for the MFU; None: not
    measured, and no MFU is said.
    """

    def __init__(
        self,
        *,
        interval: int = 10,
        matmul_peak: float | None = None,
        trackers: Any = None,
        stream: TextIO | None = sys.stderr,
    ) -> None:
        self.interval, self.matmul_peak, self.trackers, self.stream = interval, matmul_peak, trackers, stream
        self.waiting: list[StepReport] = []

    def __call__(self, report: StepReport) -> None:
        self.waiting.append(report)
        if report.step % self.interval == 0:
            self.speak()

    def speak(self) -> None:
        """Says what has not been said."""
        if not self.waiting:
            return
        values, last = summary(self.waiting, self.matmul_peak), self.waiting[-1]
        self.waiting = []
        if self.stream:
            print(line(last.step, values), file=self.stream, flush=True)
        if self.trackers:
            self.trackers.log({f"train/{name}": value for name, value in values.items()}, step=last.step)

    def close(self) -> None:
        self.speak()
        if self.trackers:
            self.trackers.end_training()


def summary(reports: Sequence[StepReport], matmul_peak: float | None) -> dict[str, float]:
    """Over several steps: the loss a loss token, means of norm and rates, sums of FLOPs and seconds by part."""
    seconds = sum(report.seconds for report in reports)
    loss_tokens = sum(report.loss_tokens for report in reports)
    flops_per_second = sum(report.flops for report in reports) / seconds
    values = {
        "loss": sum(report.loss * report.loss_tokens for report in reports) / loss_tokens,
        "gradient_norm": sum(report.gradient_norm for report in reports) / len(reports),
        "learning_rate": reports[-1].learning_rate,
        "samples": reports[-1].samples,
        "tokens_per_second": sum(report.tokens for report in reports) / seconds,
        "flops_per_second": flops_per_second,
        **{name: sum(getattr(report, name) for report in reports) for name in PARTS},
    }
    return {**values, "mfu": flops_per_second / matmul_peak} if matmul_peak else values


def line(step: int, values: Mapping[str, float]) -> str:
    mfu = f"  MFU {values['mfu']:.0%} of float32 matmul" if "mfu" in values else ""
    return (
        f"step {step:,}  loss {values['loss']:.4f}  gradient {values['gradient_norm']:.3g}"
        f"  rate {values['learning_rate']:.2e}  {values['tokens_per_second']:,.0f} tokens/s"
        f"  {values['flops_per_second'] / 1e9:,.1f} GFLOP/s{mfu}"
    )


def require_trackers(names: Sequence[Any]) -> None:
    """Refuses a tracker that is not known or whose package is missing, where accelerate would only leave it out."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    for name in names:
        if not isinstance(name, str):
            continue
        if name not in {str(getattr(known, "value", known)) for known in LOGGER_TYPE_TO_CLASS}:
            raise UserError(f"tracker `{name}` is not known", hint=f"known: {', '.join(TRACKERS)}")
        if name not in available:
            raise UserError(f"tracker `{name}`: its package is not installed", hint=f"pip install {name}")


def start_trackers(names: Sequence[Any], *, project: str, settings: Mapping[str, Any], folder: Path) -> Any:
    """accelerate with these trackers begun: it has `log(values, step)` and `end_training()`. In the first process.

    names: those that accelerate knows, or `GeneralTracker`s of one's own. settings: numbers and texts, logged once
    as the run's configuration. UserError as `require_trackers` has it.
    """
    import torch
    from accelerate import Accelerator

    require_trackers(names)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(), log_with=list(names), project_dir=str(folder)
    )
    accelerator.init_trackers(project, config=dict(settings))
    return accelerator
