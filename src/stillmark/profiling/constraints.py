"""Limits that stand for a smaller device: enforced by the system in the engine's own process, or refused.

- threads: the engine's setting, and OMP_NUM_THREADS before it starts;
- cores: the scheduler's affinity mask (Linux);
- memory: RLIMIT_AS. The cap is meant for resident memory. What the interpreter and its libraries had mapped
  before the model was loaded counts by what of it is resident; all that is mapped afterwards counts whole. So
  a run within the cap stays under it, and one that maps much more than it touches is refused early. Device
  memory (CUDA) is not covered, and asking for it is refused. A control group's cap (cgroup) is not used: it
  lets a model file larger than the cap be read from disk again and again where this one says "does not fit";
- context and batch: the engine's settings, with the model's window as the limit.

What limits cannot show: a smaller device's caches, memory bandwidth and instructions: `compute/predictor.py` is
for those.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stillmark
from stillmark.errors import UserError
from stillmark.provenance import num_cores
from stillmark.study.amounts import bytes_of as bytes_of

PROC_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """None: not limited."""

    cores: tuple[int, ...] | None = None
    """Numbers of the cores that may be used."""
    memory_bytes: int | None = None

    @property
    def memory_cap_kind(self) -> str | None:
        """By what the cap is enforced; None without one."""
        return None if self.memory_bytes is None else "address space (RLIMIT_AS)"

    def as_dict(self) -> dict[str, Any]:
        return {"cores": list(self.cores) if self.cores else None, "memory_bytes": self.memory_bytes}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Constraints":
        cores = value.get("cores")
        return cls(cores=tuple(cores) if cores else None, memory_bytes=value.get("memory_bytes"))


def check_constraints(constraints: Constraints, *, threads: int | None, device: str = "cpu") -> None:
    """A UserError for what this system cannot enforce or what contradicts itself."""
    if constraints.cores is not None:
        if not hasattr(os, "sched_getaffinity"):
            raise UserError(f"cores cannot be chosen on {sys.platform}: it has no affinity mask")
        allowed = os.sched_getaffinity(0)
        missing = sorted(set(constraints.cores) - allowed)
        if missing:
            raise UserError(f"no core {missing} on this machine (cores: {sorted(allowed)})")
        if threads is not None and threads > len(constraints.cores):
            raise UserError(
                f"{threads} threads on {len(constraints.cores)} cores would wait for each other",
                hint=f"use --threads {len(constraints.cores)} or allow more cores",
            )
    if constraints.memory_bytes is not None:
        if not PROC_STATUS.exists():
            raise UserError(f"memory cannot be capped on {sys.platform}: RLIMIT_AS and /proc are needed")
        if device != "cpu":
            raise UserError(f"the memory of `{device}` cannot be capped: only the host's can")
    if threads is not None and not 1 <= threads <= num_cores():
        raise UserError(f"{threads} threads are not possible here: this process may use {num_cores()} cores")


def apply_cores(constraints: Constraints) -> None:
    """Bind this process. Before the engine is imported, as its threads inherit the mask."""
    if constraints.cores is not None:
        os.sched_setaffinity(0, constraints.cores)


def apply_memory_cap(constraints: Constraints) -> None:
    """Cap this process. After the engine's libraries are imported, before the model is loaded."""
    if constraints.memory_bytes is None:
        return
    import resource

    status = memory_status()
    limit = status["VmSize"] + max(0, constraints.memory_bytes - status["VmRSS"])
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def lift_memory_cap() -> None:
    """For the last words of a process that ran into its cap."""
    if PROC_STATUS.exists():
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def environment(threads: int | None) -> dict[str, str]:
    """For the engine's process. Few malloc arenas, which would reserve 64 MiB each of a capped memory."""
    values = dict(os.environ)
    values["MALLOC_ARENA_MAX"] = "2"
    # the same package as here, also where it is not installed
    here = str(Path(stillmark.__file__).parents[1])
    values["PYTHONPATH"] = os.pathsep.join(filter(None, (here, values.get("PYTHONPATH"))))
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
            values[name] = str(threads)
    return values


def memory_status(path: Path = PROC_STATUS) -> dict[str, int]:
    """Vm* and Rss* of a process in bytes: VmSize, VmPeak, VmRSS, VmHWM (the peak of VmRSS), RssAnon, RssFile."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.startswith(("Vm", "Rss")) and rest.split():
            found[name] = int(rest.split()[0]) * 1024
    return found
