"""Hours and FLOPs: one becomes the other only with the model FLOPs utilisation (MFU) stated.

    FLOPs = device-hours · 3600 · peak FLOP/s · MFU

The same hours at an MFU of 14% and of 43% are FLOPs a factor of three apart, so a conversion without its
MFU says nothing (Llama-3.1-8B: 1.46M published H100-hours and 6ND imply 14%; the 405B run reports 38-43%).
Where hours and FLOPs are both known, `implied_mfu` is what ties them, and is printed.

MFU counts the model's own FLOPs (PaLM, arXiv:2204.02311, appendix B); FLOPs that are recomputed to save
memory are in the hardware's FLOPs, not the model's.
"""

from dataclasses import dataclass

from stillmark.compute.hardware import Device
from stillmark.errors import UserError

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Utilisation:
    """The MFU that a conversion rests on, with the peak it is a share of and where it comes from."""

    mfu: float
    peak_flops_per_second: float
    basis: str
    """Who says so, and of which run: `reported by ...`, `assumed`."""

    def __post_init__(self) -> None:
        if not 0 < self.mfu <= 1:
            raise UserError(
                f"an MFU of {self.mfu} is not possible: it is a share of the peak, above 0 and at most 1",
                hint=f"did you mean {self.mfu / 100}?" if 1 < self.mfu <= 100 else None,
            )
        if not self.peak_flops_per_second > 0:
            raise UserError(f"a peak of {self.peak_flops_per_second} FLOP/s is not possible")

    @property
    def flops_per_hour(self) -> float:
        """Model FLOPs that one device does in an hour."""
        return self.peak_flops_per_second * self.mfu * SECONDS_PER_HOUR

    def __str__(self) -> str:
        return f"MFU {self.mfu:.1%} of {self.peak_flops_per_second / 1e12:,.1f} TFLOP/s ({self.basis})"


def utilisation_of(device: Device, *, dtype: str, mfu: float, basis: str) -> Utilisation:
    """The MFU as a share of the device's dense peak in that format; a UserError where it is not known."""
    peak = device.peak_flops_per_second(dtype)
    if peak is None:
        known = ", ".join(sorted(device.peaks)) or "none"
        raise UserError(
            f"the peak of `{device.name}` in {dtype} is not known (known: {known}), so hours cannot be told",
            hint=f"name a format that is known ({known}), another device, or the peak yourself",
        )
    return Utilisation(mfu=mfu, peak_flops_per_second=peak, basis=basis)


def flops_from_hours(device_hours: float, utilisation: Utilisation) -> float:
    """Model FLOPs done in that many device-hours at the stated MFU."""
    return device_hours * utilisation.flops_per_hour


def hours_from_flops(flops: float, utilisation: Utilisation) -> float:
    """Device-hours that the FLOPs take at the stated MFU."""
    return flops / utilisation.flops_per_hour


def implied_mfu(
    *, flops: float | None, device_hours: float | None, peak_flops_per_second: float | None
) -> float | None:
    """The share of the peak that FLOPs and hours together imply; None where any of the three is unknown.

    Above 1 is returned as it is: it says that one of the three is wrong.
    """
    if flops is None or not device_hours or not peak_flops_per_second:
        return None
    return flops / (device_hours * SECONDS_PER_HOUR * peak_flops_per_second)
