"""Two runs on the same items: paired, with Holm's correction over the tasks, and what the set could detect.

The runs may differ in the model, the engine, the number format or the form (generation beside loglikelihood): item
ids hang on the question alone. What differs beside the model is said, since it is then part of the difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.paired import PairedComparison, compare_tasks
from stillmark.errors import UserError
from stillmark.evaluate.summary import evaluation_jobs, flag_matrix
from stillmark.records import JobRecord, Store
from stillmark.tasks.registry import MODES


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A model's flags on one task, by item, and how it was asked."""

    label: str
    how: Mapping[str, object]
    flags: Mapping[str, npt.NDArray[np.float64]]
    task: str = ""
    job_key: str = ""
    others: int = (
        0  # earlier runs of the same model and task, asked otherwise, in whose place this one stands
    )


def how_of(inputs: Mapping[str, Any]) -> dict[str, object]:
    """How a job was asked, as far as two sides should agree on it, or be told that they do not."""
    model, sampling = inputs["model"], inputs["sampling"] or {}
    return {
        "mode": inputs["mode"],
        "engine": model.get("engine"),
        "dtype": model.get("dtype"),
        **{
            name: inputs[name]
            for name in ("num_fewshot", "shot_order", "uses_chat", "task_version", "scorer")
        },
        **{name: sampling.get(name) for name in ("max_new_tokens", "temperature", "top_p", "num_samples")},
        "likelihood_rule": inputs["likelihood_rule"],
    }


def answers_of(store: Store, job: JobRecord, *, others: int = 0) -> Answers:
    items, flags = flag_matrix(store.samples(job.key))
    return Answers(
        label=job.inputs["label"],
        how=how_of(job.inputs),
        flags=dict(zip(items, flags, strict=True)),
        task=job.inputs["task"],
        job_key=job.key,
        others=others,
    )


def latest_answers(store: Store, *, label: str | None = None, mode: str | None = None) -> dict[str, Answers]:
    """For each task (with its mode) the latest job; of one model and one mode where these are given."""
    jobs = [
        job
        for job in evaluation_jobs(store)
        if label in (None, job.inputs["label"]) and mode in (None, job.inputs["mode"])
    ]
    labels = {job.inputs["label"] for job in jobs}
    if not jobs:
        what = "".join([f" of {label}" if label else "", f" by {mode}" if mode else ""])
        raise UserError(f"{store.path}: no evaluation{what}")
    if len(labels) > 1:
        raise UserError(
            f"{store.path}: holds several models: {', '.join(sorted(labels))}",
            hint="say which one: FOLDER#LABEL",
        )
    names = [name_of(job) for job in jobs]
    return {
        name: answers_of(store, job, others=names.count(name) - 1)
        for name, job in zip(names, jobs, strict=True)
    }


def name_of(job: JobRecord) -> str:
    return f"{job.inputs['task']}@{job.inputs['mode']}"


def counterpart(one: Answers, name: str, second: Mapping[str, Answers]) -> Answers | None:
    """The same task asked in the same form, else the one other form that the second side has."""
    if name in second:
        return second[name]
    forms = [other for other in second.values() if other.task == one.task]
    return forms[0] if len(forms) == 1 else None


def compare_answers(
    first: Mapping[str, Answers], second: Mapping[str, Answers], *, margin: float = 0.02
) -> tuple[dict[str, PairedComparison | None], list[str]]:
    """First less second on each task that both did, on the items that both answered; and what to beware of."""
    shared = {task: other for task, one in first.items() if (other := counterpart(one, task, second))}
    if not shared:
        raise UserError(
            f"no task in common: {', '.join(first)} against {', '.join(second)}",
            hint="evaluate both with the same --tasks; NAME@generation and NAME@loglikelihood go together too",
        )
    pairs, cautions = {}, []
    for task, other in shared.items():
        one = first[task]
        items = [item for item in one.flags if item in other.flags]
        missing = len(one.flags) + len(other.flags) - 2 * len(items)
        if missing:
            cautions.append(f"{task}: {missing} items were answered by one of the two alone and are left out")
        cautions += [f"{task}: {text}" for text in differences(one, other)]
        pairs[task] = (shares(one, items), shares(other, items))
    return compare_tasks(pairs, margin=margin), cautions


def differences(one: Answers, other: Answers) -> list[str]:
    """What is not the same on both sides beside the model. What only one form has (a sampling) follows from it."""
    found = []
    if one.job_key and one.job_key == other.job_key:
        found.append("both sides are the same run")
    is_one_form = one.how["mode"] == other.how["mode"]
    for name, value in one.how.items():
        if value != other.how[name] and (is_one_form or None not in (value, other.how[name])):
            found.append(f"{name} differs: {value} against {other.how[name]}")
    for side, answers in (("first", one), ("second", other)):
        if answers.others:
            found.append(
                f"the {side} side has {answers.others} earlier run(s) of this, asked otherwise; the latest counts"
            )
    return found


@dataclass(frozen=True, kw_only=True)
class StoredSide:
    """Stored results: of one model and by one mode, where these are given."""

    folder: Path
    label: str | None
    mode: str | None


def stored_side(against: str | None) -> StoredSide | None:
    """What `--against FOLDER`, `FOLDER#LABEL`, `FOLDER@MODE` or `FOLDER#LABEL@MODE` names; None: it is a model."""
    if against is None:
        return None
    rest, _, mode = against.rpartition("@")
    if mode not in MODES:
        rest, mode = against, ""
    name, _, label = rest.partition("#")
    if (Path(name) / "records.sqlite").is_file():
        return StoredSide(folder=Path(name), label=label or None, mode=mode or None)
    if label or mode:
        raise UserError(f"--against {against}: {name} holds no records")
    return None


def shares(answers: Answers, items: list[str]) -> npt.NDArray[np.float64]:
    """Flags of the items, items x repeats; one row an item."""
    if not items:
        return np.empty((0,))
    flags = np.stack([answers.flags[item] for item in items])
    return flags[:, 0] if flags.shape[1] == 1 else flags
