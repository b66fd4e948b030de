"""Checks of a text study's store against itself, with no model and no text.

What a model makes of a sequence can be worked out again only with its weights and the text, which a store does not
hold: that is said as "not checked". All else hangs together: every checkpoint is scored on the same sequences; their
lengths follow from the counted FLOPs, for models of every size alike; and sums are what ledger and study say.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stillmark.analysis.lineage import Lineage
from stillmark.compute.flops import forward_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.plan import Job
from stillmark.records import Store, TextScore
from stillmark.report.benchmark_checks import check_benchmarks
from stillmark.report.checks import Check, checked, label
from stillmark.sizes import resolved
from stillmark.study.schema import Text

MOST_TOKENS_A_TOKEN = 64  # of one tokenizer for the text of a token of another
ROUNDING = 1e-3  # nats a token by which a divergence summed in float32 may lie below 0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a sequence is, apart from what a model makes of it."""

    index: int
    tokens: int  # that are scored
    num_bytes: int
    source: str | None
    read: int | None  # tokens read, from the FLOPs; None: no whole number of tokens takes them


def check_text(store: Store, lineage: Lineage) -> list[Check]:
    """All checks of the scores of held-out text."""
    jobs = [job for job in lineage.plan.jobs.values() if job.stage == "evaluate"]
    scores = {job.key: store.text_scores(job.key) for job in jobs}
    num_scores = sum(len(rows) for rows in scores.values())
    sequences: list[str] = []
    values: list[str] = []
    flops: list[str] = []
    for job in jobs:
        sequences += sequence_faults(lineage, job, scores[job.key], jobs, scores)
        values += [f"{label(job)}, sequence {row.index}: {fault}" for row in scores[job.key]
                   for fault in value_faults(lineage, job, row)]  # fmt: skip
        flops += flops_faults(store, lineage, job, scores[job.key])
    captures = [
        job for job in lineage.plan.jobs.values() if job.stage == "capture" and job.inputs["split"] == "test"
    ]
    for job in captures:
        flops += capture_faults(store, lineage, job, jobs, scores)
    return [
        *check_benchmarks(store, lineage),
        checked("every held-out sequence is scored, once, and is the same text for every model", num_scores, sequences),
        checked("likelihoods and divergences are possible ones", num_scores, values),
        checked("FLOPs of reading the held-out text, counted again", len(jobs) + len(captures), flops),
        Check(
            name="likelihoods and divergences, scored again", outcome="not checked", num_checked=0, is_expected=True,
            details=("needs the weights of every checkpoint and the text; records.sqlite names both by hash alone",),
        ),
        Check(
            name="the teacher's FLOPs beside training, counted again", outcome="not checked", num_checked=0,
            is_expected=True, details=("needs the training text: what each batch held is not recorded",),
        ),
    ]  # fmt: skip


def executed_shape(lineage: Lineage, job: Job) -> ModelShape:
    """What reading takes a job's model: in transformers a window's whole context (SDPA), and the head's rows that stand
    for a token; in llama.cpp windows, and all rows.
    """
    if "format" in job.inputs:
        return lineage.plan.shape(job.arm)
    shape, text = lineage.plan.sizes.executed_shape(job.arm), resolved(lineage.study, job.arm)
    rows = min(text.token_rows or text.vocab_size, shape.head.outputs)
    return replace(shape, head=replace(shape.head, outputs=rows))


def facts_of(lineage: Lineage, job: Job, rows: list[TextScore]) -> list[Facts]:
    shape, longest = executed_shape(lineage, job), longest_of(lineage, job)
    return [
        Facts(index=row.index, tokens=row.tokens, num_bytes=row.num_bytes, source=row.source,
              read=tokens_read(shape, row, longest))
        for row in rows
    ]  # fmt: skip


def tokens_read(shape: ModelShape, row: TextScore, longest: int) -> int | None:
    """The number of tokens whose forward pass takes the row's FLOPs: a bisection, as FLOPs rise with tokens."""
    low, high = max(1, row.tokens), longest
    while low <= high:
        middle = (low + high) // 2
        found = forward_flops(shape, tokens=middle, scored_tokens=row.tokens)
        if found == row.flops:
            return middle
        low, high = (middle + 1, high) if found < (row.flops or 0) else (low, middle - 1)
    return None


def longest_of(lineage: Lineage, job: Job) -> int:
    """More tokens than any sequence has. Pieces are cut by the study's first tokenizer, and another may need more."""
    spec = lineage.study.tasks[lineage.study.task_of(job.arm)]
    assert isinstance(spec, Text), job.arm
    return MOST_TOKENS_A_TOKEN * spec.context_tokens


