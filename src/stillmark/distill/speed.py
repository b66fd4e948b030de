"""How fast training runs, and against what: FLOPs a second beside this machine's float32 matmul peak."""

import time
from functools import cache

import torch

from stillmark.backends.kernels import product

MATMUL_SIZE = 1024
MATMUL_ROUNDS = 8


def matmul_peak(device: torch.device) -> float:
    """FLOPs a second of a float32 product of 1,024-wide matrices: the best of eight, on the threads in use, by the
    faster library (backends/kernels.py), which linear layers use in training unless their weights are sharded.

    On a machine that others keep busy this is what they leave, and an MFU over it is of what was left.
    """
    return measured_peak(str(device), torch.get_num_threads())


@cache
def measured_peak(device: str, num_threads: int) -> float:
    with torch.no_grad():
        first, second = (torch.ones(MATMUL_SIZE, MATMUL_SIZE, device=device) for _ in range(2))
        best = float("inf")
        for _ in range(MATMUL_ROUNDS):
            synchronise(device)
            started = time.perf_counter()
            product(first, second)
            synchronise(device)
            best = min(best, time.perf_counter() - started)
    return 2 * MATMUL_SIZE**3 / best


def synchronise(device: str) -> None:
    if not device.startswith("cpu"):
        torch.accelerator.synchronize()
