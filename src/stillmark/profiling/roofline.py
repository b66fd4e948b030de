"""This machine's ceilings, measured in about eight seconds: float32 matmul FLOP/s and memory read bandwidth.

A ceiling is the best of many tries, as noise only takes away. Both run at the number of threads that the
engine gets, in a process of their own (`python -m stillmark.profiling.roofline THREADS`), since thread pools
are set up once a process. Prefill is bound by FLOP/s, decode by bandwidth (each step reads all weights):

    seconds >= max(FLOPs / FLOP/s, bytes / bytes/s)          (roofline, Williams et al. 2009)

float32 is the one format that every CPU runs well; int8 and bf16 kernels can pass it on newer ones.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache

from stillmark.compute.predictor import Limits
from stillmark.profiling.constraints import environment
from stillmark.profiling.machine import cpu_books, foreign_cores, own_cpu_seconds

MATMUL_SIZE = 1536
BUFFER_BYTES = 384 * 2**20  # beyond any cache of a laptop or an edge board
SECONDS_EACH = 2.0


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """Measured on this machine; None where it could not be."""

    threads: int
    flops_per_second: float | None
    """float32 matrix product, 1536 x 1536."""
    bytes_per_second: float | None
    """Reading memory once: a matrix-vector product or a sum over 384 MiB, whichever is faster."""

    foreign_cores: float | None = None
    """Cores that others kept busy meanwhile: with any, the ceilings are too low, and utilisations too high."""

    @property
    def limits(self) -> Limits:
        """As a device of the predictor; its memory is not probed."""
        return Limits(
            name="this machine",
            flops_per_second=self.flops_per_second,
            bytes_per_second=self.bytes_per_second,
            memory_bytes=None,
            flops_format="fp32, measured",
        )

    def bound_seconds(self, flops: float | None, num_bytes: float | None) -> float | None:
        """The least time for that work; None where a side is unknown."""
        if None in (flops, num_bytes, self.flops_per_second, self.bytes_per_second):
            return None
        assert flops is not None
        assert num_bytes is not None
        assert self.flops_per_second is not None
        assert self.bytes_per_second is not None
        return max(flops / self.flops_per_second, num_bytes / self.bytes_per_second)


@cache
def measured_ceilings(threads: int) -> Ceilings:
    """In a child process with that many threads; once a session for each number."""
    command = [sys.executable, "-m", "stillmark.profiling.roofline", str(threads)]
    books, own = cpu_books(), own_cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, env=environment(threads), check=False)
    foreign = foreign_cores(books, cpu_books(), own_cpu_seconds() - own)
    if done.returncode:
        return Ceilings(threads=threads, flops_per_second=None, bytes_per_second=None)
    return replace(Ceilings(**json.loads(done.stdout.splitlines()[-1])), foreign_cores=foreign)


def probe(threads: int) -> Ceilings:
    """Here and now, with torch."""
    import torch

    torch.set_num_threads(threads)
    matrix = torch.rand(MATMUL_SIZE, MATMUL_SIZE)
    product = torch.empty_like(matrix)
    flops_per_second = 2 * MATMUL_SIZE**3 / best_seconds(lambda: torch.mm(matrix, matrix, out=product))
    columns = 4096
    table = torch.ones(BUFFER_BYTES // 4 // columns, columns)
    vector = torch.ones(columns)
    fastest = min(
        best_seconds(lambda: torch.mv(table, vector), SECONDS_EACH / 2),
        best_seconds(lambda: table.sum(), SECONDS_EACH / 2),
    )
    return Ceilings(
        threads=threads,
        flops_per_second=flops_per_second,
        bytes_per_second=table.numel() * table.element_size() / fastest,
    )


def best_seconds(work: Callable[[], object], budget_seconds: float = SECONDS_EACH) -> float:
    """The fastest of as many tries as fit, three at least, after one that does not count."""
    work()
    best, tries, ends = float("inf"), 0, time.perf_counter() + budget_seconds
    while tries < 3 or time.perf_counter() < ends:
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
        tries += 1
    return best


if __name__ == "__main__":
    print(json.dumps(asdict(probe(int(sys.argv[1])))))
