"""Work that is recorded, and whose files are gone: deleted, as the hint at a damaged one says. It is done again."""

import shutil
from collections.abc import Iterator

from stillmark.plan import Job, Plan
from stillmark.records import Store
from stillmark.stages.adopt import model_folder
from stillmark.stages.text import HIDDEN_FILE, capture_folder
from stillmark.stages.train import STATE_FILE

CACHE_FILES = ("manifest.json", "chunks.jsonl")  # of captured logits, beside the chunks that these name
LAST = -1  # checkpoint


def forget_lost(plan: Plan, store: Store, unfinished: set[str], wanted: set[str]) -> set[str]:
    """The keys of finished jobs that are to be done again: their last models are `wanted`, or a job to come reads files
    of theirs, and these are gone.

    What they had recorded is dropped, as is what a training had that was begun and cannot go on.
    """
    needed = {key: {LAST} for key in wanted}
    lost: set[str] = set()
    for job in reversed(plan.jobs.values()):  # each before those that it needs
        if job.key in unfinished:
            if not can_go_on(job, plan, store):
                store.forget(job.key)
        elif not all(has_files(job, store, checkpoint) for checkpoint in needed.get(job.key, ())):
            if job.stage == "capture":  # one without its manifest is refused, not gone on with
                shutil.rmtree(capture_folder(store, job.key), ignore_errors=True)
            store.forget(job.key)
            lost.add(job.key)
        else:
            continue
        for key, checkpoint in files_read(job, plan):
            needed.setdefault(key, set()).add(checkpoint)
    return lost


def files_read(job: Job, plan: Plan) -> Iterator[tuple[str, int]]:
    """(the job that made them, which of its checkpoints) of the files that a job reads, beside records."""
    if job.stage == "train":
        arm = plan.study.arms[job.arm]
        for name in filter(None, (arm.base, arm.teacher if arm.training.needs_live_teacher else None)):
            yield plan.train_keys[name, job.seed], LAST
        if arm.training.logit_cache:
            yield plan.capture_keys[job.arm, job.seed], LAST
        return
    for key in job.needs:
        need = plan.jobs[key]
        yield key, LAST if job.checkpoint is None else job.checkpoint
        if need.stage == "capture":  # the judge's head is read too
            yield need.needs[0], LAST


def has_files(job: Job, store: Store, checkpoint: int) -> bool:
    """Whether a model that a job is recorded to have made, or what it captured, is there."""
    if job.stage == "capture":
        names = CACHE_FILES if job.inputs["split"] == "train" else (HIDDEN_FILE,)
        return all((capture_folder(store, job.key) / name).exists() for name in names)
    if job.stage in ("adopt", "train"):
        path = store.checkpoints(job.key)[checkpoint].path
        return (store.folder / path / "model.safetensors").exists()
    return True


def can_go_on(job: Job, plan: Plan, store: Store) -> bool:
    """Whether a job that is not finished has what it goes on from, or is yet to begin."""
    done = store.checkpoints(job.key)
    if job.stage != "train" or not done or len(done) == plan.study.arms[job.arm].checkpoints:
        return True
    return (model_folder(store, job.key) / f"{done[-1].index}-{STATE_FILE}").exists()
