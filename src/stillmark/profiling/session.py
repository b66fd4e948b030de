"""What one call of `profile` is told and what it observes: rules, arms, settings, repetitions."""

from dataclasses import dataclass, field
from typing import Protocol

from stillmark.compute.energy import EnergyReading
from stillmark.compute.hardware import Device
from stillmark.profiling.constraints import Constraints
from stillmark.profiling.machine import MachineState
from stillmark.profiling.pace import PaceRange
from stillmark.profiling.quantiles import MIN_SAMPLES_FOR_INTERVAL
from stillmark.profiling.remote import PeakMemory
from stillmark.profiling.workload import Batch, EngineSpec, ModelFacts, ProfileEngine, Timeline, Workload


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a valid measurement has to keep. The defaults keep one setting under a minute."""

    budget_seconds: float = 22.0
    """Timed seconds for one setting."""
    min_seconds: float = 3.0
    min_repetitions: int = MIN_SAMPLES_FOR_INTERVAL
    max_repetitions: int = 40
    relative_half_width: float = 0.015
    """Of the 95% interval of the median, for TPOT and TTFT both: narrow enough to stop."""
    warmup_spread: float = 0.05
    """Two runs in a row that differ by less are steady."""
    max_warmups: int = 6
    warmup_budget_seconds: float = 15.0
    max_foreign_share: float = 0.05
    """Of the machine's cores that others may keep busy."""
    max_drift: float = 0.10
    """Between the first and the second half of the repetitions, and of the clock before and after."""
    noise_seconds: float = 1.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One engine with one model under one set of limits."""

    spec: EngineSpec
    constraints: Constraints = field(default_factory=Constraints)
    name: str | None = None
    workload: Workload | None = None
    """Its own, in place of the session's."""

    @property
    def label(self) -> str:
        return self.name or self.spec.label

    @property
    def paced_threads(self) -> int | None:
        """Threads of this machine's processor that its times depend on; None for a GPU's, for a server's, and for
        cores of the user's choice, which need not be like the others."""
        is_any_cores = self.spec.options.get("device", "cpu") == "cpu" and self.constraints.cores is None
        return self.spec.threads if is_any_cores else None


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One timed run of one setting."""

    batch: Batch
    foreign_cores: float | None
    energy: EnergyReading
    began_at: str


@dataclass(kw_only=True)
class Setting:
    """One arm on one workload, as it fills up."""

    arm: Arm
    workload: Workload
    engine: "TimedEngine | None" = None
    warmups: list[Batch] = field(default_factory=list)
    is_steady: bool = False
    repetitions: list[Repetition] = field(default_factory=list)
    ended_because: str | None = None
    """Narrow, out of time, does not fit, failed."""
    failure: str | None = None
    failure_detail: str = ""
    """What the engine's process wrote last."""
    does_not_fit: bool = False
    num_resumed: int = 0

    @property
    def batches(self) -> list[Batch]:
        return [repetition.batch for repetition in self.repetitions]

    @property
    def timed_seconds(self) -> float:
        return sum(batch.wall_seconds for batch in self.batches)


class TimedEngine(ProfileEngine, Protocol):
    """An engine whose process can be watched."""

    memory: PeakMemory


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The machine at one moment between runs."""

    state: MachineState
    foreign_cores: float | None
    spin_interference: float


@dataclass(kw_only=True)
class Session:
    """All that one call of `profile` observed."""

    settings: list[Setting]
    rules: Rules
    before: Noise
    after: Noise
    device: Device | None
    idle_watts: float | None
    facts: dict[str, ModelFacts]
    """By the arm's label."""
    memory: dict[str, PeakMemory]
    load_seconds: dict[str, float]
    answers: dict[str, list[Timeline]]
    """Each arm's own answers to real prompts."""
    began_at: str
    at_lengths: dict[str, list[Timeline]] = field(default_factory=dict)
    """Made-up tokens at the lengths that replies of an evaluation had."""
    paces: dict[int, PaceRange] = field(default_factory=dict)
    """By the number of threads."""

    def pace_of(self, setting: Setting) -> PaceRange | None:
        """None where it is not known, also of repetitions that a killed session left."""
        threads = setting.arm.paced_threads
        return None if threads is None or setting.num_resumed else self.paces.get(threads)
