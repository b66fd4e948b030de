"""What a stretch of a job's work took, as its ledger entry holds it: wall and CPU seconds, and joules where metered.

    with Stretch() as stretch:
        work()
    LedgerEntry(..., **stretch.row())

Joules are read from counters (`energy.py`) or unknown: the ledger holds no estimate by design power. A counter reads
the whole machine, so it says nothing of one job where several run at once: then they are unknown too, and the entry's
source says so. They hold what else the machine did meanwhile, and its idle power.
"""

import time
from types import TracebackType
from typing import Any, Self

from stillmark.compute import energy
from stillmark.compute.hardware import Device

ELSEWHERE = "the work was done on another machine, whose meter is not read here"
_jobs_at_once = 1  # of this process's study: as torch's threads, it is the process's


def share_machine(jobs_at_once: int) -> None:
    """Says how many jobs of a study run on this machine at once."""
    global _jobs_at_once
    _jobs_at_once = jobs_at_once


class Stretch:
    """Context manager for one stretch. `device`: the GPU that does the work, None for the CPU. `unread`: why no
    counter that is read here holds the work, where that is so.
    """

    def __init__(self, device: Device | None = None, *, unread: str | None = None) -> None:
        self._unread = unread
        self._meter = energy.EnergyMeter(device=device, powercap=energy.POWERCAP)

    def __enter__(self) -> Self:
        self._meter.__enter__()
        self._started, self._cpu_started = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        self.cpu_seconds = time.process_time() - self._cpu_started
        self._meter.__exit__(kind, error, trace)

    def row(self) -> dict[str, Any]:
        """Fields of a ledger entry."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, **self.joules()}

    def joules(self, share: float = 1.0, shared_by: str = "") -> dict[str, Any]:
        """The fields of energy; `share` of it where a stretch had several parts, and by what it was shared."""
        reading = self._meter.reading
        why = self._unread
        if why is None and _jobs_at_once > 1:
            why = f"{_jobs_at_once} jobs at once share the machine's counters"
        elif why is None and reading.method != "measured":
            why = "; ".join(reading.notes) or "no counter"
        if why is not None or reading.joules is None:
            return {"joules": None, "joules_method": None, "joules_source": why}
        return {
            "joules": reading.joules * share,
            "joules_method": "estimated" if shared_by else "measured",
            "joules_source": reading.source + (f"; {shared_by}" if shared_by else ""),
        }
