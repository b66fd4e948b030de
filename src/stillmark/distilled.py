"""A model that is wanted for itself: the study behind `stillmark distill`, run, and its student with a card."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillmark.analysis.lineage import Lineage
from stillmark.distill.processes import Processes
from stillmark.errors import UserError
from stillmark.models.build import checked_weights
from stillmark.models.given import given_tokenizer
from stillmark.records import Store
from stillmark.report.model_card import model_card
from stillmark.report.training import training_line
from stillmark.resolve import resolve
from stillmark.runner import run_study
from stillmark.sizes import Sizes, resolved
from stillmark.stages.fidelity import fidelity_section
from stillmark.study import Study
from stillmark.study.distill import MIN_STEPS, DistillRequest, distill_study

# What a study's faults name -> what one sets for it on the command line
OPTIONS = (
    (r"(tasks\.data\.train\.\d+\.|`)held_out_share`?", "--held-out"),
    (r"a file of (its|their) own( under `test`)?", r"a file of \1 own: --test FILE"),
    (r"with `text`, or with `prompt` and `response`", "with --text, or with --prompt and --response"),
    (r"`prompt` needs `response`", "--prompt needs --response"),
    (r"arms\.student\.recipe\.learning_rate", "--learning-rate"),
    (r"arms\.student\.recipe\.on_policy", "--method"),
    (r"arms\.student\.control(\.match)?", "--control"),
    (r"\btrack\.\d+", "--track"),
    (r"models\.student\.num_hidden_layers:", "--layers"),
    (r"models\.student\.intermediate_size:", "--intermediate"),
    (r"models\.student\.hidden_size:", "--hidden"),
    (r"arms\.student\.recipe\.logit_cache\.k:", "--logit-cache"),
    (r"arms\.student\.recipe\.logit_cache:", "--logit-cache:"),
    (r"but loss is `cross_entropy`, which", "but --method sft"),
    (
        r"tasks\.data\.test: (`.*`) is trained on too; .*",
        r"--test: \1 is under --data too; leave it out of one of them",
    ),
    (r"\bcontext_tokens: is", "--context is"),
    (r" (and|or) num_kv_heads\b", ""),
    (r"\bmodels\.(teacher|student)(?= \()", r"--\1"),  # the path follows
    (r"\bmodels\.teacher\b", "--teacher"),
    (r"`learning_rate` or raise `warmup_samples`", "--learning-rate"),
    (r"\bnum_layers\b", "--layers"),
    (r"\bffn_size\b", "--intermediate"),
    (r"\bhidden_size\b", "--hidden"),
    (r"with --workers 1\b", "without --threads"),  # one job at once then
)


def distil(request: DistillRequest, *, epochs: float, out: Path, write_gguf: bool = False) -> Path | None:
    """Trains what is not yet trained; returns the folder of the student in Hugging Face format, with its card.

    None in all but the first of several launched processes, which help it to train.
    """
    if not 0 < epochs < math.inf:
        raise UserError(f"--epochs is {epochs}, but must be a number above 0")
    processes = Processes.launched()
    with named_by_options():
        study = processes.from_first(lambda: budgeted_study(request, epochs))
        if write_gguf:
            require_convertible_student(study)
        run_study(study, study.model_dump_json(indent=2, exclude_defaults=True), out, wanted=["student"])
    return write_student(request, out, write_gguf=write_gguf) if processes.is_first else None


def require_convertible_student(study: Study) -> None:
    """Refuses, before anything is trained, a student whose GGUF file is not known to come out right."""
    from stillmark.profiling.convert_hf import require_convertible, splitting_rule

    reader = study.given_reader("student")
    tokenizer = given_tokenizer(reader.checkpoint, reader.revision)
    require_convertible(Sizes(study).config("student"), "--gguf: the student")
    splitting_rule(json.loads(tokenizer.backend_tokenizer.to_str()))


@contextmanager
def named_by_options() -> Iterator[None]:
    """Faults of the study behind the command, said of what its user can set."""

    def said(text: str) -> str:
        for pattern, option in OPTIONS:
            text = re.sub(pattern, option, text)
        return text

    try:
        yield
    except UserError as error:
        raise UserError(said(error.message), error.hint and said(error.hint)) from error


def write_student(request: DistillRequest, out: Path, *, write_gguf: bool) -> Path:
    """The folder `model` of a study that is done: the student's last weights, as they were recorded, and its card.

    It is made beside the one that stands, which it replaces when it is whole. UserError for weights that are damaged.
    """
    folder, scratch = out / "model", out / "model.partial"
    made = scratch / folder.name  # a GGUF file keeps the name of the folder that it was made from
    shutil.rmtree(scratch, ignore_errors=True)
    store = Store.open(out)
    try:
        lineage = Lineage(store)
        last = store.checkpoints(lineage.plan.train_keys["student", request.seed])[-1]
        checked_weights(store.folder / last.path, last.sha256)
        shutil.copytree(store.folder / last.path, made)
        card = model_card(lineage, "student")
        if lineage.study.arms["student"].training.logit_cache:
            card += fidelity_section("student", request.seed, lineage.plan, store)
        (made / "README.md").write_text(card, encoding="utf-8")
    finally:
        store.close()
    if write_gguf:
        from stillmark.profiling.convert_hf import float_gguf_of

        float_gguf_of(made, made / "student.gguf")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(made, folder)
    scratch.rmdir()
    return folder


def training_lines(out: Path) -> list[str]:
    """What the training of the student, and of its control, took: tokens, FLOPs, seconds and MFU."""
    store = Store.open(out)
    try:
        keys = Lineage(store).plan.train_keys
        lines = [training_line(arm, store, key) for (arm, _), key in keys.items()]
    finally:
        store.close()
    return [line for line in lines if line is not None]


def budgeted_study(request: DistillRequest, epochs: float) -> Study:
    """The request as a study that reads the data so many times, with what its models and files were found to be."""
    unbudgeted = resolve(distill_study(request, train_flops=1.0))
    sizes = Sizes(unbudgeted)
    text = resolved(unbudgeted, "student")
    is_on_policy = unbudgeted.arms["student"].training.on_policy is not None
    num_sequences = text.prompted_sequences if is_on_policy else text.train_sequences
    sample_flops = float(sizes.sample_flops("student"))
    num_samples = math.ceil(epochs * num_sequences)
    study = distill_study(request, train_flops=num_samples * sample_flops, train_samples=num_samples)
    if (steps := num_samples / request.batch_samples) < MIN_STEPS:
        enough = 1.005 * epochs * MIN_STEPS / steps  # written with three digits, still no less
        raise UserError(
            f"{num_sequences:,} sequences of at most {request.context_tokens} tokens, read {epochs:g} times in batches "
            f"of {request.batch_samples}, are {steps:.2g} steps, and at least {MIN_STEPS} are needed: the first "
            "checkpoint comes at a quarter of them",
            hint=f"give a smaller --batch, or --epochs {enough:.3g} or more",
        )
    return study.model_copy(update={"models": unbudgeted.models, "tasks": unbudgeted.tasks})
