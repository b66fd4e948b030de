"""Stored replies graded again, and cut at smaller budgets: without the model, and without torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stillmark.analysis.intervals import Interval, accuracy_interval
from stillmark.evaluate.summary import evaluation_jobs, flag_matrix
from stillmark.records import JobRecord, Outcome, SampleRecord, Store
from stillmark.tasks.grader import Grader
from stillmark.tasks.thinking import BUDGETS


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """What grading again changed in one job: (item, repeat, before, after) of each sample whose outcome moved."""

    job_key: str
    label: str
    task: str
    mode: str
    num_samples: int
    changes: Sequence[tuple[str, int, Outcome, Outcome]]
    left_as_is: str | None = None  # why nothing was graded


def rescore(store: Store) -> list[Rescored]:
    """Grades every stored reply again with today's scorers and writes the outcomes."""
    done = []
    items = store.items()
    for job in evaluation_jobs(store):
        if is_graded_elsewhere(job):
            done.append(left_alone(store, job))
            continue
        grader = Grader(store, job.key, job.inputs, items)
        changes = []
        samples = store.samples(job.key)
        with store.transaction():
            for sample in samples:
                detail = grader.details[(sample.item_id, sample.repeat)]
                verdict = grader.grade(sample, sample.response, sample.stop_reason)
                if verdict.outcome != sample.outcome:
                    changes.append((sample.item_id, sample.repeat, sample.outcome, verdict.outcome))
                store.regrade(
                    replace(sample, outcome=verdict.outcome),
                    replace(
                        detail,
                        extracted=verdict.extracted,
                        extractor=verdict.extractor,
                        grades=json.dumps(dict(verdict.grades)),
                        error=verdict.error or (detail.error if sample.stop_reason == "error" else None),
                    ),
                )
        done.append(
            Rescored(
                job_key=job.key,
                label=job.inputs["label"],
                task=job.inputs["task"],
                mode=job.inputs["mode"],
                num_samples=len(samples),
                changes=changes,
            )
        )
    return done


def is_graded_elsewhere(job: JobRecord) -> bool:
    """lm-eval's samples: its filters and metrics run inside it alone."""
    return str(job.inputs["scorer"]).startswith("lm_eval:")


def left_alone(store: Store, job: JobRecord) -> Rescored:
    return Rescored(
        job_key=job.key,
        label=job.inputs["label"],
        task=job.inputs["task"],
        mode=job.inputs["mode"],
        num_samples=len(store.samples(job.key)),
        changes=[],
        left_as_is="graded by lm-evaluation-harness, which alone can grade it again",
    )


@dataclass(frozen=True, kw_only=True)
class AtBudget:
    """A job as it would have ended with a smaller limit of new tokens."""

    max_new_tokens: int
    accuracy: Interval | None
    outcomes: Mapping[str, int]


def accuracy_at_budgets(store: Store, job: JobRecord) -> list[AtBudget]:
    """Each power of two below the job's own limit, from the same replies, cut.

    A limit only stops a model, so the first tokens of a longer reply are the reply within a smaller limit:
    exactly for greedy decoding and for samples whose random numbers hang on the seed alone, in distribution
    otherwise. Where a reply could not be cut at an exact token, its budget is left out, not guessed.
    """
    if job.inputs["mode"] != "generation" or is_graded_elsewhere(job):
        return []
    grader = Grader(store, job.key, job.inputs, store.items())
    samples = store.samples(job.key)
    longest = max((sample.generated_tokens for sample in samples), default=0)
    curve = []
    for budget in (b for b in BUDGETS if b < longest):
        cut = [cut_sample(grader, sample, budget) for sample in samples]
        known = [sample for sample in cut if sample is not None]
        if len(known) == len(samples):
            curve.append(
                AtBudget(
                    max_new_tokens=budget,
                    accuracy=accuracy_interval(flag_matrix(known)[1]),
                    outcomes={outcome.value: sum(s.outcome == outcome for s in known) for outcome in Outcome},
                )
            )
    return curve


def cut_sample(grader: Grader, sample: SampleRecord, budget: int) -> SampleRecord | None:
    """The sample within a budget; None where it cannot be cut exactly."""
    if sample.generated_tokens <= budget or sample.outcome == Outcome.ERROR:
        return sample
    cuts = grader.details[(sample.item_id, sample.repeat)].cuts
    length = json.loads(cuts).get(str(budget)) if cuts else None
    if length is None:
        return None
    text = sample.response[:length]
    return replace(sample, response=text, outcome=grader.grade(sample, text, "length").outcome)
