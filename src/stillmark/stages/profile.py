"""Measured inference of one arm, alone on the machine: the profiling procedure, its figures as records."""

import os
import shutil
from typing import Any

from stillmark.errors import UserError
from stillmark.plan import Job, Plan
from stillmark.profiling.arm_profile import ArmRequest, profile_arm
from stillmark.profiling.workload import Workload
from stillmark.records import Outcome, Store


def profile(job: Job, plan: Plan, store: Store, report: Any) -> None:
    """All of the arm's records in one transaction: a run that was killed is measured again, not pieced together."""
    if store.profiles(job.key):
        return  # killed between the records and the mark that the job is finished
    checkpoint = store.checkpoints(job.needs[0])[job.inputs["checkpoint"]]
    workload, lengths = work_of(job, store)
    request = ArmRequest(
        folder=store.folder / checkpoint.path,
        engines=job.inputs["engines"],
        workload=workload,
        lengths=lengths,
        threads=job.inputs["threads"] or num_cores(),
        cap_bytes=job.inputs["memory_cap_bytes"],
        budget_seconds=job.inputs["budget_seconds"],
    )
    scratch = store.folder / "profiles" / job.key
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        records = profile_arm(request, job.key, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with store.transaction():
        store.add(*records)
    report(1.0)


def work_of(job: Job, store: Store) -> tuple[Workload, str]:
    """The lengths that were given, or the means of the arm's own answers; and where they are from, in words.

    Time is close to affine in both lengths, so the time at the mean lengths is close to the mean time.
    """
    prompt, new, batch = (job.inputs[name] for name in ("prompt_tokens", "new_tokens", "batch"))
    if prompt is not None and new is not None:
        return Workload(prompt_tokens=prompt, new_tokens=new, batch=batch), "given in the study"
    pairs = [
        (sample.prompt_tokens, sample.generated_tokens)
        for sample in store.samples(job.needs[1])
        if sample.outcome != Outcome.ERROR and sample.generated_tokens > 0
    ]
    if not pairs:
        raise UserError(f"profile of arm `{job.arm}`: it has no answers whose lengths could be taken",
                        hint="give profile.prompt_tokens and profile.new_tokens")  # fmt: skip
    prompt, new = (round(sum(column) / len(pairs)) for column in zip(*pairs, strict=True))
    workload = Workload(prompt_tokens=prompt, new_tokens=max(2, new), batch=batch)
    return workload, f"means of {len(pairs)} answers of the arm"


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
