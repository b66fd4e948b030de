"""A power cap for the length of a run, where the system lets it be set; else refused, and why.

- the CPU packages: RAPL's long-term limit, through the kernel's powercap files;
- NVIDIA GPUs: NVML's power management limit, within the limits that the card states. It is the whole card's, takes
  an administrator; a process that is killed leaves it behind (`nvidia-smi --power-limit` sets it back).

What was set before is set again at the end of the block, whatever happened in it.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stillmark.errors import UserError

POWERCAP = Path("/sys/class/powercap")
LONG_TERM = "constraint_0_power_limit_uw"


@contextmanager
def power_capped(watts: float | None, root: Path = POWERCAP) -> Iterator[None]:
    """Every CPU package's long-term limit at `watts` in the block, and what it was before after it."""
    if watts is None:
        yield
        return
    before = {file: file.read_text() for file in limit_files(root)}
    try:
        for file in before:
            file.write_text(str(round(watts * 1e6)))
        yield
    finally:
        for file, value in before.items():
            file.write_text(value)


def limit_files(root: Path = POWERCAP) -> list[Path]:
    """One a package; a UserError where there is none or it cannot be written."""
    files = sorted(root.glob("intel-rapl:[0-9]*/" + LONG_TERM))
    files = [file for file in files if file.parent.name.count(":") == 1]  # packages, not their parts
    if not files:
        raise UserError(
            f"power cannot be capped here: the kernel shows no RAPL limit in {root}",
            hint="virtual machines and most boards have none; leave --power-cap out",
        )
    refused = [file for file in files if not os.access(file, os.W_OK)]
    if refused:
        raise UserError(f"power cannot be capped here: {refused[0]} may not be written", hint="run as root")
    return files


@contextmanager
def gpu_power_capped(watts: float | None) -> Iterator[None]:
    """Every GPU's power limit at `watts` in the block, and what it was before after it."""
    if watts is None:
        yield
        return
    pynvml = _pynvml()
    with ExitStack() as undone:
        try:
            pynvml.nvmlInit()
            undone.callback(pynvml.nvmlShutdown)
            for index in range(_num_gpus(pynvml)):
                _cap(pynvml, index, round(watts * 1e3), undone)
        except pynvml.NVMLError as error:
            raise UserError(f"the GPU's power cannot be capped here: NVML says `{error}`",
                            hint="it takes a driver, a card that lets it be set, and root") from error  # fmt: skip
        yield


def _pynvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise UserError("the GPU's power cannot be capped here: pynvml is not installed",
                        hint="pip install 'stillmark[energy]'") from error  # fmt: skip


def _num_gpus(pynvml: Any) -> int:
    number = int(pynvml.nvmlDeviceGetCount())
    if not number:
        raise UserError(
            "the GPU's power cannot be capped here: NVML sees no GPU", hint="leave --gpu-power-cap out"
        )
    return number


def _cap(pynvml: Any, index: int, milliwatts: int, undone: ExitStack) -> None:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    least, most = pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
    if not least <= milliwatts <= most:
        raise UserError(f"GPU {index} cannot be capped at {milliwatts / 1e3:g} W",
                        hint=f"it takes {least / 1e3:g} to {most / 1e3:g} W")  # fmt: skip
    before = pynvml.nvmlDeviceGetPowerManagementLimit(handle)
    pynvml.nvmlDeviceSetPowerManagementLimit(handle, milliwatts)
    undone.callback(pynvml.nvmlDeviceSetPowerManagementLimit, handle, before)
