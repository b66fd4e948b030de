"""Carries out one job of a plan: reads the study and earlier records, writes records, shares nothing else.

A job can be killed at any moment and begun again: it goes on from what is recorded.
"""

import os
from collections.abc import Callable

import torch

from stillmark.backends.kernels import is_onednn_faster
from stillmark.distill.processes import Processes
from stillmark.distill.speed import matmul_peak
from stillmark.plan import Job, Plan
from stillmark.provenance import num_cores, provenance
from stillmark.records import Store
from stillmark.stages.adopt import adopt
from stillmark.stages.ask import evaluate, generate
from stillmark.stages.benchmark import benchmark
from stillmark.stages.profile import profile
from stillmark.stages.text import capture, evaluate_text
from stillmark.stages.train import train

Report = Callable[[float], None]  # told the fraction of the job that is done


def do_job(
    job: Job,
    plan: Plan,
    store: Store,
    report: Report = lambda fraction: None,
    processes: Processes | None = None,
) -> None:
    """Carries out a job whose needs are finished, and marks it finished.

    `processes`: those that train it together, each with a store of its own; None: this one alone, on the CPU.
    """
    processes = processes or Processes()
    if "format" in job.inputs:  # a quantised arm's, in llama.cpp
        processes = Processes()
    cores = max(1, num_cores() // processes.count_here)
    torch.set_num_threads(plan.study.threads or cores)
    if processes.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    # What has no deterministic kernel on a GPU says so, and runs
    torch.use_deterministic_algorithms(True, warn_only=processes.device.type != "cpu")
    machine = {**provenance(), "threads": torch.get_num_threads()}
    if job.stage == "train":  # what the FLOPs and seconds of its ledger entries are held against: the MFU
        (peak,) = processes.sums([matmul_peak(processes.device)])
        is_plain = processes.device.type == "cpu" and not processes.is_sharded
        machine |= {"device": processes.device_name, "matmul_flops_per_second": peak,
                    "has_onednn_linears": is_plain and is_onednn_faster()}  # fmt: skip
    store.begin_job(job.key, job.stage, job.inputs, machine)
    is_text = plan.study.is_text
    stages: dict[str, Callable[..., None]] = {
        "adopt": adopt, "train": train, "generate": generate, "capture": capture,
        "evaluate": evaluate_text if is_text else evaluate, "benchmark": benchmark, "profile": profile,
    }  # fmt: skip
    stages[job.stage](job, plan, store, report, processes)
    store.finish_job(job.key)
