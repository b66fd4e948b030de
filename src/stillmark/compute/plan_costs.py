"""Work turned into hours, money and energy on given hardware.

Hours need the MFU of the kind of work, money a price of an hour (or of electricity, for one's own device),
and energy the device's TDP. What is missing is None, and so is what rests on it."""

from dataclasses import dataclass

from stillmark.compute.convert import SECONDS_PER_HOUR, Utilisation, hours_from_flops
from stillmark.compute.energy import JOULES_PER_KILOWATT_HOUR
from stillmark.compute.hardware import Device
from stillmark.compute.workloads import Work


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the work runs on, and what an hour of it costs."""

    device: Device
    train: Utilisation | None
    """Of training and of reading (scoring). None where the peak is not known: then no hours are told."""
    generate: Utilisation | None
    """Of writing answers, which reads all weights for each token and so reaches far less."""
    num_devices: int = 1
    usd_per_hour: float | None = None
    """Of one device."""
    price_basis: str | None = None
    """Whose price, and of which day."""
    usd_per_kilowatt_hour: float | None = None
    """Of electricity, for a device of one's own: what an hour costs where it has no price."""
    power_share: float = 1.0
    """Share of the TDP that an estimate of energy assumes; 1 is what Meta's model cards take."""

    def cost(self, flops: float | None, work: Work) -> "Cost":
        """Hours at the MFU of that work, and the money and energy of these hours."""
        used = self.generate if work is Work.GENERATE else self.train
        hours = hours_from_flops(flops, used) if used and flops is not None else None
        joules = _product(hours, self.device.tdp_watts, self.power_share, SECONDS_PER_HOUR)
        if self.usd_per_hour is None and self.usd_per_kilowatt_hour is not None:
            usd = _product(joules, self.usd_per_kilowatt_hour, 1 / JOULES_PER_KILOWATT_HOUR)
        else:
            usd = _product(hours, self.usd_per_hour)
        return Cost(flops=flops, device_hours=hours, usd=usd, joules=joules)

    def wall_hours(self, device_hours: float | None) -> float | None:
        """With all devices at work at once."""
        return None if device_hours is None else device_hours / self.num_devices


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs, device-hours, US dollars, joules; None where unknown. Energy is always an estimate by TDP."""

    flops: float | None = 0.0
    device_hours: float | None = 0.0
    usd: float | None = 0.0
    joules: float | None = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            flops=_sum(self.flops, other.flops),
            device_hours=_sum(self.device_hours, other.device_hours),
            usd=_sum(self.usd, other.usd),
            joules=_sum(self.joules, other.joules),
        )

    def times(self, number: float) -> "Cost":
        return Cost(
            flops=_product(self.flops, number),
            device_hours=_product(self.device_hours, number),
            usd=_product(self.usd, number),
            joules=_product(self.joules, number),
        )


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _product(*factors: float | None) -> float | None:
    result = 1.0
    for factor in factors:
        if factor is None:
            return None
        result *= factor
    return result
