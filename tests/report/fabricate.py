"""A store as a run would leave it, filled without a model: replies that are right as often as one asks for."""

import math
import random
from collections.abc import Callable
from pathlib import Path

from tests.paths import ROOT

from stillmark.compute.flops import generate_flops
from stillmark.marks import marks_of
from stillmark.plan import Job, Plan
from stillmark.records import (
    CheckpointRecord,
    LedgerEntry,
    Method,
    ProfileRecord,
    SampleRecord,
    Store,
    canonical,
)
from stillmark.study import study_from_text
from stillmark.tasks import Sample, Task

TINY = (ROOT / "studies" / "tiny.yaml").read_text()
SMALL = TINY.replace("test_samples: 20", "test_samples: 60").replace("prompts: 300", "prompts: 20")
SMALL = SMALL.replace("min_swaps: 0", "min_swaps: 1").replace("max_swaps: 1", "max_swaps: 2")
PROFILED = SMALL + "\nprofile: {arms: [traces-small, vanilla-large], memory_caps: [4M]}\n"
Accuracy = Callable[[str, int | None], float]
PROVENANCE = {
    "stillmark": "0.1.0",
    "commit": None,
    "python": "3.11",
    "packages": {"numpy": "2"},
    "system": "Linux",
    "cpu": "none",
    "cores": 2,
    "memory_bytes": 2**34,
}


def rising(arm: str, checkpoint: int | None) -> float:
    """Reasoners learn everything, direct answerers half of it."""
    share = 1.0 if checkpoint is None else (checkpoint + 1) / 3
    return share * (0.5 if arm.startswith("vanilla") else 0.95)


def fabricated_store(
    folder: Path, study_text: str, accuracy: Accuracy = rising, *, leave_out: int = 0
) -> Store:
    """All jobs of the study recorded, but the last `leave_out`."""
    study = study_from_text(study_text)
    plan = Plan(study)
    store = Store.create(folder / "records.sqlite")
    store.put_study(study_text, study.model_dump(), [job.row() for job in plan.jobs.values()], PROVENANCE)
    jobs = list(plan.jobs.values())
    for job in jobs[: len(jobs) - leave_out]:
        store.begin_job(job.key, job.stage, job.inputs, PROVENANCE)
        with store.transaction():
            if job.stage == "train":
                train(job, plan, store)
            elif job.stage == "profile":
                profile(job, store)
            else:
                reply(job, plan, store, accuracy)
        store.finish_job(job.key)
    return store


def entry(job: Job, part: str, index: int, flops: int, tokens: int) -> LedgerEntry:
    return LedgerEntry(
        job_key=job.key,
        part=part,
        index=index,
        flops=flops,
        flops_method=Method.COUNTED,
        tokens=tokens,
        positions=tokens,
        seconds=flops / 1e9,
        cpu_seconds=flops / 1.1e9,
        device="none, 1 threads",
    )


def profile(job: Job, store: Store) -> None:
    """Runs of arms that take 20 ms an answer, and one that does not fit under each cap; a vanilla arm's drifted."""
    for arm in job.inputs["arms"]:
        for cap in job.inputs["memory_cap_bytes"]:
            store.add(*profile_records(job.key, arm["arm"], cap))


def profile_records(key: str, arm: str, cap: int | None) -> list[ProfileRecord]:
    verdict, reason = ("INVALID", "drift") if arm.startswith("vanilla") else ("VALID", None)
    figures = {"end_to_end_seconds": (0.02, "s"), "ttft_seconds": (0.002, "s"), "tpot_seconds": (0.001, "s"),
               "peak_memory_bytes": (4e8, "bytes"), "prefill_mfu": (0.5, "1"), "decode_mbu": (0.25, "1")}  # fmt: skip
    setting = {"arm": arm, "session": 0, "threads": 1, "prompt_tokens": 30, "new_tokens": 19, "batch": 1,
               "memory_cap_bytes": cap, "lengths": "made up"}  # fmt: skip
    return [
        ProfileRecord(
            job_key=key, engine="transformers", format="float32", setting=canonical(setting), metric=name,
            value=known, low=known, high=known, unit=unit, method=Method.MEASURED,
            verdict=verdict if cap is None else "does not fit",
            reason=reason if cap is None else "does not fit within 4 MiB",
        )
        for name, (value, unit) in figures.items()
        for known in [value if cap is None else None]
    ]  # fmt: skip


def train(job: Job, plan: Plan, store: Store) -> None:
    recipe = plan.study.arms[job.arm].recipe
    before = 0
    for index, flops in enumerate(map(math.ceil, marks_of(job, plan, store).amounts)):
        store.add(entry(job, "train", index, flops - before, 1000))
        if recipe.loss != "cross_entropy":
            store.add(entry(job, "teacher_forward", index, (flops - before) // 2, 1000))
        store.add(
            CheckpointRecord(
                job_key=job.key,
                index=index,
                step=index + 1,
                samples_seen=8 * (index + 1),
                tokens=1000 * (index + 1),
                train_flops=flops,
                loss=1.0,
                path=f"models/{job.key}/{index}",
                sha256="0" * 64,
            )
        )
        before = flops


def reply(job: Job, plan: Plan, store: Store, accuracy: Accuracy) -> None:
    name = plan.study.task_of(job.arm)
    task = plan.tasks[name]
    if job.stage == "generate":
        drawn = [task.training_sample(job.seed, index) for index in range(job.inputs["traces"]["prompts"])]
        questions = list({sample.prompt: sample for sample in drawn}.values())
    else:
        questions = task.held_out_samples(job.inputs["split"])
    store.add_items(question.item(name) for question in questions)
    stream = random.Random(f"{job.arm} {job.seed} {job.checkpoint}")
    share = accuracy(job.arm, job.checkpoint)
    repeats = job.inputs["traces"]["samples_per_prompt"] if job.stage == "generate" else 1
    made = [
        sample(job, task, question, name, (position, repeat), is_right=stream.random() < share)
        for position, question in enumerate(questions)
        for repeat in range(repeats)
    ]
    store.add(*made)
    shape = plan.shape(job.arm)
    flops = sum(
        generate_flops(shape, prompt_tokens=s.prompt_tokens, new_tokens=s.generated_tokens) for s in made
    )
    store.add(entry(job, job.stage, 0, flops, sum(s.prompt_tokens + s.generated_tokens for s in made)))


def sample(
    job: Job, task: Task, question: Sample, name: str, place: tuple[int, int], *, is_right: bool
) -> SampleRecord:
    response = question.answer if is_right else " ".join(reversed(question.answer.split()))
    return SampleRecord(
        job_key=job.key,
        item_id=question.item(name).item_id,
        repeat=place[1],
        position=place[0],
        response=response,
        outcome=task.score(response, question.target, "stop"),
        stop_reason="stop",
        prompt_tokens=len(question.prompt.split()) + 1,
        generated_tokens=len(response.split()) + 1,
        seconds=0.001,
    )
