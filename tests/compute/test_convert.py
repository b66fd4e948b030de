"""Hours and FLOPs against the arithmetic of published runs."""

import pytest

from stillmark.compute.convert import (
    Utilisation,
    flops_from_hours,
    hours_from_flops,
    implied_mfu,
    utilisation_of,
)
from stillmark.compute.hardware import device
from stillmark.errors import UserError


def test_llama_31_8b_hours_imply_an_mfu_of_14_percent():
    # Model card: 1.46M H100-hours, 15T tokens; 8.03e9 parameters.
    peak = device("h100-sxm").peak_flops_per_second("bf16")
    mfu = implied_mfu(flops=6 * 8.03e9 * 15e12, device_hours=1.46e6, peak_flops_per_second=peak)
    assert mfu == pytest.approx(0.139, abs=5e-4)


def test_vanilla_flops_from_hours_as_in_the_notes_on_the_paper():
    # 1.46M h x 989.4e12 x 0.38 to 0.43 = 1.98e24 to 2.24e24
    for mfu, flops in [(0.38, 1.98e24), (0.43, 2.24e24)]:
        used = utilisation_of(device("h100-sxm"), dtype="bf16", mfu=mfu, basis="Llama 3, Table 4, 405B")
        assert flops_from_hours(1.46e6, used) == pytest.approx(flops, rel=0.005)
        assert hours_from_flops(flops_from_hours(1.46e6, used), used) == pytest.approx(1.46e6)


def test_an_mfu_in_percent_or_without_a_peak_is_refused():
    with pytest.raises(UserError, match=r"did you mean 0\.4"):
        Utilisation(mfu=40, peak_flops_per_second=1e15, basis="assumed")
    with pytest.raises(UserError, match="not possible"):
        Utilisation(mfu=0, peak_flops_per_second=1e15, basis="assumed")
    with pytest.raises(UserError, match=r"in bf16 is not known \(known: fp16, fp32, int8\)"):
        utilisation_of(device("t4"), dtype="bf16", mfu=0.4, basis="assumed")


def test_unknown_gives_no_mfu():
    assert implied_mfu(flops=None, device_hours=1.0, peak_flops_per_second=1e15) is None
    assert implied_mfu(flops=1e18, device_hours=None, peak_flops_per_second=1e15) is None
    assert implied_mfu(flops=1e18, device_hours=1.0, peak_flops_per_second=None) is None
