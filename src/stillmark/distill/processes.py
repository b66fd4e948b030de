"""Training in several processes: those of `accelerate launch` or `torchrun`. One process pays nothing for them.

Each process reads its share of a step's samples; gradients are summed, not averaged, since every loss is divided
by the step's loss tokens over all processes. So the number of processes changes results by rounding alone. Under
FSDP (accelerate's plugin, version 2) weights, gradients and the optimiser's state are sharded too.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch

from stillmark.backends.devices import device_name, stretch_on
from stillmark.compute.stretch import Stretch
from stillmark.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(
    days=30
)  # for one that works alone, on an evaluation say; a launcher ends all when one dies


class Processes:
    """This process among those that train one model; without an accelerator it is the only one, on `device`."""

    def __init__(self, accelerator: Any = None, device: torch.device | str = "cpu") -> None:
        self.accelerator = accelerator
        self.count: int = accelerator.num_processes if accelerator else 1
        self.rank: int = accelerator.process_index if accelerator else 0
        self.device = torch.device(accelerator.device if accelerator else device)
        self.fsdp_plugin = sharding_plugin(accelerator) if accelerator else None
        if accelerator and accelerator.mixed_precision != "no":
            raise UserError(
                f"the launch asks for mixed precision {accelerator.mixed_precision}, and the recipe decides it",
                hint="launch with --mixed_precision no, and give the recipe `precision: bfloat16`",
            )

    @classmethod
    def launched(cls) -> "Processes":
        """Those of the launcher that started this program; one, on the CPU, where none did."""
        if not {"WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"} & os.environ.keys():  # torchrun's, accelerate's
            return cls()
        return cls(launched_accelerator())

    def alone(self) -> "Processes":
        """This process by itself on its device, for what one does while the others wait."""
        return Processes(device=self.device)

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and lines."""
        return self.rank == 0

    @property
    def count_here(self) -> int:
        """How many of them share this machine's cores."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1

    @property
    def device_name(self) -> str:
        """What does the work, in words."""
        name = device_name(self.device)
        return name if self.count == 1 else f"{name}, {self.count} processes"

    def stretch(self) -> Stretch:
        """A stretch of their work; the counters that it reads are this machine's."""
        if self.count > self.count_here:
            return Stretch(unread="several machines trained, and only one's counters are read")
        return stretch_on(self.device)

    @property
    def is_sharded(self) -> bool:
        return self.fsdp_plugin is not None

    def share(self, indices: Sequence[int]) -> Sequence[int]:
        """The samples of a step that are this process's: every `count`-th."""
        return indices[self.rank :: self.count]

    def gather(self, values: Sequence[Any]) -> list[list[Any]]:
        """The values of each process, in order of rank; whole numbers stay exact up to 2^63."""
        if self.count == 1:
            return [list(values)]
        gathered: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(gathered, list(values))
        return gathered

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them; the others wait for it and make nothing."""
        if self.count == 1:
            return make()
        made = [make() if self.is_first else None]
        torch.distributed.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def sums(self, values: Sequence[int | float]) -> list[Any]:
        """Each value summed over the processes, in order of rank, so that all get the same."""
        return [sum(column) for column in zip(*self.gather(values), strict=True)]

    def shard(self, module: torch.nn.Module) -> torch.nn.Module:
        """Under FSDP the module, its parameters now sharded in place; else the same module."""
        if self.fsdp_plugin is None:
            return module
        from accelerate.utils.fsdp_utils import fsdp2_prepare_model
        from torch.distributed.fsdp import FSDPModule

        prepared: torch.nn.Module = fsdp2_prepare_model(self.accelerator, module)
        for part in prepared.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)  # gradients are summed
                part.set_force_sum_reduction_for_comms(True)
        return prepared

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Each process's gradients become their sum. Sharded ones are already."""
        if self.count == 1:
            return
        waiting = []
        for parameter in parameters:
            if is_sharded(parameter):
                continue
            if parameter.grad is None:  # this process had no sample
                parameter.grad = torch.zeros_like(parameter)
            waiting.append(torch.distributed.all_reduce(parameter.grad, async_op=True))
        for work in waiting:
            work.wait()

    def end_with_launcher(self) -> None:
        """A launcher that was killed must not leave processes that go on training and hold the study's lock."""
        if (
            "TORCHELASTIC_RUN_ID" in os.environ
        ):  # torch's, which accelerate uses too, is this process's parent
            end_with(os.getppid())

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            torch.distributed.barrier()


def end_with(parent: int) -> None:
    """From now on this process ends when its parent is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@cache
def launched_accelerator() -> Any:
    """accelerate's view of the launch. Made once: the processes meet when it is made."""
    from accelerate import Accelerator, InitProcessGroupKwargs

    is_cpu = (
        not torch.accelerator.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    )
    return Accelerator(cpu=is_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])


def sharding_plugin(accelerator: Any) -> Any:
    """accelerate's FSDP plugin if the launch asked for FSDP, else None. On CPUs accelerate itself ignores it."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        from accelerate import FullyShardedDataParallelPlugin

        plugin = accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
    if plugin is None:
        return None
    if plugin.fsdp_version != 2:
        raise UserError("FSDP version 1 is not supported", hint="launch with --fsdp_version 2")
    plugin.cpu_ram_efficient_loading = False  # each process made or loaded the same weights
    return plugin


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor, asked without importing torch's distributed part."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a sharded one; all processes must ask together."""
    if is_sharded(tensor):
        full: torch.Tensor = tensor.full_tensor()
        return full
    return tensor


def fill(tensor: torch.Tensor, full: torch.Tensor) -> None:
    """Copies a full tensor into one that may be sharded: each process takes its part."""
    if is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        full = distribute_tensor(full.to(tensor.device), tensor.device_mesh, tensor.placements)
    tensor.copy_(full)
