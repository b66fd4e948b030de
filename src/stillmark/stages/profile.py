"""Measured inference of a study's arms, alone on the machine: the profiling procedure, its figures as records."""

import shutil
from collections.abc import Mapping
from typing import Any

from stillmark.distill.processes import Processes
from stillmark.errors import UserError
from stillmark.plan import Job, Plan
from stillmark.profiling.arm_profile import ArmRequest, profile_arms
from stillmark.profiling.journal import Journal
from stillmark.profiling.workload import Workload
from stillmark.provenance import num_cores
from stillmark.records import Outcome, Store


def profile(job: Job, plan: Plan, store: Store, report: Any, processes: Processes) -> None:
    """All records in one transaction, at the end; till then a journal keeps each repetition, and a run goes on."""
    if store.profiles(job.key):
        return  # killed between the records and the mark that the job is finished
    folder = store.folder / "profiles" / job.key
    requests = [request_of(job, arm, store) for arm in job.inputs["arms"]]
    records = profile_arms(requests, job.key, folder, Journal(folder / "journal.jsonl"))
    with store.transaction():
        store.add(*records)
    shutil.rmtree(folder, ignore_errors=True)
    report(1.0)


def request_of(job: Job, arm: Mapping[str, Any], store: Store) -> ArmRequest:
    checkpoint = store.checkpoints(arm["made_by"])[arm["checkpoint"]]
    workload, lengths = work_of(job, arm, store)
    return ArmRequest(
        name=arm["arm"],
        folder=store.folder / checkpoint.path,
        engines=arm["engines"],
        workload=workload,
        lengths=lengths,
        threads=job.inputs["threads"] or num_cores(),
        cap_bytes=job.inputs["memory_cap_bytes"],
        budget_seconds=job.inputs["budget_seconds"],
    )


def work_of(job: Job, arm: Mapping[str, Any], store: Store) -> tuple[Workload, str]:
    """The lengths that were given, or the means of the arm's own answers; and where they are from, in words.

    Time is close to affine in both lengths, so the time at the mean lengths is close to the mean time.
    """
    prompt, new, batch = (job.inputs[name] for name in ("prompt_tokens", "new_tokens", "batch"))
    if prompt is not None and new is not None:
        return Workload(prompt_tokens=prompt, new_tokens=new, batch=batch), "given in the study"
    pairs = [
        (sample.prompt_tokens, sample.generated_tokens)
        for sample in store.samples(arm["answers_of"])
        if sample.outcome != Outcome.ERROR and sample.generated_tokens > 0
    ]
    if not pairs:
        raise UserError(f"profile of arm `{arm['arm']}`: it has no answers whose lengths could be taken",
                        hint="give profile.prompt_tokens and profile.new_tokens")  # fmt: skip
    prompt, new = (round(sum(column) / len(pairs)) for column in zip(*pairs, strict=True))
    workload = Workload(prompt_tokens=prompt, new_tokens=max(2, new), batch=batch)
    return workload, f"means of {len(pairs)} answers of the arm"
