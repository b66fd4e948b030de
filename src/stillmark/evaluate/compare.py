"""Two models on the same items: paired, with Holm's correction over the tasks, and what the set could detect."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillmark.analysis.paired import PairedComparison, compare_tasks
from stillmark.errors import UserError
from stillmark.evaluate.summary import evaluation_jobs, flag_matrix
from stillmark.records import JobRecord, Store


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A model's flags on one task, by item, and how it was asked."""

    label: str
    how: Mapping[str, object]
    flags: Mapping[str, npt.NDArray[np.float64]]


HOW = ("mode", "num_fewshot", "shot_order", "task_version")  # what must agree, or be said


def answers_of(store: Store, job: JobRecord) -> Answers:
    items, flags = flag_matrix(store.samples(job.key))
    return Answers(
        label=job.inputs["label"],
        how={name: job.inputs[name] for name in HOW},
        flags=dict(zip(items, flags, strict=True)),
    )


def latest_answers(store: Store, *, label: str | None = None) -> dict[str, Answers]:
    """For each task (with its mode) the latest job, of one model where a label is given."""
    jobs = [job for job in evaluation_jobs(store) if label in (None, job.inputs["label"])]
    labels = {job.inputs["label"] for job in jobs}
    if not jobs:
        raise UserError(f"{store.path}: no evaluation" + (f" of {label}" if label else ""))
    if len(labels) > 1:
        raise UserError(
            f"{store.path}: holds several models: {', '.join(sorted(labels))}",
            hint="say which one: FOLDER#LABEL",
        )
    return {f"{job.inputs['task']}@{job.inputs['mode']}": answers_of(store, job) for job in jobs}


def compare_answers(
    first: Mapping[str, Answers], second: Mapping[str, Answers], *, margin: float = 0.02
) -> tuple[dict[str, PairedComparison | None], list[str]]:
    """First less second on each task that both did, on the items that both answered; and what to beware of."""
    shared = [task for task in first if task in second]
    if not shared:
        raise UserError(
            f"no task in common: {', '.join(first)} against {', '.join(second)}",
            hint="evaluate both with the same --tasks",
        )
    pairs, cautions = {}, []
    for task in shared:
        one, other = first[task], second[task]
        items = [item for item in one.flags if item in other.flags]
        missing = len(one.flags) + len(other.flags) - 2 * len(items)
        if missing:
            cautions.append(f"{task}: {missing} items were answered by one of the two alone and are left out")
        differing = [name for name in HOW if one.how[name] != other.how[name]]
        cautions += [
            f"{task}: {name} differs: {one.how[name]} against {other.how[name]}" for name in differing
        ]
        pairs[task] = (shares(one, items), shares(other, items))
    return compare_tasks(pairs, margin=margin), cautions


def shares(answers: Answers, items: list[str]) -> npt.NDArray[np.float64]:
    """Flags of the items, items x repeats; one row an item."""
    if not items:
        return np.empty((0,))
    flags = np.stack([answers.flags[item] for item in items])
    return flags[:, 0] if flags.shape[1] == 1 else flags
