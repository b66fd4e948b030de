"""Where a model and its tokenizer come from: a given checkpoint taken into the run, or an earlier job's."""

from pathlib import Path
from typing import Any

from stillmark.backends.stopping import end_ids_of
from stillmark.distill.chat import chat_format
from stillmark.distill.processes import Processes
from stillmark.errors import UserError
from stillmark.evaluate.model import weights_hash
from stillmark.lengths import tokenizer_words
from stillmark.models.build import load_model, save_model, word_tokenizer
from stillmark.models.given import given_model, given_tokenizer
from stillmark.plan import Job, Plan
from stillmark.records import CheckpointRecord, Store
from stillmark.study.schema import GivenModel


def adopt(job: Job, plan: Plan, store: Store, report: Any, processes: Processes) -> None:
    """Writes a given model into the run's folder in float32, so that all later jobs read one file of known hash."""
    spec = plan.study.models[plan.study.arms[job.arm].model]
    assert isinstance(spec, GivenModel), job.arm
    if store.checkpoints(job.key):
        return
    found = weights_hash(spec.checkpoint, spec.revision)
    if found != spec.weights_sha256:
        raise UserError(f"{spec.checkpoint}: its weights have changed since the run began",
                        hint="run the study in another folder")  # fmt: skip
    model, tokenizer = (
        given_model(spec.checkpoint, spec.revision),
        given_tokenizer(spec.checkpoint, spec.revision),
    )
    add_ends(model, tokenizer)
    folder = model_folder(store, job.key) / "checkpoint-0"
    weights = {name: tensor.detach() for name, tensor in model.named_parameters()}
    sha256 = save_model(folder, model, weights, tokenizer)
    with store.transaction():
        store.add(
            CheckpointRecord(
                job_key=job.key, index=0, step=0, samples_seen=0, tokens=0, train_flops=0, loss=None,
                path=str(folder.relative_to(store.folder)), sha256=sha256,
            )
        )  # fmt: skip


def add_ends(model: Any, tokenizer: Any) -> None:
    """Has the model's generation stop at what ends a text and, through the chat template, a reply that is learnt."""
    ids = set(end_ids_of(model, tokenizer))
    try:
        chat = chat_format(tokenizer)
    except UserError:  # a template that no reply can be learnt through
        chat = None
    model.generation_config.eos_token_id = sorted(ids | set(chat.end_ids[-1:] if chat else ()))


def model_folder(store: Store, train_key: str) -> Path:
    return store.folder / "models" / train_key


def final_model(store: Store, train_key: str) -> Any:
    """The last checkpoint of a finished training job, or a model that was adopted."""
    last = store.checkpoints(train_key)[-1]
    return load_model(store.folder / last.path, last.sha256)


def tokenizer_for(plan: Plan, arm: str) -> Any:
    """The tokenizer that an arm's text is read with: in a text study a given model's."""
    study = plan.study
    if study.is_text:
        spec = study.given_reader(arm)
        return given_tokenizer(spec.checkpoint, spec.revision)
    return word_tokenizer(tokenizer_words(plan.tasks[study.task_of(arm)]))
