"""What a device can do at most: peak FLOP/s by number format, memory, memory bandwidth, design power.

These peaks are the denominators of model FLOPs utilisation (MFU) and memory bandwidth utilisation, and the
basis of the planner's hours. So each is dense (figures "with sparsity" are halved), has its source, and is
None where no source says it: a device that is not known has no MFU, never another device's.

    from stillmark.compute.hardware import device, this_device
    device("h100-sxm").peak_flops_per_second("bf16")   # 989.4e12
    this_device().name                                 # the machine that this runs on, by /proc/cpuinfo
"""

import functools
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from stillmark.errors import UserError, did_you_mean
from stillmark.published.read import load_yaml

Kind = Literal["gpu", "accelerator", "soc", "board", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One value in base units, and who says so."""

    value: float
    source: str
    """An address, or a citation where the document has none."""
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device and its ceilings; None where unknown."""

    name: str
    kind: Kind
    maker: str | None = None
    peaks: dict[str, Figure] = field(default_factory=dict)
    """Dense FLOP/s (operations/s for integers) by format: bf16, fp16, fp8, fp4, tf32, fp32, int8."""
    memory: Figure | None = None
    """Bytes of the memory that weights and activations live in."""
    memory_bandwidth: Figure | None = None
    """Bytes per second between that memory and the compute units."""
    tdp: Figure | None = None
    """Thermal design power in watts."""

    def peak_flops_per_second(self, dtype: str) -> float | None:
        """Dense peak for the format, or None. `float32` and the like are understood as torch writes them."""
        figure = self.peaks.get(DTYPE_NAMES.get(dtype, dtype))
        return figure.value if figure else None

    @property
    def memory_bytes(self) -> float | None:
        return self.memory.value if self.memory else None

    @property
    def memory_bandwidth_bytes_per_second(self) -> float | None:
        return self.memory_bandwidth.value if self.memory_bandwidth else None

    @property
    def tdp_watts(self) -> float | None:
        return self.tdp.value if self.tdp else None


DTYPE_NAMES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32"}


class _FigureEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    value: float
    source: str
    note: str | None = None


class _DeviceEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Kind
    maker: str
    source: str | None
    names: list[str]
    peak_flops_per_second: dict[str, float | _FigureEntry]
    memory_bytes: float | _FigureEntry | None = None
    memory_bandwidth_bytes_per_second: float | _FigureEntry | None = None
    tdp_watts: float | _FigureEntry | None = None


class _SourceEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str | None
    kind: Literal["primary", "secondary", "aggregator"]
    seen: str


class _HardwareFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    sources: dict[str, _SourceEntry]
    devices: dict[str, _DeviceEntry]


@functools.cache
def _file() -> _HardwareFile:
    text = resources.files("stillmark.compute").joinpath("hardware.yaml").read_text(encoding="utf-8")
    return _HardwareFile.model_validate(load_yaml(text, "hardware.yaml"))


def _device(name: str, entry: _DeviceEntry) -> Device:
    def figure(given: float | _FigureEntry | None) -> Figure | None:
        if given is None:
            return None
        key = given.source if isinstance(given, _FigureEntry) else entry.source
        assert key is not None, f"hardware.yaml: {name} has a figure without a source"
        source = _file().sources[key]
        if isinstance(given, _FigureEntry):
            return Figure(value=given.value, source=source.url or source.seen, note=given.note)
        return Figure(value=given, source=source.url or source.seen)

    peaks = {dtype: figure(value) for dtype, value in entry.peak_flops_per_second.items()}
    return Device(
        name=name,
        kind=entry.kind,
        maker=entry.maker,
        peaks={dtype: peak for dtype, peak in peaks.items() if peak},
        memory=figure(entry.memory_bytes),
        memory_bandwidth=figure(entry.memory_bandwidth_bytes_per_second),
        tdp=figure(entry.tdp_watts),
    )


@functools.cache
def devices() -> dict[str, Device]:
    """Every known device, by its name here (`h100-sxm`)."""
    return {name: _device(name, entry) for name, entry in _file().devices.items()}


def normalised(name: str) -> str:
    """A name without what printers of names disagree on: case, marks, maker, clock, core count."""
    name = re.sub(r"\((r|tm|c)\)|®|™", " ", name, flags=re.IGNORECASE)
    name = re.sub(r"@.*$", "", name)
    name = re.sub(r"\b\d+-core processor\b|\bprocessor\b|\bcpu\b", " ", name, flags=re.IGNORECASE)
    # Integrated graphics are named after the CPU that they sit in; the CPU is what is asked for.
    name = re.sub(r"\bw(ith|/) radeon.*$", " ", name, flags=re.IGNORECASE)
    name = re.sub(r"^\s*(nvidia|tesla|nvidia tesla)\b", " ", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9+]", "", name.lower())


@functools.cache
def _by_normalised_name() -> dict[str, str]:
    found: dict[str, str] = {}
    for key, entry in _file().devices.items():
        for name in [key, *entry.names]:
            assert found.setdefault(normalised(name), key) == key, (
                f"hardware.yaml: two devices are called {name}"
            )
    return found


def device_from_name(name: str) -> Device | None:
    """The device that nvidia-smi, torch or /proc/cpuinfo calls so, or None.

    Only whole names match: a slice of a GPU (MIG), a laptop part or an export variant has other ceilings.
    """
    key = _by_normalised_name().get(normalised(name))
    return devices()[key] if key else None


def device(name: str) -> Device:
    """The device of that name; a UserError that says what is possible where there is none."""
    found = device_from_name(name)
    if found:
        return found
    variants = _variants(name, devices())
    if len(variants) > 1:
        raise UserError(
            f"`{name}` is the name of several devices with different ceilings: {', '.join(variants)}",
            hint=f"name one of them, for example `{variants[0]}`",
        )
    meant = f"did you mean `{variants[0]}`?" if variants else did_you_mean(name.lower(), devices())
    raise UserError(
        f"unknown device `{name}`\n       devices: {', '.join(devices())}",
        hint=meant
        or "give the device's own peak and memory, or add it to compute/hardware.yaml with a source",
    )


def _variants(name: str, names: Iterable[str]) -> list[str]:
    """Devices whose name has every word that was asked for: `m4` is in apple-m4 and apple-m4-max."""
    asked = set(re.findall(r"[a-z0-9+]+", name.lower()))
    return [key for key in names if asked and asked <= set(key.split("-"))]


def this_device(cpuinfo: str | None = None) -> Device:
    """The CPU that this runs on. Without a known model its ceilings are None; its memory is always read here.

    `cpuinfo` is the text of /proc/cpuinfo (given in tests). A GPU is named by whoever can see one: pass the
    name that torch or nvidia-smi prints to `device_from_name`.
    """
    name = _cpu_name(cpuinfo)
    known = device_from_name(name) if name else None
    memory = _physical_memory()
    return Device(
        name=known.name if known else (name or "unknown CPU"),
        kind=known.kind if known else "cpu",
        maker=known.maker if known else None,
        peaks=known.peaks if known else {},
        memory=memory,
        memory_bandwidth=known.memory_bandwidth if known else None,
        tdp=known.tdp if known else None,
    )


def _cpu_name(cpuinfo: str | None) -> str | None:
    if cpuinfo is None:
        path = Path("/proc/cpuinfo")
        if not path.exists():
            return _mac_cpu_name() or platform.processor() or None
        cpuinfo = path.read_text(encoding="utf-8", errors="replace")
    # x86 has `model name`; Arm boards have `Model` (the board) or `Hardware` (the chip).
    for label in ("model name", "Model", "Hardware"):
        found = re.search(rf"^{label}\s*:\s*(.+)$", cpuinfo, flags=re.MULTILINE)
        if found:
            return _board_name(found.group(1).strip())
    return None


def _board_name(name: str) -> str:
    """`Raspberry Pi 5 Model B Rev 1.0` is a Raspberry Pi 5: revisions do not change the ceilings."""
    board = re.match(r"(Raspberry Pi \d+) Model", name)
    return board.group(1) if board else name


def _mac_cpu_name() -> str | None:
    if platform.system() != "Darwin":
        return None
    import subprocess

    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _physical_memory() -> Figure | None:
    try:
        value = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return None
    return Figure(value=value, source="read on this machine: os.sysconf (physical memory)")
