"""Checks of a study's replies to public benchmarks: asked once each, graded again, tokens and FLOPs counted again.

Likelihoods cannot be worked out again without the weights; which choice they name can. Which rows a benchmark has is
held by the hash of its file alone: that every arm was asked the same items is checked, that these are its items is not.
"""

from collections.abc import Iterator

from stillmark.analysis.lineage import Lineage
from stillmark.compute.flops import generate_flops
from stillmark.plan import Job
from stillmark.records import ItemRecord, SampleDetail, SampleRecord, Store
from stillmark.report.checks import Check, checked, label
from stillmark.tasks.grader import Grader


def check_benchmarks(store: Store, lineage: Lineage) -> list[Check]:
    """None where the study asks no benchmark."""
    jobs = [job for job in lineage.plan.jobs.values() if job.stage == "benchmark"]
    if not jobs:
        return []
    items = store.items()
    asked: list[str] = []
    grades: list[str] = []
    counts: list[str] = []
    num_samples = 0
    expected: dict[str, list[str]] = {}  # by benchmark, the items of the first job
    for job in jobs:
        samples, grader = store.samples(job.key), Grader(store, job.key, job.inputs, items)
        num_samples += len(samples)
        found = sorted(sample.item_id for sample in samples)
        if found != expected.setdefault(job.inputs["reference"], found) or not is_whole(job, found, items):
            asked.append(f"{where(job)}: not the {job.inputs['num_items']:,} items that every arm is asked")
            continue
        grades += grade_faults(job, samples, grader)
        counts += count_faults(store, lineage, job, samples, grader.details)
    return [
        checked("every item of a benchmark is asked, once, and the same of every arm", len(jobs), asked),
        checked("replies to benchmarks, graded again", num_samples, grades),
        checked("tokens and FLOPs of replies to benchmarks add up", len(jobs), counts),
    ]


def where(job: Job) -> str:
    return f"{label(job)}, {job.inputs['task']}"


def is_whole(job: Job, found: list[str], items: dict[str, ItemRecord]) -> bool:
    return len(found) == len(set(found)) == job.inputs["num_items"] and items.keys() >= set(found)


def grade_faults(job: Job, samples: list[SampleRecord], grader: Grader) -> Iterator[str]:
    for sample in samples:
        if sample.stop_reason == "error":
            continue  # there is no reply
        outcome = grader.grade(sample, sample.response, sample.stop_reason).outcome
        if outcome is not sample.outcome:
            yield f"{where(job)}, item {sample.item_id}: recorded {sample.outcome}, graded again {outcome}"


def count_faults(
    store: Store, lineage: Lineage, job: Job, samples: list[SampleRecord],
    details: dict[tuple[str, int], SampleDetail],
) -> Iterator[str]:  # fmt: skip
    """A written reply's FLOPs by formula; of every job the sums that the ledger holds."""
    shape = lineage.plan.shape(job.arm) if job.arm in lineage.study.arms else None
    for sample in samples:
        recorded = details[sample.item_id, sample.repeat].flops
        if shape is not None and job.inputs["mode"] == "generation" and recorded is not None:
            counted = generate_flops(
                shape, prompt_tokens=sample.prompt_tokens, new_tokens=sample.generated_tokens
            )
            if recorded != counted:
                yield f"{where(job)}, item {sample.item_id}: recorded {recorded:,} FLOPs, counted {counted:,}"
    flops = [detail.flops for detail in details.values()]
    tokens = sum(sample.prompt_tokens + sample.generated_tokens for sample in samples)
    entries = store.ledger(job.key)
    if any(entry.flops is None for entry in entries) or None in flops:
        return
    held = (sum(entry.flops or 0 for entry in entries), sum(entry.tokens or 0 for entry in entries))
    if held != (sum(value or 0 for value in flops), tokens):
        yield f"{where(job)}: the ledger holds {held[0]:,} FLOPs of {held[1]:,} tokens, the replies sum to others"
