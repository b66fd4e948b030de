"""Checks of a study's replies to public benchmarks: asked once each, graded again, tokens and FLOPs counted again.

Likelihoods cannot be worked out again without the weights; which choice they name can. Which rows a benchmark has is
held by the hash of its file alone: that every model was asked the same items is checked, that these are its is not.
"""

from collections.abc import Iterator

from stillmark.analysis.lineage import Lineage
from stillmark.compute.flops import generate_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError
from stillmark.plan import Job
from stillmark.records import ItemRecord, LedgerEntry, Outcome, SampleDetail, SampleRecord, Store
from stillmark.report.checks import Check, checked, label
from stillmark.report.run_checks import RunRow, least_flops, positions_run, tokens_of
from stillmark.tasks.grader import Grader

Details = dict[tuple[str, int], SampleDetail]  # by item and repeat


def check_benchmarks(store: Store, lineage: Lineage) -> list[Check]:
    """None where the study asks no benchmark. Jobs that are not recorded whole are another check's."""
    jobs = [
        job for job in lineage.plan.jobs.values() if job.stage == "benchmark" and job.key in lineage.finished
    ]
    if not jobs:
        return []
    items = store.items()
    asked: list[str] = []
    grades: list[str] = []
    counts: list[str] = []
    elsewhere: list[str] = []  # why replies could not be graded here
    num_samples = 0
    expected: dict[str, list[str]] = {}  # by benchmark, the items of the first job
    for job in jobs:
        samples, details = store.samples(job.key), store.details(job.key)
        num_samples += len(samples)
        found = sorted(sample.item_id for sample in samples)
        same = expected.setdefault(job.inputs["benchmark"], found) == found
        if not same or not is_whole(job, samples, details, items):
            asked.append(f"{where(job)}: not the {job.inputs['num_items']:,} items that every model is asked")
            continue
        try:
            grades += grade_faults(job, samples, Grader(store, job.key, job.inputs, items), elsewhere)
        except UserError as error:  # a package that makes the benchmark is not here
            elsewhere.append(f"{where(job)}: {error}")
        counts += count_faults(store, lineage, job, samples, details)
    checks = [
        checked("every item of a benchmark is asked, once, and the same of every model", len(jobs), asked),
        checked("replies to benchmarks, graded again", num_samples, grades),
        checked("tokens and FLOPs of replies to benchmarks add up", len(jobs), counts),
    ]
    if elsewhere:
        checks.append(
            Check(name="replies that this machine cannot grade", outcome="not checked", num_checked=0,
                  is_expected=True, details=tuple(elsewhere[:5]))
        )  # fmt: skip
    return checks


def where(job: Job) -> str:
    return f"{label(job)}, {job.inputs['benchmark']}"


def is_whole(job: Job, samples: list[SampleRecord], details: Details, items: dict[str, ItemRecord]) -> bool:
    """Every item once, known, and with what evaluation keeps beside it."""
    found = {sample.item_id for sample in samples}
    is_each_once = len(found) == len(samples) == job.inputs["num_items"]
    return is_each_once and items.keys() >= found == {item_id for item_id, _ in details}


def grade_faults(
    job: Job, samples: list[SampleRecord], grader: Grader, elsewhere: list[str]
) -> Iterator[str]:
    for sample in samples:
        what = f"{where(job)}, item {sample.item_id}"
        nats = grader.details[sample.item_id, sample.repeat].nats
        if sample.stop_reason == "error" and (sample.response or nats is not None):
            yield f"{what}: the engine is said to have failed, and there is a reply"
            continue
        verdict = grader.grade(sample, sample.response, sample.stop_reason)
        if verdict.outcome is sample.outcome:
            continue
        # Such as code where there is no sandbox
        if verdict.outcome is Outcome.ERROR and sample.stop_reason != "error":
            elsewhere.append(f"{what}: {verdict.error}")
        else:
            yield f"{what}: recorded {sample.outcome}, graded again {verdict.outcome}"


