"""What a process of ours begins with does what it says, in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from stillmark.startup import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()


def faults():
    for _ in range(50):
        first = np.ones(6_000_000, dtype=np.float32)  # 24 MB, and another: more than glibc keeps by itself
        second = np.ones(6_000_000, dtype=np.float32)
        third = np.ones(6_000_000, dtype=np.float32)
        del first, second, third
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


before = faults()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_not_faulted_in_again():
    def counted(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert counted("kept") < 0.1 * counted("as it is")


BARS = """
from stillmark.startup import start_process

start_process()
from tqdm import tqdm

list(tqdm(range(3)))
"""


def test_launched_processes_draw_no_bars_of_libraries():
    def drawn(processes: str) -> str:
        environment = {**os.environ, "WORLD_SIZE": processes}
        environment.pop("TQDM_DISABLE", None)
        done = subprocess.run(
            [sys.executable, "-c", BARS], env=environment, capture_output=True, text=True, check=True
        )
        return done.stderr

    assert "3/3" in drawn("1")
    assert drawn("2") == ""
