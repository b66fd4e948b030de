"""A model answers a public benchmark as `stillmark eval` asks it: an arm's last checkpoint, or one that is no arm."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from stillmark.backends.api_journal import FileJournal
from stillmark.backends.transformers import TransformersBackend
from stillmark.errors import UserError
from stillmark.evaluate.engines import EndpointSettings, ModelRequest, open_model
from stillmark.evaluate.model import LoadedModel, chat_of, transformers_model, weights_hash
from stillmark.evaluate.run_benchmark import ask_items, make_job
from stillmark.evaluate.study_benchmarks import rows_of, settings_of
from stillmark.models.build import load_model
from stillmark.plan import Job, Plan
from stillmark.records import Outcome, Store, canonical
from stillmark.stages.adopt import tokenizer_for
from stillmark.stages.quantised import quantised_backend
from stillmark.study.benchmarks import Benchmarks, OtherModel


def benchmark(job: Job, plan: Plan, store: Store, report: Any) -> None:
    """Asks what is not recorded yet, each chunk of items in one transaction."""
    asked = plan.study.benchmarks
    assert asked is not None, job.arm
    name = job.inputs["reference"]
    data, mode = rows_of(name, asked.data)
    with model_of(job, plan, store, asked) as model:
        questions = make_job(model, data, mode, settings_of(asked), reference=name)
        if canonical(data.origin) != canonical(job.inputs["data"]):
            raise UserError(f"benchmarks.tasks: the files of `{name}` have changed since the run began",
                            hint="run the study in another folder")  # fmt: skip
        for progress in ask_items(store, replace(questions, key=job.key), limit=asked.limit):
            report(progress.done / progress.total)
    failed = store.outcomes(job.key).count(Outcome.ERROR)
    if failed and job.arm in asked.others and asked.others[job.arm].engine == "openai":
        raise UserError(f"benchmarks.others.{job.arm}: {failed} replies of the endpoint failed; the others are kept",
                        hint="run the same command again to ask for those alone")  # fmt: skip


@contextmanager
def model_of(job: Job, plan: Plan, store: Store, asked: Benchmarks) -> Iterator[LoadedModel]:
    """An arm's checkpoint in transformers, a quantised arm's in llama.cpp; a model that is no arm in its own engine."""
    if job.arm in asked.others:
        with opened(asked.others[job.arm], job, store) as model:
            yield model
        return
    tokenizer = tokenizer_for(plan, job.arm)
    if "format" in job.inputs:
        with quantised_backend(job, plan, store) as backend:
            yield LoadedModel(
                label=job.arm,
                backend=backend,
                identity={},
                shape=plan.shape(job.arm),
                chat=chat_of(tokenizer),
            )
        return
    record = store.checkpoints(job.needs[0])[job.inputs["checkpoint"]]
    model = load_model(store.folder / record.path, record.sha256)
    yield transformers_model(TransformersBackend(model, tokenizer), label=job.arm, weights=record.sha256)


@contextmanager
def opened(other: OtherModel, job: Job, store: Store) -> Iterator[LoadedModel]:
    """What an endpoint was paid for is kept in a journal of the job as it arrives, so that it is not paid for twice."""
    if other.engine != "openai":
        if other.weights_sha256 != weights_hash(other.model, other.revision):
            raise UserError(f"benchmarks.others.{job.arm}: its weights have changed since the run began",
                            hint="run the study in another folder")  # fmt: skip
        model = open_model(
            ModelRequest(
                model=other.model,
                engine=other.engine,
                revision=other.revision,
                threads=torch.get_num_threads(),
            )
        )
        yield replace(model, label=job.arm)
        return
    endpoint = EndpointSettings(
        base_url=other.base_url,
        kind=other.kind,
        key_variable=other.key_variable,
        price_model=other.price_model,
    )
    journal = FileJournal(store.folder / "journals" / f"{job.key}.jsonl")
    try:
        model = open_model(
            ModelRequest(model=other.model, engine="openai", endpoint=endpoint, journal=journal)
        )
        try:
            yield replace(model, label=job.arm)
        finally:
            model.close()
    finally:
        journal.close()
