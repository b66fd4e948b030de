"""A study's jobs in the processes of `accelerate launch` or `torchrun`: all train together, the first does the rest.

The first process has the store and decides what is run; it alone writes records, checkpoints and lines. The others
are told which training is next and what the store holds by then, and write into a copy in memory. Files (given models,
checkpoints, captured logits) are read by all, so several machines need one folder that they share.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from stillmark.distill.processes import Processes
from stillmark.plan import Job, Plan
from stillmark.records import Store
from stillmark.records.copies import content_of, store_in_memory
from stillmark.stages import do_job


def lead(
    todo: Sequence[Job], plan: Plan, store: Store, processes: Processes, told: Callable[[Job, float], None]
) -> None:
    """Carries out jobs in the plan's order, with the other processes' help where one trains. In the first process."""
    processes.end_with_launcher()
    order = sorted(todo, key=lambda job: job.stage == "profile")  # what is timed comes when all else is done
    processes.from_first(lambda: [job.key for job in order if job.stage == "train"])
    for job in order:

        def report(fraction: float, job: Job = job) -> None:
            told(job, min(fraction, 0.999))

        told(job, 0.0)
        if job.stage == "train":
            processes.from_first(lambda: content_of(store))
            do_job(job, plan, store, report, processes)
        else:
            do_job(job, plan, store, report, processes.alone())
        told(job, 1.0)


def follow(plan: Plan, folder: Path, processes: Processes) -> int:
    """Trains with the first process until it has no more to train; returns how often. In every other process."""
    processes.end_with_launcher()
    keys: list[str] = processes.from_first(list)
    for key in keys:
        content = processes.from_first(bytes)
        store = store_in_memory(folder / "records.sqlite", content)
        do_job(plan.jobs[key], plan, store, processes=processes)
        store.close()
    return len(keys)
