"""A text study's store as a run would leave it, filled without a model: surprise and divergence are what one says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.report.fabricate import PROVENANCE, entry, train

from stillmark.compute.flops import forward_flops
from stillmark.plan import Job, Plan
from stillmark.records import CheckpointRecord, Store, TextScore
from stillmark.study import Study, study_from_text

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 512, "tie_word_embeddings": True,
}  # fmt: skip
STUDY = """
name: text-made-up
description: A study that was never run.
seeds: [0, 1, 2]
tasks:
  mixed:
    kind: text
    train: [{file: train.txt}]
    test: [{file: a/book.txt}, {file: b/sums.txt}]
    context_tokens: 64
    test_sequences: 24
models:
  large: {checkpoint: somewhere/large}
  small: {pruned_from: large, num_hidden_layers: 2, intermediate_size: 64, calibration_sequences: 4}
arms:
  teacher: {kind: teacher, model: large}
  distilled:
    kind: distilled
    model: small
    base: teacher
    teacher: teacher
    recipe: {text: corpus, loss: forward_kl, train_flops: 4e9, learning_rate: 1e-3, batch_samples: 4, checkpoints: 4, first_checkpoint: 0.1}
    control: {match: compute_with_teacher}
"""
NUM_SEQUENCES = 24
# (tokens read, tokens scored, bytes, source) of each held-out sequence
SEQUENCES = [
    (64, 64, 250 + 7 * k, "book.txt") if k % 4 else (48, 30, 100 + 3 * k, "sums.txt")
    for k in range(NUM_SEQUENCES)
]
RESOLVED = {
    "sha256": "0" * 64, "train_sequences": 1000, "train_tokens": 64000, "train_loss_tokens": 64000,
    "test_sequences": NUM_SEQUENCES, "test_tokens": sum(s[0] for s in SEQUENCES),
    "test_loss_tokens": sum(s[1] for s in SEQUENCES), "vocab_size": 512,
}  # fmt: skip
# (job, index of the sequence) -> (nats: positive, KL to the teacher in nats), both summed over the sequence
Scores = Callable[[Job, int], tuple[float, float | None]]


def resolved_study(text: str = STUDY) -> Study:
    """The study with what a run would have found its model and files to be."""
    study = study_from_text(text)
    assert isinstance(study, Study)
    models = {name: spec.model_copy(update={"config": CONFIG, "weights_sha256": "1" * 64}) if hasattr(spec, "checkpoint")
              else spec for name, spec in study.models.items()}  # fmt: skip
    tasks = {name: type(spec).model_validate({**spec.model_dump(), "resolved": RESOLVED})
             for name, spec in study.tasks.items()}  # fmt: skip
    return study.model_copy(update={"models": models, "tasks": tasks})


def text_store(
    folder: Path, scores: Scores, text: str = STUDY, *, leave_out: int = 0,
    found: Callable[[Study], Study] = lambda study: study, more: dict[str, Callable[..., None]] | None = None,
) -> Store:  # fmt: skip
    """All jobs of the study recorded, but the last `leave_out`. `found`: what else a run found; `more`: other stages."""
    study = found(resolved_study(text))
    plan = Plan(study)
    store = Store.create(folder / "records.sqlite")
    store.put_study(text, study.model_dump(), [job.row() for job in plan.jobs.values()], PROVENANCE)
    jobs = list(plan.jobs.values())
    for job in jobs[: len(jobs) - leave_out]:
        store.begin_job(job.key, job.stage, job.inputs, PROVENANCE)
        with store.transaction():
            (DO | (more or {}))[job.stage](job, plan, store, scores)
        store.finish_job(job.key)
    return store


def adopt(job: Job, plan: Plan, store: Store, scores: Scores) -> None:
    store.add(CheckpointRecord(job_key=job.key, index=0, step=0, samples_seen=0, tokens=0, train_flops=0, loss=None,
                               path=f"models/{job.key}/0", sha256="2" * 64))  # fmt: skip


def make(job: Job, plan: Plan, store: Store, scores: Scores) -> None:
    """As `fabricate.train`: a live teacher takes half the student's FLOPs; pruning takes a million."""
    train(job, plan, store)
    store.add(entry(job, "prune", 0, 1_000_000, 256))


def capture(job: Job, plan: Plan, store: Store, scores: Scores) -> None:
    store.add(entry(job, "capture", 0, *read(plan, job.arm, with_head=False)))


def evaluate(job: Job, plan: Plan, store: Store, scores: Scores) -> None:
    shape = plan.shape(job.arm)
    rows: list[Any] = []
    for index, (tokens, scored, num_bytes, source) in enumerate(SEQUENCES):
        nats, kl = scores(job, index)
        rows.append(
            TextScore(job_key=job.key, index=index, nats=-nats, tokens=scored, num_bytes=num_bytes, truncated_tokens=0,
                      seconds=0.01, flops=forward_flops(shape, tokens=tokens, scored_tokens=scored), source=source,
                      teacher_kl_nats=kl)
        )  # fmt: skip
    flops, tokens = read(plan, job.arm)
    if plan.is_judged(job.arm):
        judge, scored = plan.shape(plan.judge), sum(row.tokens for row in rows)
        flops += 2 * judge.head.inputs * judge.head.outputs * scored
    store.add(*rows, entry(job, "evaluate", 0, flops, tokens))


def read(plan: Plan, arm: str, *, with_head: bool = True) -> tuple[int, int]:
    """(FLOPs, tokens) of reading the held-out sequences."""
    shape = plan.shape(arm)
    flops = sum(
        forward_flops(shape, tokens=tokens, scored_tokens=scored if with_head else 0)
        for tokens, scored, _, _ in SEQUENCES
    )
    return flops, sum(tokens for tokens, _, _, _ in SEQUENCES)


DO = {"adopt": adopt, "train": make, "capture": capture, "evaluate": evaluate}
