"""The state that a machine is in while it is timed: clock, temperature, load, and who else uses it.

A busy neighbour is noticed in two independent ways:
- the kernel's books: CPU time that all processes used (/proc/stat), less that of the measured ones, and time
  stolen by other virtual machines;
- a spin probe: the same small loop again and again; a loop that was interrupted takes longer than the fastest.
Either is None where the system does not show it.
"""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROC_STAT = Path("/proc/stat")
SPIN_ROUNDS = 200
SPIN_STEPS = 2000


@dataclass(frozen=True, kw_only=True)
class CpuBooks:
    """CPU seconds since boot, all cores together, and the wall clock at which they were read."""

    busy_seconds: float
    stolen_seconds: float
    at: float


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What could be read at one moment; None where it could not."""

    load_average: float | None
    clock_hertz: float | None
    governor: str | None
    temperature_celsius: float | None
    available_memory_bytes: int | None
    is_on_battery: bool | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cpu_books(path: Path = PROC_STAT) -> CpuBooks | None:
    """The kernel's accounts; None off Linux."""
    try:
        line = path.read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return None
    ticks = [float(value) / os.sysconf("SC_CLK_TCK") for value in line[1:]]
    user, nice, system, _idle, _wait, irq, softirq, steal = (*ticks, *[0.0] * 8)[:8]
    return CpuBooks(
        busy_seconds=user + nice + system + irq + softirq, stolen_seconds=steal, at=time.perf_counter()
    )


def foreign_cores(before: CpuBooks | None, after: CpuBooks | None, own_cpu_seconds: float) -> float | None:
    """Cores that others kept busy between the two readings, stolen ones included; None where not known."""
    if before is None or after is None or after.at <= before.at:
        return None
    used = after.busy_seconds - before.busy_seconds - own_cpu_seconds
    stolen = after.stolen_seconds - before.stolen_seconds
    return max(0.0, used + stolen) / (after.at - before.at)


def own_cpu_seconds() -> float:
    """CPU time of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def foreign_cores_over(seconds: float) -> float | None:
    """Cores that others keep busy while this process only waits."""
    before, own = cpu_books(), own_cpu_seconds()
    time.sleep(seconds)
    return foreign_cores(before, cpu_books(), own_cpu_seconds() - own)


def spin_interference() -> float:
    """Share of time lost to interruptions: 1 - fastest/mean of equal small loops on one core."""
    rounds = []
    for _ in range(SPIN_ROUNDS):
        began = time.perf_counter()
        total = 0
        for step in range(SPIN_STEPS):
            total += step
        rounds.append(time.perf_counter() - began)
    return 1 - sorted(rounds)[len(rounds) // 10] * len(rounds) / sum(rounds)


def machine_state() -> MachineState:
    """Clock, temperature, load, memory and power source, as the system shows them."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        load = None
    return MachineState(
        load_average=load,
        clock_hertz=_clock_hertz(),
        governor=_read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        temperature_celsius=_temperature_celsius(),
        available_memory_bytes=available_memory_bytes(),
        is_on_battery=_is_on_battery(),
    )


def _clock_hertz() -> float | None:
    """Mean of the cores' clocks now."""
    kilohertz = [
        _read(path) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    ]
    known = [1e3 * float(value) for value in kilohertz if value]
    if not known:
        lines = (_read(Path("/proc/cpuinfo")) or "").splitlines()
        known = [1e6 * float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return sum(known) / len(known) if known else None


def _temperature_celsius() -> float | None:
    """The hottest thermal zone."""
    zones = [_read(path) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    known = [float(value) / 1e3 for value in zones if value and value.lstrip("-").isdigit()]
    return max(known) if known else None


def available_memory_bytes() -> int | None:
    for line in (_read(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _is_on_battery() -> bool | None:
    """Whether a battery feeds the machine; None where no power supply is shown."""
    states = [_read(path) for path in Path("/sys/class/power_supply").glob("*/status")]
    known = [state for state in states if state]
    return any(state == "Discharging" for state in known) if known else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
