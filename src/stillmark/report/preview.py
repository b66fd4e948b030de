"""What `stillmark check` prints: the stages of a study before anything is run."""

import time
from collections import defaultdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stillmark.plan import Job, Plan
from stillmark.provenance import num_cores
from stillmark.study import Study

# Share of this machine's matmul rate that a stage is taken to reach, for the time that is predicted. Small models
# lose most of it to the many small operations around the matmuls, and decoding loses nearly all.
ASSUMED_UTILISATION = {
    "adopt": 1.0, "train": 0.45, "capture": 0.5, "generate": 0.08, "evaluate": 0.06, "benchmark": 0.3,
}  # fmt: skip
PROBE_SIZE = 512


def preview_of(study: Study) -> dict[str, Any]:
    """Arms and stages in order with parameters, tokens, predicted FLOPs and time."""
    plan = Plan(study)
    rate = matmul_rate()
    stages: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in plan.jobs.values():
        stages[job.arm, job.stage].append(job)
    rows = [stage_row(plan, arm, stage, jobs, rate) for (arm, stage), jobs in stages.items()]
    return {
        "name": study.name,
        "seeds": list(study.seeds),
        "stages": rows,
        "num_jobs": len(plan.jobs),
        "predicted_flops": plan.predicted_flops,
        "predicted_core_seconds": sum(row["predicted_core_seconds"] for row in rows),
        "basis": f"budgets and mean lengths of the task's samples; time from a matmul probe of this machine, "
        f"{rate / 1e9:.0f} GFLOP/s on one core, and assumed utilisation {ASSUMED_UTILISATION}",
    }


def stage_row(plan: Plan, arm: str, stage: str, jobs: list[Job], rate: float) -> dict[str, Any]:
    flops = sum(job.predicted_flops for job in jobs)
    is_one_arms = arm in plan.study.arms  # a profile is of several
    work = "capture" if stage == "evaluate" and plan.study.is_text else stage  # reading text, as capture does
    return {
        "arm": arm,
        "kind": plan.study.arms[arm].kind if is_one_arms else None,
        "stage": stage,
        "num_jobs": len(jobs),
        "params": plan.shape(arm).params if is_one_arms else None,
        "predicted_tokens": sum(job.predicted_tokens for job in jobs),
        "predicted_flops": flops,
        "predicted_core_seconds": sum(map(profile_core_seconds, jobs))
        if stage == "profile"
        else flops / (rate * ASSUMED_UTILISATION[work]),
    }


def profile_core_seconds(job: Job) -> float:
    """A profile ends by the clock: its budget for each engine, format and memory cap, on its threads."""
    num_formats = sum(len(formats) for arm in job.inputs["arms"] for formats in arm["engines"].values())
    num_settings = num_formats * len(job.inputs["memory_cap_bytes"])
    threads: int = job.inputs["threads"] or num_cores()
    return float(job.inputs["budget_seconds"]) * num_settings * threads


def matmul_rate() -> float:
    """FLOP/s of a float32 matmul on one core: the CPU time of numpy's, best of several."""
    matrix = np.ones((PROBE_SIZE, PROBE_SIZE), dtype=np.float32)
    best = float("inf")
    for _ in range(40):
        started = time.process_time()
        for _ in range(4):
            matrix @ matrix
        best = min(best, time.process_time() - started)
    return 4 * 2 * PROBE_SIZE**3 / max(best, 1e-9)


def print_preview(preview: dict[str, Any]) -> None:
    """The preview as a table on stdout."""
    console = Console()
    table = Table(
        title=f"{preview['name']}: what would be run, over {len(preview['seeds'])} seeds",
        title_justify="left",
    )
    for name in ("arm", "kind", "stage"):
        table.add_column(name, overflow="fold")
    for name in ("jobs", "params", "tokens", "TFLOP", "core-seconds"):
        table.add_column(name, justify="right")
    for row in preview["stages"]:
        table.add_row(
            row["arm"], row["kind"] or "", row["stage"], str(row["num_jobs"]),
            "" if row["params"] is None else f"{row['params']:,}",
            f"{row['predicted_tokens']:,}", f"{row['predicted_flops'] / 1e12:.3g}",
            f"{row['predicted_core_seconds']:.0f}",
        )  # fmt: skip
    console.print(table)
    seconds = preview["predicted_core_seconds"]
    console.print(
        f"in all: {preview['num_jobs']} jobs, {preview['predicted_flops'] / 1e12:.3g} TFLOP, about "
        f"{seconds / 60:.1f} minutes on one core, less on more (estimated: {preview['basis']})"
    )
