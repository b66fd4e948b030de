"""Training in bfloat16: only on hardware that multiplies it, since elsewhere it is emulated and far slower."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from stillmark.errors import UserError

CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86's two, and ARM's


def require_precision(
    precision: str, device: torch.device, cpu_flags: Callable[[], frozenset[str]] | None = None
) -> None:
    """Refuses `bfloat16` on a device that is not known to multiply it in hardware."""
    if precision == "float32":
        return
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return
    if device.type == "cpu" and CPU_FLAGS & (cpu_flags or flags_of_cpu)():
        return
    looked_for = f": it names none of {', '.join(sorted(CPU_FLAGS))}" if device.type == "cpu" else ""
    raise UserError(
        f"precision: `bfloat16`, but this {device.type} is not known to multiply it in hardware{looked_for}",
        "leave `precision` out: float32 is faster where bfloat16 is emulated",
    )


def flags_of_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What Linux says that the CPU can do; nothing where there is no such file."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(flag for group in flags for flag in group)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in this precision; weights, softmax, losses and sums of gradients stay in float32."""
    if precision == "float32":
        return nullcontext()
    context: AbstractContextManager[object] = torch.autocast(device.type, dtype=torch.bfloat16)
    return context
