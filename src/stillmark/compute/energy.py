"""Energy of a stretch of work in joules: read from a counter where there is one, else estimated, and said so.

    with EnergyMeter(device=device("h100-sxm")) as meter:
        work()
    meter.reading.joules, meter.reading.method      # 'measured', 'estimated', or both None

Counters: RAPL (CPU packages and memory, /sys/class/powercap) and NVML (each GPU's total energy), the latter
through `pip install 'stillmark[energy]'`. A counter reads the whole package or card, other processes and idle
power included; nothing is subtracted. Without a counter the estimate is

    joules = TDP · utilisation · seconds

and the reading carries that assumption. Where the TDP is not known either, joules is None. A fallback is
never silent: `notes` says which counter was missing and why. Measured and estimated joules do not compare.
"""

import importlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from stillmark.compute.hardware import Device
from stillmark.errors import UserError

EnergyMethod = Literal["measured", "estimated"]
POWERCAP = Path("/sys/class/powercap")
SECONDS_BETWEEN_READS = 30.0  # a RAPL counter that wraps twice between two reads would lose a turn unseen
JOULES_PER_KILOWATT_HOUR = 3.6e6


@dataclass(frozen=True, kw_only=True)
class EnergyPart:
    """What one counter, or one assumption, says."""

    joules: float
    method: EnergyMethod
    scope: str
    """What is covered: `CPU package-0`, `GPU 0`, a device's name."""
    source: str
    """The counter's path or call; for an estimate, the assumption."""


@dataclass(frozen=True, kw_only=True)
class EnergyReading:
    """Joules over `seconds`. None where neither a counter nor a TDP was there."""

    seconds: float
    parts: tuple[EnergyPart, ...] = ()
    notes: tuple[str, ...] = ()
    """Counters that were missing or unreadable, and why."""

    @property
    def joules(self) -> float | None:
        return sum(part.joules for part in self.parts) if self.parts else None

    @property
    def method(self) -> EnergyMethod | None:
        """`measured` only where every part was read from a counter."""
        if not self.parts:
            return None
        return "measured" if all(part.method == "measured" for part in self.parts) else "estimated"

    @property
    def source(self) -> str:
        return (
            "; ".join(f"{part.scope}: {part.source}" for part in self.parts) or "no counter and no known TDP"
        )

    @property
    def scope(self) -> tuple[str, ...]:
        return tuple(part.scope for part in self.parts)

    @property
    def watts(self) -> float | None:
        """Mean power over the stretch."""
        return self.joules / self.seconds if self.joules is not None and self.seconds > 0 else None


class Counter(Protocol):
    """An energy counter that only grows; `joules_since` is what it gained after `start`."""

    scope: str
    source: str

    def start(self) -> None: ...

    def joules_since(self) -> float: ...


class RaplCounter:
    """One RAPL domain. It wraps at max_energy_range_uj: 262 kJ is common, eleven minutes at 400 W."""

    def __init__(self, folder: Path) -> None:
        name = (folder / "name").read_text().strip()
        self.scope = "memory" if name == "dram" else f"CPU {name}"
        self.source = str(folder / "energy_uj")
        self._energy = folder / "energy_uj"
        self._range_microjoules = int((folder / "max_energy_range_uj").read_text())
        self._last = self._microjoules()
        self._gained = 0

    def start(self) -> None:
        self._last = self._microjoules()
        self._gained = 0

    def joules_since(self) -> float:
        """To be called more often than it wraps (the meter does): a call can see one wrap only."""
        now = self._microjoules()
        self._gained += (now - self._last) % (self._range_microjoules + 1)
        self._last = now
        return self._gained / 1e6

    def _microjoules(self) -> int:
        return int(self._energy.read_text())


