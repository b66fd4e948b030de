"""This machine's pace: how long one fixed piece of work takes, within a session and from one session to the next.

A machine can be slower for minutes and show nothing of it: guests of the same host, heat, a power limit. Repetitions of
one session then agree with each other and not with the next session's. So a session times the same work beside its
own (in a process of its own, as thread pools are set up once) and leaves the median in a file of this machine:
the next one widens its intervals by how far the pace was seen to move. How far that reaches: benchmarks/profiling.md.

    python -m stillmark.profiling.pace     times the work once for each line that it reads
"""

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmark.analysis.intervals import Interval
from stillmark.cache import cache_folder
from stillmark.profiling.constraints import environment
from stillmark.profiling.quantiles import median
from stillmark.provenance import cpu_model

PRODUCT_SIZE = 768
BUFFER_BYTES = 64 * 2**20  # beyond most caches
TIMES = 4
MAX_SHARE = 0.1  # of a session's time, for probes
MIN_PROBES = 3  # of a session whose pace is known
SESSIONS_KEPT_IN_MIND = 20
SETTLE_SECONDS = 0.05  # threads of a matrix library spin for about 30 ms after their work
READY = "ready"
HISTORY = "paces.jsonl"


@dataclass(frozen=True, kw_only=True)
class PaceRange:
    """Seconds of the fixed work at one number of threads: the median of this session, and of earlier ones here."""

    threads: int
    seconds: float
    num_probes: int
    earlier_seconds: tuple[float, ...]
    """Oldest first; only sessions that no neighbour disturbed."""

    @property
    def least(self) -> float:
        """The shortest of all, over this session's."""
        return min((self.seconds, *self.earlier_seconds)) / self.seconds

    @property
    def most(self) -> float:
        """The longest of all, over this session's."""
        return max((self.seconds, *self.earlier_seconds)) / self.seconds

    def widened(self, interval: Interval, *, is_rate: bool) -> tuple[float, float]:
        """The interval's ends as they would be at the shortest and at the longest of the paces: times go with the
        pace, rates against it."""
        if is_rate:
            return interval.low / self.most, interval.high / self.least
        return interval.low * self.least, interval.high * self.most


class PaceProbe:
    """The work in a process of its own with that many threads; nothing is taken where the process fails.

    Raises OSError where no process can be started.
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.threads = threads
        self.taken: list[float] = []
        self._clock = clock
        self._free_at = 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stillmark.profiling.pace"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(threads),
        )
        assert self._process.stdout
        for line in iter(self._process.stdout.readline, ""):  # others may print as Python starts
            if line.strip() == READY:
                break

    def take(self) -> None:
        """Time the work once, unless that would take more than a tenth of the session."""
        began = self._clock()
        if began >= self._free_at:
            self._take()
            ended = self._clock()
            self._free_at = ended + (ended - began) * (1 / MAX_SHARE - 1)

    def complete(self) -> None:
        """As many as a pace needs, after a short session too."""
        for _ in range(MIN_PROBES - len(self.taken)):
            self._take()

    def _take(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(OSError, ValueError):  # a process that ended says nothing
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            self.taken.append(float(self._process.stdout.readline()))

    def close(self) -> None:
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def pace_range(threads: int, taken: list[float]) -> PaceRange | None:
    """What a session found beside what earlier ones left; None with too few probes."""
    seconds = median(taken)
    if seconds is None or len(taken) < MIN_PROBES:
        return None
    machine = machine_of(threads)
    earlier = [line["seconds"] for line in _history() if line["machine"] == machine]
    return PaceRange(threads=threads, seconds=seconds, num_probes=len(taken),
                     earlier_seconds=tuple(earlier[-SESSIONS_KEPT_IN_MIND:]))  # fmt: skip


def keep(pace: PaceRange, at: str) -> None:
    """For the sessions to come; a home that cannot be written to keeps nothing."""
    line = {
        "machine": machine_of(pace.threads),
        "seconds": pace.seconds,
        "at": at,
        "num_probes": pace.num_probes,
    }
    with contextlib.suppress(OSError, RuntimeError):
        path = cache_folder() / HISTORY
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(line)}\n")  # apart from a line that was cut in half


def machine_of(threads: int) -> list[Any]:
    """What must be the same for two paces to be compared."""
    work_of = [PRODUCT_SIZE, BUFFER_BYTES, TIMES, f"numpy {np.__version__}"]
    return [platform.node(), cpu_model(), os.cpu_count(), threads, *work_of]


def _history() -> list[dict[str, Any]]:
    """What can be read of the file; a line that is not what `keep` wrote is left out."""
    try:
        texts = (cache_folder() / HISTORY).read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):
        return []
    return [line for line in map(_parsed, texts) if line is not None]


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
        seconds = line["seconds"]
        is_sound = isinstance(seconds, float) and math.isfinite(seconds) and seconds > 0 and "machine" in line
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return line if is_sound else None


def work(matrix: np.ndarray, table: np.ndarray, vector: np.ndarray) -> None:
    """4 float32 products of 768 x 768, as a prefill has them; 4 reads of 64 MiB, as a decode step reads weights."""
    for _ in range(TIMES):
        np.matmul(matrix, matrix)
    for _ in range(TIMES):
        np.matmul(table, vector)


def serve() -> None:
    """One line out, seconds, for each line in."""
    matrix = np.ones((PRODUCT_SIZE, PRODUCT_SIZE), dtype=np.float32)
    table = np.ones((BUFFER_BYTES // 4 // 4096, 4096), dtype=np.float32)
    vector = np.ones(4096, dtype=np.float32)
    work(matrix, table, vector)
    print(READY, flush=True)
    for _ in sys.stdin:
        time.sleep(SETTLE_SECONDS)
        began = time.perf_counter()
        work(matrix, table, vector)
        seconds = time.perf_counter() - began
        time.sleep(SETTLE_SECONDS)
        print(seconds, flush=True)


if __name__ == "__main__":
    serve()