def count_faults(
    store: Store, lineage: Lineage, job: Job, samples: list[SampleRecord], details: Details
) -> Iterator[str]:
    """A written reply's FLOPs by formula; of every job what the ledger holds."""
    is_arm = job.arm in lineage.study.arms
    for sample in samples:
        if job.inputs["mode"] != "generation" and sample.generated_tokens:
            yield f"{where(job)}, item {sample.item_id}: its choices were scored, and it is said to have written"
        recorded = details[sample.item_id, sample.repeat].flops
        if not is_arm or sample.stop_reason == "error":
            continue
        if recorded is None:
            yield f"{where(job)}, item {sample.item_id}: its FLOPs are not recorded"
        elif job.inputs["mode"] == "generation":
            counted = generate_flops(
                lineage.plan.shape(job.arm),
                prompt_tokens=sample.prompt_tokens, new_tokens=sample.generated_tokens,
            )  # fmt: skip
            if recorded != counted:
                yield f"{where(job)}, item {sample.item_id}: recorded {recorded:,} FLOPs, counted {counted:,}"
    entries = store.ledger(job.key)
    positions = positions_run(entries)
    if positions is None:
        yield from sum_faults(job, samples, details, entries, is_arm=is_arm)
    elif is_arm:
        rows = rows_run(job, samples, details)
        yield from run_faults(job, rows, entries, lineage.plan.shape(job.arm), positions)


def rows_run(job: Job, samples: list[SampleRecord], details: Details) -> list[RunRow]:
    """What the engine ran, equal prompts asked apart, and nothing for one too long. Of choices, one token of one."""
    is_written = job.inputs["mode"] == "generation"
    return [
        RunRow(
            prompt=details[sample.item_id, sample.repeat].prompt_sha256, prompt_tokens=sample.prompt_tokens,
            new_tokens=sample.generated_tokens if is_written else 1,
        )
        for sample in samples if sample.stop_reason != "error"
    ]  # fmt: skip


def run_faults(
    job: Job, rows: list[RunRow], entries: list[LedgerEntry], shape: ModelShape, positions: int
) -> Iterator[str]:
    """The ledger's counts of a run, against the least that its rows take: those of equal prompts may be run once."""
    distinct = list({row.prompt: row for row in rows}.values())
    held = (sum(entry.flops or 0 for entry in entries), sum(entry.tokens or 0 for entry in entries))
    least = (least_flops(shape, positions, distinct), tokens_of(distinct))
    has_more = job.inputs["mode"] == "generation" and held[1] > tokens_of(rows)
    if held[0] < least[0] or held[1] < least[1] or has_more:
        yield (f"{where(job)}: the ledger holds {held[0]:,} FLOPs of {held[1]:,} tokens, not the replies': at least "
               f"{least[0]:,} of {least[1]:,}")  # fmt: skip


def sum_faults(
    job: Job, samples: list[SampleRecord], details: Details, entries: list[LedgerEntry], *, is_arm: bool
) -> Iterator[str]:
    """The ledger's counts of replies by themselves, against their sums.

    An endpoint is asked again for what failed, so its ledger may hold more. Its FLOPs are not known.
    """
    tokens = sum(sample.prompt_tokens + sample.generated_tokens for sample in samples)
    held_tokens = sum(entry.tokens or 0 for entry in entries)
    if held_tokens < tokens or (is_arm and held_tokens > tokens):
        yield f"{where(job)}: the ledger holds {held_tokens:,} tokens, the replies {tokens:,}"
    known = sum(details[sample.item_id, sample.repeat].flops or 0 for sample in samples)
    held = [entry.flops for entry in entries]
    has_failures = any(sample.stop_reason == "error" for sample in samples)
    if is_arm and not has_failures and (None in held or sum(flops or 0 for flops in held) != known):
        yield f"{where(job)}: the ledger's FLOPs are not the {known:,} of the replies"
