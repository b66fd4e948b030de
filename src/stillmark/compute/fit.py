"""Does the training fit in the devices' memory, and if not, on how many devices would it?

The bytes are `memory.py`'s: a lower bound. So `False` is sure, `True` is not where little is left, and None
says that a part is unknown (a model without a config, a device without a known memory).
"""

from dataclasses import dataclass, replace

from stillmark.compute.flops import Recompute
from stillmark.compute.hardware import Device
from stillmark.compute.memory import Precision, Sharding, TrainingMemory, training_memory
from stillmark.compute.workloads import PlannedModel

MOST_DEVICES = 4096


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """How the student is trained, as far as memory goes."""

    precision: Precision
    sequence_tokens: int
    sequences: int = 1
    """In one micro-batch on one device."""
    recompute: Recompute = Recompute.NONE
    sharding: Sharding = Sharding.NONE
    num_devices: int = 1
    trainable_params: float | None = None
    logits_chunk_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Memory beside capacity, on one device."""

    setup: TrainingSetup
    memory: TrainingMemory
    capacity_bytes: float | None
    smallest_num_devices: int | None
    """Of a power of two, fully sharded; None where unknown or where no number of devices would do."""

    @property
    def fits(self) -> bool | None:
        """False is sure, and needs no activations where the states alone are too much."""
        if self.capacity_bytes is None:
            return None
        if self.memory.states_bytes + self.memory.teacher_bytes > self.capacity_bytes:
            return False
        total = self.memory.total_bytes
        return None if total is None else total <= self.capacity_bytes


def fit(
    model: PlannedModel,
    setup: TrainingSetup,
    device: Device,
    *,
    teacher: PlannedModel | None = None,
    teacher_logits: bool = False,
) -> Fit:
    """The student's training (and a live teacher's weights) on one device of `setup.num_devices`."""

    def memory_of(setup: TrainingSetup) -> TrainingMemory:
        return training_memory(
            model.params,
            precision=setup.precision,
            shape=model.shape,
            sequence_tokens=setup.sequence_tokens,
            sequences=setup.sequences,
            recompute=setup.recompute,
            sharding=setup.sharding,
            num_devices=setup.num_devices,
            trainable_params=setup.trainable_params,
            teacher_params=teacher.params if teacher else 0.0,
            teacher_logits=teacher_logits,
            logits_chunk_tokens=setup.logits_chunk_tokens,
        )

    capacity = device.memory_bytes
    smallest = None
    if capacity is not None and model.shape is not None:
        number = 1
        while number <= MOST_DEVICES and smallest is None:
            sharding = Sharding.FULL if number > 1 else Sharding.NONE
            total = memory_of(replace(setup, sharding=sharding, num_devices=number)).total_bytes
            smallest = number if total is not None and total <= capacity else None
            number *= 2
    return Fit(setup=setup, memory=memory_of(setup), capacity_bytes=capacity, smallest_num_devices=smallest)
