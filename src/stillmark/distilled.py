"""A model that is wanted for itself: the study behind `stillmark distill`, run, and its student with a card."""

import shutil
from pathlib import Path

from stillmark.analysis.lineage import Lineage
from stillmark.distill.processes import Processes
from stillmark.errors import UserError
from stillmark.records import Store
from stillmark.report.model_card import model_card
from stillmark.report.training import training_line
from stillmark.resolve import resolve
from stillmark.runner import run_study
from stillmark.sizes import Sizes, resolved
from stillmark.study import Study
from stillmark.study.distill import DistillRequest, distill_study


def distil(request: DistillRequest, *, epochs: float, out: Path, write_gguf: bool = False) -> Path | None:
    """Trains what is not yet trained; returns the folder of the student in Hugging Face format, with its card.

    None in all but the first of several launched processes, which help it to train.
    """
    if epochs <= 0:
        raise UserError(f"epochs is {epochs}, but must be above 0")
    processes = Processes.launched()
    study = processes.from_first(lambda: budgeted_study(request, epochs))
    run_study(study, study.model_dump_json(indent=2, exclude_defaults=True), out)
    if not processes.is_first:
        return None
    store = Store.open(out)
    try:
        lineage = Lineage(store)
        last = store.checkpoints(lineage.plan.train_keys["student", request.seed])[-1]
        folder = out / "model"
        shutil.copytree(store.folder / last.path, folder, dirs_exist_ok=True)
        (folder / "README.md").write_text(model_card(lineage, "student"), encoding="utf-8")
    finally:
        store.close()
    if write_gguf:
        from stillmark.profiling.convert_hf import float_gguf_of

        float_gguf_of(folder, folder / "student.gguf")
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
    num_sequences = resolved(unbudgeted, "student").train_sequences
    study = distill_study(request, train_flops=epochs * num_sequences * float(sizes.sample_flops("student")))
    return study.model_copy(update={"models": unbudgeted.models, "tasks": unbudgeted.tasks})