class NvmlCounter:
    """One GPU's energy since its driver was loaded: nvmlDeviceGetTotalEnergyConsumption, in mJ, Volta on."""

    source = "NVML total energy counter"

    def __init__(self, pynvml: Any, index: int) -> None:
        self.scope = f"GPU {index}"
        self._pynvml = pynvml
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self._first = self._millijoules()

    def start(self) -> None:
        self._first = self._millijoules()

    def joules_since(self) -> float:
        return (self._millijoules() - self._first) / 1e3

    def _millijoules(self) -> int:
        return int(self._pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


def rapl_counters(powercap: Path = POWERCAP) -> tuple[list[Counter], list[str]]:
    """RAPL's packages and their memory, and why there are none where there are none.

    A package holds its cores and integrated GPU, `psys` the packages: only packages and memory are added.
    """
    counters: list[Counter] = []
    notes: list[str] = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                counters.append(RaplCounter(folder))
        except PermissionError:
            notes.append(f"RAPL is there but not readable by this user: {folder / 'energy_uj'}")
        except (OSError, ValueError) as error:
            notes.append(f"RAPL domain {folder.name} could not be read: {error}")
    if not counters and not notes:
        notes.append(f"no RAPL counter under {powercap}")
    return counters, notes


def nvml_counters(indices: Sequence[int] | None = None) -> tuple[list[Counter], list[str]]:
    """The counters of these GPUs (default: all that NVML sees), or why there are none."""
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        return [], ["NVML: pynvml is not installed (pip install 'stillmark[energy]')"]
    try:
        pynvml.nvmlInit()
        if indices is None:
            indices = range(pynvml.nvmlDeviceGetCount())
        return [NvmlCounter(pynvml, index) for index in indices], []
    except pynvml.NVMLError as error:
        return [], [f"NVML: {error}"]


class EnergyMeter:
    """Context manager, for one block: `reading` after it. `device` does the work; its TDP is the fallback."""

    def __init__(
        self,
        *,
        device: Device | None = None,
        num_devices: int = 1,
        gpu_indices: Sequence[int] | None = None,
        utilisation: float = 1.0,
        powercap: Path = POWERCAP,
    ) -> None:
        """`gpu_indices`: the GPUs that do the work, as NVML numbers them; others would be counted along.

        `utilisation` (0 to 1) is the share of the TDP that an estimate assumes; 1 is an upper bound.
        """
        if not 0 < utilisation <= 1:
            raise UserError(f"a utilisation of {utilisation} is not possible: above 0 and at most 1")
        self._device = device
        self._num_devices = num_devices
        self._gpu_indices = gpu_indices
        self._utilisation = utilisation
        self._powercap = powercap
        self._counters: list[Counter] = []
        self._notes: list[str] = []
        self._began = 0.0
        self._reading: EnergyReading | None = None
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read_on, name="energy-meter", daemon=True)

    @property
    def reading(self) -> EnergyReading:
        if self._reading is None:
            raise RuntimeError("an energy reading exists only after its `with` block")
        return self._reading

    def __enter__(self) -> Self:
        rapl, rapl_notes = rapl_counters(self._powercap)
        nvml, nvml_notes = nvml_counters(self._gpu_indices) if self._is_gpu else ([], [])
        self._counters, self._notes = [*rapl, *nvml], [*rapl_notes, *nvml_notes]
        for counter in self._counters:
            counter.start()
        self._began = time.perf_counter()
        if self._counters:
            self._reader.start()
        return self

    def _read_on(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_READS):
            for counter in self._counters:
                counter.joules_since()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._began
        self._stop.set()
        if self._counters:
            self._reader.join()
        self._reading = reading_of(
            self._counters,
            seconds=seconds,
            notes=self._notes,
            device=self._device,
            num_devices=self._num_devices,
            utilisation=self._utilisation,
        )

    @property
    def _is_gpu(self) -> bool:
        return self._device is not None and self._device.kind == "gpu"


def reading_of(
    counters: list[Counter],
    *,
    seconds: float,
    notes: list[str],
    device: Device | None,
    num_devices: int = 1,
    utilisation: float = 1.0,
) -> EnergyReading:
    """The counters' gains; the working device estimated where no counter covers it.

    A counter that did not move is not 0 J: its update period was longer than the stretch.
    """
    parts: list[EnergyPart] = []
    notes = list(notes)
    for counter in counters:
        joules = counter.joules_since()
        if joules > 0:
            parts.append(
                EnergyPart(joules=joules, method="measured", scope=counter.scope, source=counter.source)
            )
        else:
            notes.append(f"{counter.scope}: the counter did not move in {seconds:.3g} s")
    # RAPL covers a CPU's work and NVML a GPU's; nothing here covers an accelerator's or a phone's.
    counted = "CPU" if device is None else {"cpu": "CPU", "gpu": "GPU"}.get(device.kind)
    if counted is None or not any(part.scope.startswith(counted) for part in parts):
        estimate = estimated(device, seconds=seconds, num_devices=num_devices, utilisation=utilisation)
        if estimate:
            parts.append(estimate)
        else:
            # The rest of the machine alone would pass for the whole: say nothing instead.
            notes += [f"{part.scope} alone used {part.joules:.4g} J" for part in parts]
            notes.append(f"the TDP of {device.name if device else 'the device'} is not known")
            parts = []
    return EnergyReading(seconds=seconds, parts=tuple(parts), notes=tuple(notes))


def estimated(
    device: Device | None, *, seconds: float, num_devices: int = 1, utilisation: float = 1.0
) -> EnergyPart | None:
    """TDP · utilisation · seconds for each device, the assumption in words; None where the TDP is unknown."""
    if device is None or device.tdp_watts is None:
        return None
    each = "" if num_devices == 1 else f"{num_devices} x "
    return EnergyPart(
        joules=num_devices * device.tdp_watts * utilisation * seconds,
        method="estimated",
        scope=f"{each}{device.name}",
        source=f"assumed: TDP {device.tdp_watts:g} W x {utilisation:.0%} x {seconds:.4g} s, the rest of the "
        "machine and cooling left out",
    )
