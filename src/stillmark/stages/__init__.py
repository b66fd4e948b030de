"""Carries out one job of a plan: reads the study and earlier records, writes records, shares nothing else.

A job can be killed at any moment and begun again: it goes on from what is recorded.
"""

import os
from collections.abc import Callable

import torch

from stillmark.distill.speed import matmul_peak
from stillmark.plan import Job, Plan
from stillmark.provenance import provenance
from stillmark.records import Store
from stillmark.stages.adopt import adopt
from stillmark.stages.ask import evaluate, generate
from stillmark.stages.profile import profile
from stillmark.stages.text import capture, evaluate_text
from stillmark.stages.train import train

Report = Callable[[float], None]  # told the fraction of the job that is done


def do_job(job: Job, plan: Plan, store: Store, report: Report = lambda fraction: None) -> None:
    """Carries out a job whose needs are finished, and marks it finished."""
    torch.set_num_threads(plan.study.threads or os.cpu_count() or 1)
    torch.use_deterministic_algorithms(True)
    machine = {**provenance(), "threads": torch.get_num_threads()}
    if job.stage == "train":  # what the FLOPs and seconds of its ledger entries are held against: the MFU
        machine["matmul_flops_per_second"] = matmul_peak(torch.device("cpu"))
    store.begin_job(job.key, job.stage, job.inputs, machine)
    is_text = plan.study.is_text
    stages = {
        "adopt": adopt, "train": train, "generate": generate, "capture": capture,
        "evaluate": evaluate_text if is_text else evaluate, "profile": profile,
    }  # fmt: skip
    stages[job.stage](job, plan, store, report)
    store.finish_job(job.key)
