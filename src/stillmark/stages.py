"""Carries out one job of a plan: reads the study and earlier records, writes records, shares nothing else.

A job can be killed at any moment and begun again: it goes on from what is recorded.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stillmark.backends.protocol import Sampling
from stillmark.backends.transformers import TransformersBackend
from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.text import TaskText, TextPair, TextSource, TraceText
from stillmark.distill.train import Training
from stillmark.errors import UserError
from stillmark.evaluate.evaluate import CHUNK_ITEMS, ask
from stillmark.models.build import build_model, load_model, save_model, word_tokenizer
from stillmark.plan import Job, Plan, checkpoint_flops, tokenizer_words
from stillmark.provenance import provenance
from stillmark.records import CheckpointRecord, LedgerEntry, Method, Outcome, Store
from stillmark.tasks import Sample

Report = Callable[[float], None]  # told the fraction of the job that is done
STATE_FILE = "training_state.safetensors"
BATCH_TOKENS = 16384  # positions of one forward pass: the models are small


def do_job(job: Job, plan: Plan, store: Store, report: Report = lambda fraction: None) -> None:
    """Carries out a job whose needs are finished, and marks it finished."""
    torch.set_num_threads(plan.study.threads or os.cpu_count() or 1)
    torch.use_deterministic_algorithms(True)
    store.begin_job(job.key, job.stage, job.inputs, {**provenance(), "threads": torch.get_num_threads()})
    {"train": train, "generate": generate, "evaluate": evaluate}[job.stage](job, plan, store, report)
    store.finish_job(job.key)


def device_name() -> str:
    return f"{provenance()['cpu'] or 'unknown CPU'}, {torch.get_num_threads()} threads"


def model_folder(store: Store, train_key: str) -> Path:
    return store.folder / "models" / train_key


def final_model(store: Store, train_key: str) -> torch.nn.Module:
    """The last checkpoint of a finished training job."""
    last = store.checkpoints(train_key)[-1]
    model: torch.nn.Module = load_model(store.folder / last.path, last.sha256)
    return model


def train(job: Job, plan: Plan, store: Store, report: Report) -> None:
    """From random weights or the base's, to the budget, with a checkpoint at each of the recipe's marks."""
    arm = plan.study.arms[job.arm]
    done = store.checkpoints(job.key)
    if len(done) == arm.training.checkpoints:
        return  # killed between the last checkpoint and the mark that the job is finished
    task = plan.tasks[plan.study.task_of(job.arm)]
    model = build_model(plan.config(job.arm), job.seed)
    if arm.base:
        model.load_state_dict(final_model(store, plan.train_keys[arm.base, job.seed]).state_dict())
    teacher = None
    if arm.teacher and arm.training.needs_live_teacher:
        weights = final_model(store, plan.train_keys[arm.teacher, job.seed])
        teacher = LiveTeacher(model=weights, shape=plan.shape(arm.teacher))
    tokenizer = word_tokenizer(tokenizer_words(task))
    training = Training(
        model=model.train(),
        shape=plan.shape(job.arm),
        tokenizer=tokenizer,
        source=text_source(job, plan, store, tokenizer),
        recipe=arm.training,
        objective=Objective(arm.training, teacher),
        seed=job.seed,
    )
    folder = model_folder(store, job.key)
    if done:
        training.load(folder / f"{done[-1].index}-{STATE_FILE}", recorded_counts(store, job.key, done[-1]))
    for index in training.run(checkpoint_flops(arm.training)):
        record_checkpoint(job, training, index, folder, store)
        report(training.spent.train_flops / arm.training.train_flops)
    (folder / f"{arm.training.checkpoints - 1}-{STATE_FILE}").unlink(missing_ok=True)


def recorded_counts(store: Store, job_key: str, last: CheckpointRecord) -> dict[str, int]:
    """What training had spent at its last checkpoint, added up from the records."""
    entries = store.ledger(job_key)

    def total(part: str, name: str) -> int:
        return sum(getattr(entry, name) for entry in entries if entry.part == part)

    return {
        "step": last.step,
        "samples": last.samples_seen,
        "tokens": total("train", "tokens"),
        "positions": total("train", "positions"),
        "train_flops": total("train", "flops"),
        "teacher_flops": total("teacher_forward", "flops"),
    }


def record_checkpoint(job: Job, training: Training, index: int, folder: Path, store: Store) -> None:
    """Files first, then the rows that refer to them: a kill between the two leaves files that are written again."""
    spent = training.spent
    checkpoint = folder / f"checkpoint-{index}"
    sha256 = save_model(checkpoint, training.model, training.averaged_weights(), training.tokenizer)
    training.save(folder / f"{index}-{STATE_FILE}")
    before = store.ledger(job.key)
    segment = {
        part: {
            name: now - sum(getattr(entry, name) for entry in before if entry.part == part)
            for name, now in (("flops", flops), ("tokens", spent.tokens), ("positions", spent.positions))
        }
        for part, flops in (("train", spent.train_flops), ("teacher_forward", spent.teacher_flops))
    }
    seconds = {
        "train": (spent.train_seconds, spent.train_cpu_seconds),
        "teacher_forward": (spent.teacher_seconds, spent.teacher_cpu_seconds),
    }
    parts = ["train"] if training.objective.teacher is None else ["train", "teacher_forward"]
    with store.transaction():
        for part in parts:
            store.add(
                LedgerEntry(
                    job_key=job.key,
                    part=part,
                    index=index,
                    flops_method=Method.COUNTED,
                    device=device_name(),
                    seconds=seconds[part][0],
                    cpu_seconds=seconds[part][1],
                    **segment[part],
                )
            )
        store.add(
            CheckpointRecord(
                job_key=job.key,
                index=index,
                step=spent.step,
                samples_seen=spent.samples,
                tokens=spent.tokens,
                train_flops=spent.train_flops,
                loss=spent.loss_sum / spent.loss_tokens,
                path=str(checkpoint.relative_to(store.folder)),
                sha256=sha256,
            )
        )
    (folder / f"{index - 1}-{STATE_FILE}").unlink(missing_ok=True)


def text_source(job: Job, plan: Plan, store: Store, tokenizer: Any) -> TextSource:
    """The text that the job's arm learns from."""
    recipe = plan.study.arms[job.arm].training
    if recipe.text != "traces":
        return TaskText(plan.tasks[plan.study.task_of(job.arm)], recipe.text, job.seed, tokenizer)
    items = store.items()
    accepted = [
        TextPair(prompt=items[sample.item_id].prompt, response=sample.response)
        for sample in store.samples(plan.generate_keys[job.arm, job.seed])
        if sample.outcome is Outcome.CORRECT
    ]
    if not accepted:
        raise UserError(f"arm `{job.arm}`: the task's scorer accepted none of the teacher's traces",
                        hint="give the teacher a larger `train_flops` or a lower `traces.temperature`")  # fmt: skip
    return TraceText(accepted, job.seed, tokenizer)


