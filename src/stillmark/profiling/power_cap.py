"""A power cap on the CPU packages, where the kernel lets it be set (RAPL through powercap); else refused, and why.

GPUs have one too (NVML), but it is the whole device's, stays after a crash and needs an administrator: set it
with `nvidia-smi --power-limit` before the run.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