def is_same_text(lineage: Lineage, one: Job, other: Job) -> bool:
    """Whether both read the same sequences: of one task, by one tokenizer."""
    readers = {lineage.study.reader_of(job.arm) for job in (one, other)}
    return is_same_task(lineage, one, other) and len(readers) == 1


def is_same_task(lineage: Lineage, one: Job, other: Job) -> bool:
    return lineage.study.task_of(one.arm) == lineage.study.task_of(other.arm)


def sequence_faults(
    lineage: Lineage, job: Job, rows: list[TextScore], jobs: list[Job], scores: dict[str, list[TextScore]]
) -> Iterator[str]:
    """Against the study's counts, and against the first evaluation of the same text."""
    expected = resolved(lineage.study, job.arm)
    if [row.index for row in rows] != list(range(expected.test_sequences)):
        yield f"{label(job)}: {len(rows)} sequences, not the {expected.test_sequences} of the study"
        return
    facts = facts_of(lineage, job, rows)
    scored, read = sum(row.tokens for row in rows), sum(fact.read or 0 for fact in facts)
    if (scored, read) != (expected.test_loss_tokens, expected.test_tokens):
        yield (f"{label(job)}: {scored:,} scored of {read:,} tokens read, the study has "
               f"{expected.test_loss_tokens:,} of {expected.test_tokens:,}")  # fmt: skip
    pieces = [(row.num_bytes, row.source) for row in rows]
    first = next(other for other in jobs if is_same_task(lineage, other, job))
    if pieces != [(row.num_bytes, row.source) for row in scores[first.key]]:
        yield f"{label(job)}: was not scored on the text that {label(first)} was scored on"
    first = next(other for other in jobs if is_same_text(lineage, other, job))
    known = facts_of(lineage, first, scores[first.key])
    for one, other in zip(known, facts, strict=False):
        if other.read is None:
            yield f"{label(job)}, sequence {other.index}: no number of tokens takes its FLOPs"
        elif one != other:
            yield f"{label(job)}, sequence {other.index}: is not the sequence that {label(first)} was scored on"


def value_faults(lineage: Lineage, job: Job, row: TextScore) -> Iterator[str]:
    """Log-likelihoods are at most 0, divergences at least 0, and a teacher's from itself 0."""
    if row.nats > 0:
        yield f"a log-likelihood of {row.nats} is above 0"
    kl = row.teacher_kl_nats
    if (kl is not None) != lineage.plan.is_judged(job.arm):
        fault = (
            "has no divergence from the teacher"
            if kl is None
            else "has a divergence, but no teacher of its vocabulary"
        )
        yield fault
    if kl is not None and kl < -ROUNDING * row.tokens:
        yield f"a divergence of {kl} is below 0"
    if kl is not None and job.arm == lineage.plan.judge and abs(kl) > ROUNDING * row.tokens:
        yield f"the teacher's divergence from itself is {kl}"


def flops_faults(store: Store, lineage: Lineage, job: Job, rows: list[TextScore]) -> Iterator[str]:
    """The ledger against the rows' FLOPs, the judge's head on their targets, and the tokens that follow from them."""
    tokens = sum(fact.read or 0 for fact in facts_of(lineage, job, rows))
    flops = sum(row.flops or 0 for row in rows)
    if lineage.plan.is_judged(job.arm):
        judge = executed_shape(lineage, lineage.plan.jobs[job.needs[1]])
        flops += 2 * judge.head.matmul_params * sum(row.tokens for row in rows)
    yield from ledger_fault(store, job, (flops, tokens))


def capture_faults(
    store: Store, lineage: Lineage, job: Job, jobs: list[Job], scores: dict[str, list[TextScore]]
) -> Iterator[str]:
    """The teacher's reading of the held-out text without its head, by formula from the sequences' lengths."""
    first = next((other for other in jobs if is_same_text(lineage, other, job)), None)
    if first is None:
        return
    facts = facts_of(lineage, first, scores[first.key])
    shape = executed_shape(lineage, job)
    flops = sum(forward_flops(shape, tokens=fact.read, scored_tokens=0) for fact in facts if fact.read)
    yield from ledger_fault(store, job, (flops, sum(fact.read or 0 for fact in facts)))


def ledger_fault(store: Store, job: Job, counted: tuple[int, int]) -> Iterator[str]:
    entries = store.ledger(job.key)
    recorded = (sum(entry.flops or 0 for entry in entries), sum(entry.tokens or 0 for entry in entries))
    if recorded != counted:
        yield (f"{label(job)}: the ledger has {recorded[0]:,} FLOPs of {recorded[1]:,} tokens, counted "
               f"{counted[0]:,} of {counted[1]:,}")  # fmt: skip