def generate(job: Job, plan: Plan, store: Store, report: Report) -> None:
    """The teacher answers training questions; rejected traces are recorded and counted too."""
    traces = job.inputs["traces"]
    task = plan.tasks[plan.study.task_of(job.arm)]
    questions = [task.training_sample(job.seed, index) for index in range(traces["prompts"])]
    sampling = Sampling(
        max_new_tokens=traces["max_new_tokens"], temperature=traces["temperature"],
        num_samples=traces["samples_per_prompt"], seed=job.seed,
    )  # fmt: skip
    reply_to(job, plan, store, report, -1, unique(questions), sampling)


def evaluate(job: Job, plan: Plan, store: Store, report: Report) -> None:
    """Greedy replies to the held-out questions."""
    task = plan.tasks[plan.study.task_of(job.arm)]
    sampling = Sampling(max_new_tokens=job.inputs["max_new_tokens"])
    questions = task.held_out_samples(job.inputs["split"])
    reply_to(job, plan, store, report, job.inputs["checkpoint"], questions, sampling)


def reply_to(
    job: Job,
    plan: Plan,
    store: Store,
    report: Report,
    checkpoint: int,
    questions: list[Sample],
    sampling: Sampling,
) -> None:
    """A checkpoint of the arm that the job needs answers the questions, from the first chunk not recorded."""
    task_name = plan.study.task_of(job.arm)
    record = store.checkpoints(job.needs[0])[checkpoint]
    model = load_model(store.folder / record.path, record.sha256)
    tokenizer = word_tokenizer(tokenizer_words(plan.tasks[task_name]))
    backend = TransformersBackend(model, tokenizer, max_batch_tokens=BATCH_TOKENS)
    with store.transaction():
        store.add_items(question.item(task_name) for question in questions)
    chunks = ask(
        job.key, job.stage, backend, plan.shape(job.arm), task_name, plan.tasks[task_name], questions, sampling,
        first_chunk=len(store.ledger(job.key)), device=device_name(),
    )  # fmt: skip
    for chunk in chunks:
        with store.transaction():
            store.add(*chunk.samples, chunk.entry)
        report(min(1.0, (chunk.index + 1) * CHUNK_ITEMS / len(questions)))


def unique(samples: list[Sample]) -> list[Sample]:
    """Each prompt once: a short question can be drawn twice."""
    return list({sample.prompt: sample for sample in samples}.values())
