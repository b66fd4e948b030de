"""A model answers a public benchmark as `stillmark eval` asks it: an arm's checkpoint, or a model that is no arm."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from stillmark.backends.api_journal import FileJournal
from stillmark.backends.transformers import TransformersBackend
from stillmark.benchmark_plan import label_of
from stillmark.distill.processes import Processes
from stillmark.errors import UserError
from stillmark.evaluate.engines import ModelRequest, open_model
from stillmark.evaluate.model import LoadedModel, chat_of, sha256_text, transformers_model
from stillmark.evaluate.run_benchmark import ask_items, make_job
from stillmark.evaluate.study_benchmarks import endpoint_request, other_sha256, rows_of, settings_of
from stillmark.models.build import load_model
from stillmark.plan import Job, Plan
from stillmark.records import Store, canonical
from stillmark.stages.adopt import tokenizer_for
from stillmark.stages.quantised import quantised_backend
from stillmark.study.benchmarks import Benchmarks

SAID = (
    "data",
    "task",
    "task_version",
    "task_settings",
    "scorer",
    "mode",
    "likelihood_rule",
)  # of a benchmark


def benchmark(job: Job, plan: Plan, store: Store, report: Any, processes: Processes) -> None:
    """Asks what is not recorded yet, each chunk of items in one transaction; of an endpoint also what failed before."""
    asked = plan.study.benchmarks
    assert asked is not None, job.arm
    name = next(name for name in asked.tasks if label_of(asked, name) == job.inputs["benchmark"])
    data, mode = rows_of(name, asked.data)
    with model_of(job, plan, store, asked, str(processes.device)) as model:
        questions = make_job(model, data, mode, settings_of(asked), reference=name)
        if any(canonical(questions.inputs[part]) != canonical(job.inputs[part]) for part in SAID):
            raise UserError(f"benchmarks.tasks: the files of `{name}` have changed since the run began",
                            hint="run the study in another folder")  # fmt: skip
        questions = replace(questions, key=job.key)
        for progress in ask_items(store, questions, limit=asked.limit, failed_again=model.device == "remote"):
            report(progress.done / progress.total)


@contextmanager
def model_of(job: Job, plan: Plan, store: Store, asked: Benchmarks, device: str) -> Iterator[LoadedModel]:
    """An arm's checkpoint in transformers, a quantised arm's in llama.cpp; a model that is no arm in its own engine."""
    if "other" in job.inputs:
        with opened(job, store, asked, device) as model:
            yield replace(model, label=job.arm)
        return
    tokenizer = tokenizer_for(plan, job.arm)
    if "format" in job.inputs:
        with quantised_backend(job, plan, store) as backend:
            shape = plan.shape(job.arm)
            yield LoadedModel(
                label=job.arm, backend=backend, identity={}, shape=shape, chat=chat_of(tokenizer)
            )
        return
    record = store.checkpoints(job.needs[0])[job.inputs["checkpoint"]]
    model = load_model(store.folder / record.path, record.sha256)
    on_device = TransformersBackend(model, tokenizer, device=device)
    yield transformers_model(on_device, label=job.arm, weights=record.sha256, device=device)


@contextmanager
def opened(job: Job, store: Store, asked: Benchmarks, device: str) -> Iterator[LoadedModel]:
    """What an endpoint was paid for is kept in a journal as it arrives, so that no other limit pays for it again."""
    other = asked.others[job.arm]
    if other.engine != "openai":
        if other.sha256 != other_sha256(other):
            raise UserError(f"benchmarks.others.{job.arm}: its files have changed since the run began",
                            hint="run the study in another folder")  # fmt: skip
        threads = torch.get_num_threads()
        yield open_model(
            ModelRequest(
                model=other.model,
                engine=other.engine,
                device=device,
                revision=other.revision,
                threads=threads,
            )
        )
        return
    name = sha256_text(canonical([job.arm, job.inputs["benchmark"]]))[:16]
    journal = FileJournal(store.folder / "journals" / f"{name}.jsonl")
    try:
        model = open_model(endpoint_request(other, journal))
        try:
            yield model
        finally:
            model.close()
    finally:
        journal.close()
