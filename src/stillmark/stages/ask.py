"""Models that answer questions: a teacher writing traces, a checkpoint on the held-out split."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from stillmark.backends.protocol import Backend, Sampling
from stillmark.backends.transformers import TransformersBackend
from stillmark.distill.processes import Processes
from stillmark.evaluate.evaluate import CHUNK_ITEMS, ask
from stillmark.models.build import load_model
from stillmark.plan import Job, Plan
from stillmark.records import Store
from stillmark.stages.adopt import tokenizer_for
from stillmark.stages.quantised import quantised_backend
from stillmark.tasks import Sample

BATCH_TOKENS = 16384  # positions of one forward pass: the models are small


def generate(job: Job, plan: Plan, store: Store, report: Any, processes: Processes) -> None:
    """The teacher answers training questions; rejected traces are recorded and counted too."""
    traces = job.inputs["traces"]
    task = plan.tasks[plan.study.task_of(job.arm)]
    questions = [task.training_sample(job.seed, index) for index in range(traces["prompts"])]
    sampling = Sampling(
        max_new_tokens=traces["max_new_tokens"], temperature=traces["temperature"],
        num_samples=traces["samples_per_prompt"], seed=job.seed,
    )  # fmt: skip
    reply_to(job, plan, store, report, processes.device, -1, unique(questions), sampling)


def evaluate(job: Job, plan: Plan, store: Store, report: Any, processes: Processes) -> None:
    """Greedy replies to the held-out questions."""
    task = plan.tasks[plan.study.task_of(job.arm)]
    sampling = Sampling(max_new_tokens=job.inputs["max_new_tokens"])
    questions = task.held_out_samples(job.inputs["split"])
    reply_to(job, plan, store, report, processes.device, job.inputs["checkpoint"], questions, sampling)


def reply_to(
    job: Job,
    plan: Plan,
    store: Store,
    report: Any,
    device: torch.device,
    checkpoint: int,
    questions: list[Sample],
    sampling: Sampling,
) -> None:
    """A checkpoint of the arm that the job needs answers the questions, from the first chunk not recorded."""
    task_name = plan.study.task_of(job.arm)
    with store.transaction():
        store.add_items(question.item(task_name) for question in questions)
    with backend_of(job, plan, store, device, checkpoint) as backend:
        chunks = ask(
            job.key, job.stage, backend, plan.shape(job.arm), task_name, plan.tasks[task_name], questions,
            sampling, first_chunk=len(store.ledger(job.key)), device=device,
        )  # fmt: skip
        for chunk in chunks:
            with store.transaction():
                store.add(*chunk.samples, chunk.entry)
            report(min(1.0, (chunk.index + 1) * CHUNK_ITEMS / len(questions)))


def backend_of(
    job: Job, plan: Plan, store: Store, device: torch.device, checkpoint: int
) -> AbstractContextManager[Backend]:
    """The checkpoint in transformers; a quantised arm's in llama.cpp."""
    if "format" in job.inputs:
        return quantised_backend(job, plan, store)
    record = store.checkpoints(job.needs[0])[checkpoint]
    model = load_model(store.folder / record.path, record.sha256)
    return nullcontext(
        TransformersBackend(
            model, tokenizer_for(plan, job.arm), device=str(device), max_batch_tokens=BATCH_TOKENS
        )
    )


def unique(samples: list[Sample]) -> list[Sample]:
    """Each prompt once: a short question can be drawn twice."""
    return list({sample.prompt: sample for sample in samples}.values())
