"""Energy: counters as the kernel writes them, the fallback and its label; carbon against a published sum."""

import sys
import time
import types

import pytest

from stillmark.compute.carbon import carbon_kilograms, grid_intensities, grid_intensity
from stillmark.compute.energy import EnergyMeter, EnergyReading, estimated, reading_of
from stillmark.compute.hardware import Device, device
from stillmark.errors import UserError


def powercap(root, domains):
    """A /sys/class/powercap with these domains: folder -> (name, energy in microjoules, range)."""
    for folder, (name, energy, limit) in domains.items():
        (root / folder).mkdir()
        (root / folder / "name").write_text(name + "\n")
        (root / folder / "energy_uj").write_text(f"{energy}\n")
        (root / folder / "max_energy_range_uj").write_text(f"{limit}\n")
    return root


def test_rapl_adds_packages_and_memory_once_and_survives_a_wrap(tmp_path):
    limit = 262_143_328_850
    root = powercap(
        tmp_path,
        {
            "intel-rapl:0": ("package-0", limit - 1_000_000, limit),
            "intel-rapl:0:0": ("core", 5, limit),  # within the package: not added
            "intel-rapl:0:1": ("dram", 1_000_000, limit),
            "intel-rapl:1": ("psys", 7, limit),  # holds the package: not added
        },
    )
    with EnergyMeter(powercap=root) as meter:
        (root / "intel-rapl:0" / "energy_uj").write_text("1999999\n")  # wrapped: 3 J in all
        (root / "intel-rapl:0:1" / "energy_uj").write_text("1500000\n")
        (root / "intel-rapl:0:0" / "energy_uj").write_text("99000000\n")
    assert meter.reading.method == "measured"
    assert meter.reading.joules == pytest.approx(3.5)
    assert meter.reading.scope == ("CPU package-0", "memory")


def test_without_a_counter_the_tdp_is_assumed_and_said(tmp_path):
    with EnergyMeter(device=device("epyc-7763"), utilisation=0.5, powercap=tmp_path) as meter:
        pass
    reading = meter.reading
    assert reading.method == "estimated"
    assert reading.joules == pytest.approx(280 * 0.5 * reading.seconds)
    assert "TDP 280 W x 50%" in reading.source
    assert "no RAPL counter" in reading.notes[0]


def test_a_counter_that_did_not_move_is_not_zero_joules(tmp_path):
    root = powercap(tmp_path, {"intel-rapl:0": ("package-0", 10, 1000)})
    with EnergyMeter(powercap=root) as meter:
        pass
    assert meter.reading.joules is None
    assert meter.reading.method is None
    assert any("did not move" in note for note in meter.reading.notes)


def test_the_cpu_alone_does_not_pass_for_a_gpus_work(tmp_path):
    class Package:
        scope, source = "CPU package-0", "fake"

        def start(self):
            pass

        def joules_since(self):
            return 40.0

    unknown = Device(name="new GPU", kind="gpu")
    reading = reading_of([Package()], seconds=2.0, notes=[], device=unknown)
    assert reading.joules is None
    assert any("alone used 40 J" in note for note in reading.notes)
    tensor = reading_of([Package()], seconds=2.0, notes=[], device=device("tpu-v5e"))
    assert tensor.joules is None
    known = reading_of([Package()], seconds=2.0, notes=[], device=device("h100-sxm"))
    assert (known.joules, known.method) == (40 + 1400, "estimated")


def test_a_counter_that_wraps_twice_is_read_in_between(tmp_path, monkeypatch):
    monkeypatch.setattr("stillmark.compute.energy.SECONDS_BETWEEN_READS", 0.001)
    root = powercap(tmp_path, {"intel-rapl:0": ("package-0", 0, 999_999)})
    energy = root / "intel-rapl:0" / "energy_uj"
    with EnergyMeter(powercap=root) as meter:
        for value in (600_000, 200_000, 800_000, 400_000):  # 0.6 J each: 2.4 J, two wraps
            partial = root / "partial"
            partial.write_text(f"{value}\n")
            partial.replace(energy)  # at once, as the kernel does it
            time.sleep(0.1)
    assert meter.reading.joules == pytest.approx(2.4)


def test_nvml_reads_millijoules(tmp_path, monkeypatch):
    totals = iter([0, 1_000_000, 1_900_000])
    fake = types.ModuleType("pynvml")
    fake.NVMLError = RuntimeError
    fake.nvmlInit = lambda: None
    fake.nvmlDeviceGetCount = lambda: 1
    fake.nvmlDeviceGetHandleByIndex = lambda index: index
    fake.nvmlDeviceGetTotalEnergyConsumption = lambda handle: next(totals)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    with EnergyMeter(device=device("h100-sxm"), powercap=tmp_path) as meter:
        pass
    assert (meter.reading.joules, meter.reading.method) == (900.0, "measured")


def test_unknown_device_has_no_estimate():
    assert estimated(Device(name="x", kind="cpu"), seconds=10) is None
    assert estimated(None, seconds=10) is None
    assert EnergyReading(seconds=1.0).joules is None
    with pytest.raises(UserError, match="utilisation of 70"):
        EnergyMeter(utilisation=70)


def test_carbon_of_llama_31_training_at_the_us_mean():
    # Model card: 1.46M H100-hours at 700 W gave 420 t CO2e, location-based: 0.41 kg/kWh.
    # Meta's grids are not the US mean of 2023 (0.369), so the order is what must agree.
    joules = 1.46e6 * 3600 * 700
    assert carbon_kilograms(joules, "USA") == pytest.approx(420e3, rel=0.15)


def test_carbon_by_code_and_name_and_unknown():
    assert carbon_kilograms(3.6e6, "FRA") == pytest.approx(0.056, abs=1e-3)
    assert grid_intensity("france") == grid_intensity("FRA")
    assert grid_intensity("us-ca").year == 2023
    assert carbon_kilograms(None, "FRA") is None
    with pytest.raises(UserError, match="did you mean `germany`"):
        carbon_kilograms(1.0, "Germny")
    assert all(0 < g.kilograms_per_kilowatt_hour < 1.5 for g in grid_intensities().values())
