"""Work that is recorded, and whose files are gone: deleted, as the hint at a damaged one says. It is done again."""

from stillmark.plan import Job, Plan
from stillmark.records import Store
from stillmark.stages.adopt import model_folder
from stillmark.stages.text import HIDDEN_FILE, capture_folder
from stillmark.stages.train import STATE_FILE


def forget_lost(plan: Plan, store: Store, unfinished: set[str], wanted: set[str]) -> set[str]:
    """The keys of finished jobs that are to be done again: files of theirs are gone that are `wanted`, or that a job to
    come needs.

    What they had recorded is dropped, as is what a training had that was begun and cannot go on.
    """
    needed, lost = set(wanted), set()
    for job in reversed(plan.jobs.values()):  # each before those that it needs
        if job.key in unfinished:
            if not can_go_on(job, plan, store):
                store.forget(job.key)
        elif job.key in needed and not has_files(job, store):
            store.forget(job.key)
            lost.add(job.key)
        else:
            continue
        needed |= set(job.needs)
    return lost


def has_files(job: Job, store: Store) -> bool:
    """Whether what a job is recorded to have made is there."""
    if job.stage == "capture":
        is_training = job.inputs["split"] == "train"
        return (capture_folder(store, job.key) / ("manifest.json" if is_training else HIDDEN_FILE)).exists()
    if job.stage in ("adopt", "train"):
        paths = [store.folder / row.path for row in store.checkpoints(job.key)]
        return all((path / "model.safetensors").exists() for path in paths)
    return True


def can_go_on(job: Job, plan: Plan, store: Store) -> bool:
    """Whether a job that is not finished has what it goes on from, or is yet to begin."""
    done = store.checkpoints(job.key)
    if job.stage != "train" or not done:
        return True
    is_trained = len(done) == plan.study.arms[job.arm].checkpoints
    state = model_folder(store, job.key) / f"{done[-1].index}-{STATE_FILE}"
    return has_files(job, store) and (is_trained or state.exists())
