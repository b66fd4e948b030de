"""Energy of the timed repetitions: gross, idle, net, with the tier of evidence of each.

    tier A  wall meter (not here)    B  hardware counter: RAPL, NVML    C  estimate: TDP · utilisation · seconds

Idle power is measured with the same counters while nothing runs, and stated. Gross is the headline, as MLPerf
Power charges idle. Net is given for counters only: an estimate from the TDP has no idle to take away. Figures
of different tiers do not compare.
"""

import time
from dataclasses import dataclass

from stillmark.compute.energy import EnergyMeter, EnergyReading
from stillmark.compute.hardware import Device

IDLE_SECONDS = 2.0
TIERS = {"measured": "B", "estimated": "C"}


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Joules of all repetitions of one arm at one setting; None where not known."""

    joules: float | None
    seconds: float
    method: str | None
    source: str
    idle_watts: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def tier(self) -> str | None:
        return TIERS.get(self.method or "")

    @property
    def net_joules(self) -> float | None:
        if self.joules is None or self.idle_watts is None or self.method != "measured":
            return None
        return self.joules - self.idle_watts * self.seconds


def idle_watts(device: Device | None, seconds: float = IDLE_SECONDS) -> float | None:
    """Power while nothing of ours runs, from counters; None without them."""
    with EnergyMeter(device=device) as meter:
        time.sleep(seconds)
    return meter.reading.watts if meter.reading.method == "measured" else None


def total(readings: list[EnergyReading], idle: float | None) -> Energy:
    """The sum, known only where every reading is, and measured only where every one is."""
    joules = [reading.joules for reading in readings]
    known = [value for value in joules if value is not None]
    methods = {reading.method for reading in readings}
    is_known = bool(readings) and len(known) == len(joules)
    method = ("measured" if methods == {"measured"} else "estimated") if is_known else None
    notes = dict.fromkeys(note for reading in readings for note in reading.notes)
    return Energy(
        joules=sum(known) if is_known else None,
        seconds=sum(reading.seconds for reading in readings),
        method=method,
        source=readings[0].source if readings else "not measured",
        idle_watts=idle,
        notes=tuple(notes),
    )
