"""Device ceilings against published tables, and names as tools print them."""

import pytest

from stillmark.compute.hardware import device, device_from_name, devices, this_device
from stillmark.errors import UserError

# Dense bf16 peaks that torchtitan (tools/utils.py at 0258167) uses for MFU: a second reader of the data
# sheets. It rounds, and gives MI300X as 1300e12.
TORCHTITAN = {
    "a100-sxm-80gb": 312e12,
    "h100-pcie": 756e12,
    "h100-sxm": 989e12,
    "h200": 989e12,
    "b200": 2.25e15,
    "mi300x": 1300e12,
    "l40s": 362e12,
}


@pytest.mark.parametrize(("name", "peak"), TORCHTITAN.items())
def test_bf16_peaks_agree_with_another_reader_of_the_data_sheets(name, peak):
    assert device(name).peak_flops_per_second("bf16") == pytest.approx(peak, rel=0.01)


def test_peaks_are_dense():
    # NVIDIA's white paper ratios: a tensor core does FP8 at twice, TF32 at half the rate of BF16. A sparse
    # figure slipped in among dense ones would break them.
    for name in ("h100-sxm", "h200", "b200", "gb200"):
        peak = device(name).peak_flops_per_second
        assert peak("fp8") == pytest.approx(2 * peak("bf16"), rel=0.001), name
        assert peak("tf32") == pytest.approx(peak("bf16") / 2, rel=0.001), name


def test_every_figure_has_a_source_and_is_in_base_units():
    for known in devices().values():
        figures = [*known.peaks.values(), known.memory, known.memory_bandwidth, known.tdp]
        for figure in filter(None, figures):
            assert len(figure.source) > 10
        assert all(1e11 < peak.value < 1e17 for peak in known.peaks.values()), known.name
        assert known.memory_bytes is None or 1e9 < known.memory_bytes < 1e12, known.name
        bandwidth = known.memory_bandwidth_bytes_per_second
        assert bandwidth is None or 1e10 < bandwidth < 2e13, known.name
        assert known.tdp_watts is None or 1 < known.tdp_watts < 2000, known.name


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-16GB", "v100-sxm2-16gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD EPYC 7763 64-Core Processor", "epyc-7763"),
        ("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", "xeon-platinum-8275cl"),
        ("AMD Ryzen 7 7840U w/ Radeon  780M Graphics", "ryzen-7-7840u"),
        ("Apple M3 Max", "apple-m3-max"),
    ],
)
def test_names_as_tools_print_them(printed, name):
    found = device_from_name(printed)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "printed",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",  # another chip, with about half the rate
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",  # a seventh of the card
        "NVIDIA A100-SXM-64GB",
        "AMD EPYC",
        "NVIDIA H100",  # SXM and PCIe differ by 24%
    ],
)
def test_a_near_name_is_not_the_device(printed):
    assert device_from_name(printed) is None


def test_unknown_and_ambiguous_names_say_what_is_possible():
    with pytest.raises(UserError, match="h100-sxm, h100-pcie, h100-nvl"):
        device("h100")
    with pytest.raises(UserError, match="did you mean `mi300x`"):
        device("mi300")
    with pytest.raises(UserError, match="apple-m4-max"):
        device("m4")


def test_unknown_is_none():
    pixel = device("apple-a17-pro")
    assert pixel.peak_flops_per_second("bf16") is None
    assert pixel.tdp_watts is None
    assert device("t4").peak_flops_per_second("bf16") is None  # Turing has no bf16


def test_this_machine_by_cpuinfo():
    known = this_device("processor\t: 0\nmodel name\t: AMD EPYC 7763 64-Core Processor\n")
    assert (known.name, known.tdp_watts) == ("epyc-7763", 280)
    assert known.peak_flops_per_second("fp32") is None
    unknown = this_device("processor\t: 0\nmodel name\t: AMD EPYC\n")
    assert (unknown.name, unknown.tdp_watts) == ("AMD EPYC", None)
    board = this_device("processor\t: 0\nModel\t\t: Raspberry Pi 5 Model B Rev 1.1\n")
    assert board.name == "raspberry-pi-5"
    assert this_device("").name == "unknown CPU"
    assert this_device().memory_bytes is not None
