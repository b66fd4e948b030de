"""What a process of ours does before it imports torch."""

import contextlib
import ctypes
import gc
import os
import sys

YOUNG_OBJECTS, YOUNG_LOOKS = 20_000, 100
# mallopt's names for them, and its own limit of the first (malloc.h)
MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES = -3, 32 * 2**20
TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES = -1, 512 * 2**20


def start_process() -> None:
    """Once, as the process begins: what follows is faster and computes the same."""
    collect_seldom()
    keep_freed_memory()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        draw_no_bars()


def draw_no_bars() -> None:
    """Of several processes: libraries that load a model would draw bars in each. tqdm reads this once, on import."""
    os.environ["TQDM_DISABLE"] = "1"


def collect_seldom() -> None:
    """From here on Python looks for cycles after 20,000 new objects rather than 700 (2,000 from Python 3.14 on), and
    among those that stayed after a hundred such looks rather than ten.

    Importing torch and transformers makes a million objects that stay, and looking at them over and over takes
    a tenth of the time from the start to the first item, or more (benchmarks/evaluation.md).
    """
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_LOOKS, gc.get_threshold()[2])


def keep_freed_memory() -> None:
    """From here on up to 512 MiB of freed memory stay with the process, where the C library is glibc.

    By default it gives a freed tensor's pages back to the system, and the next tensor faults each of them in again, at
    some 5% of the engine's CPU seconds with one thread (benchmarks/evaluation.md). The peak stays as it was there.
    Engines that are profiled are left as their users have them.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # no mallopt: another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
