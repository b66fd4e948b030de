"""Who else uses the machine: against books that are written by hand, and a busy loop beside it."""

import subprocess
import sys

import pytest

from stillmark.profiling.machine import CpuBooks, cpu_books, foreign_cores, foreign_cores_over, machine_state


def test_the_kernels_books_by_hand(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  1000 200 300 5000 50 10 20 400 0 0\ncpu0 1 1 1 1\n")
    books = cpu_books(stat)
    assert books.busy_seconds == pytest.approx((1000 + 200 + 300 + 10 + 20) / 100)  # ticks of 10 ms
    assert books.stolen_seconds == pytest.approx(4.0)
    assert cpu_books(tmp_path / "absent") is None


def test_foreign_is_busy_less_own_plus_stolen():
    before = CpuBooks(busy_seconds=100.0, stolen_seconds=5.0, at=10.0)
    after = CpuBooks(busy_seconds=107.0, stolen_seconds=6.0, at=14.0)
    assert foreign_cores(before, after, own_cpu_seconds=4.0) == pytest.approx((7 - 4 + 1) / 4)
    assert foreign_cores(before, after, own_cpu_seconds=9.0) == 0.0
    assert foreign_cores(None, after, own_cpu_seconds=0.0) is None


@pytest.mark.skipif(cpu_books() is None, reason="the system shows no /proc/stat")
def test_a_busy_loop_beside_it_is_noticed():
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert foreign_cores_over(0.6) > 0.1  # over the limit of a machine with two cores
    finally:
        busy.kill()
        busy.wait()


def test_what_the_system_does_not_show_is_none():
    state = machine_state().as_dict()
    assert set(state) == {"load_average", "clock_hertz", "governor", "temperature_celsius",
                          "available_memory_bytes", "is_on_battery"}  # fmt: skip
    assert all(value is None or value != 0 or name == "load_average" for name, value in state.items()
               if name != "is_on_battery")  # fmt: skip
