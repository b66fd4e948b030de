"""An arm's last checkpoint answers a public benchmark, by the engine of `stillmark eval`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from stillmark.backends.transformers import TransformersBackend
from stillmark.errors import UserError
from stillmark.evaluate.model import LoadedModel, chat_of, transformers_model
from stillmark.evaluate.run_benchmark import ask_items, make_job
from stillmark.evaluate.study_benchmarks import rows_of, settings_of
from stillmark.models.build import load_model
from stillmark.plan import Job, Plan
from stillmark.records import Store, canonical
from stillmark.stages.adopt import tokenizer_for
from stillmark.stages.quantised import quantised_backend


def benchmark(job: Job, plan: Plan, store: Store, report: Any) -> None:
    """Asks what is not recorded yet, each chunk of items in one transaction."""
    asked = plan.study.benchmarks
    assert asked is not None, job.arm
    name = job.inputs["reference"]
    data, mode = rows_of(name, asked.data)
    with model_of(job, plan, store) as model:
        questions = make_job(model, data, mode, settings_of(asked), reference=name)
        if canonical(data.origin) != canonical(job.inputs["data"]):
            raise UserError(f"benchmarks.tasks: the files of `{name}` have changed since the run began",
                            hint="run the study in another folder")  # fmt: skip
        for progress in ask_items(store, replace(questions, key=job.key), limit=asked.limit):
            report(progress.done / progress.total)


@contextmanager
def model_of(job: Job, plan: Plan, store: Store) -> Iterator[LoadedModel]:
    """The checkpoint in transformers; a quantised arm's in llama.cpp."""
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
