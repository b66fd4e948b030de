"""Checks of a store against itself, with no model: what anyone can work out again from what is recorded.

Replies are scored again, items drawn again from the task, tokens counted again, the plan and its keys made again from
the study's text. What cannot be worked out again is the training itself, whose counts are held to each other and whose
weights are named by hash only, and what the engine ran for replies: its FLOPs are held to the least they can be.
"""

import hashlib
import sqlite3
from dataclasses import replace

from stillmark.analysis.lineage import Lineage
from stillmark.errors import UserError
from stillmark.marks import marks_of
from stillmark.plan import METHOD_VERSION, Job, Plan
from stillmark.records import CheckpointRecord, ItemRecord, SampleRecord, Store, canonical
from stillmark.report.checks import Check, checked, label
from stillmark.report.run_checks import flops_fault
from stillmark.report.text_checks import check_text
from stillmark.study import Study, study_from_text
from stillmark.study.schema import GivenModel, Text


def check_records(store: Store) -> list[Check]:
    """All checks of a store, in order of what rests on what."""
    first = [check_file(store), check_study(store)]
    if any(check.outcome == "differs" for check in first):
        return [*first, Check(name="records", outcome="not checked", num_checked=0,
                              details=("the file or its study does not agree with itself",))]  # fmt: skip
    lineage = Lineage(store)
    if lineage.study.is_text:
        return [
            *first,
            check_jobs(store, lineage.plan),
            *check_text(store, lineage),
            check_training(store, lineage),
        ]
    questions = Questions(lineage)
    return [
        *first,
        check_jobs(store, lineage.plan),
        check_items(store, questions),
        *check_answers(store, lineage, questions),
        check_training(store, lineage),
    ]


def check_file(store: Store) -> Check:
    """SQLite's own check of the file, and that every row's job and item exist."""
    connection = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
    try:
        faults = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        faults += [f"a row of {row[0]} refers to a missing row of {row[2]}"
                   for row in connection.execute("PRAGMA foreign_key_check")]  # fmt: skip
    except sqlite3.DatabaseError as error:
        faults = [str(error)]
    finally:
        connection.close()
    return checked("the records' file is whole", 1, faults)


def check_study(store: Store) -> Check:
    """The stored form of the study and the plan are what its text says."""
    text, resolved, plan, _ = store.study()
    try:
        study = study_from_text(text, settings=settings_in(text))
    except UserError as error:
        return checked("study and plan follow from the study's text", 1, [str(error)])
    if not isinstance(study, Study):
        return checked(
            "study and plan follow from the study's text", 1, ["it is a study of published figures"]
        )
    kept = Study.model_validate(resolved)  # with the defaults of what a study could not say when it was run
    study = with_found(study, kept)
    is_same = canonical(study.model_dump()) == canonical(kept.model_dump())
    faults = [] if is_same else ["the stored study is not that of its text"]
    stored = {row["key"]: canonical(row) for row in plan}
    made = {job.key: canonical(job.row()) for job in Plan(study).jobs.values()}
    both = sorted(set(stored) | set(made))
    faults += [f"job {key} is not as planned" for key in both if stored.get(key) != made.get(key)]
    return checked("study and plan follow from the study's text", 1 + len(made), faults)


def settings_in(text: str) -> list[str]:
    """The values that `--set` put over a study: a run keeps them as comments at the end of its text."""
    mark, found = "# --set ", []
    for line in reversed(text.splitlines()):
        if not line.startswith(mark):
            break
        found.append(line.removeprefix(mark))
    return found[::-1]


def with_found(study: Study, resolved: Study) -> Study:
    """The study with what a run found its models and files to be, where its text does not pin that."""
    models = {}
    for name, spec in study.models.items():
        found = resolved.models.get(name)
        if isinstance(spec, GivenModel) and isinstance(found, GivenModel):
            spec = spec.model_copy(
                update={
                    "config": spec.config or found.config,
                    "weights_sha256": spec.weights_sha256 or found.weights_sha256,
                    "vocabulary_sha256": found.vocabulary_sha256,
                }
            )
        models[name] = spec
    tasks = {}
    for name, task in study.tasks.items():
        read = resolved.tasks.get(name)
        if isinstance(task, Text) and isinstance(read, Text):
            parts = ("resolved", "resolved_by", "compared")
            task = task.model_copy(
                update={part: getattr(task, part) or getattr(read, part) for part in parts}
            )
        tasks[name] = task
    benchmarks = study.benchmarks
    if benchmarks and resolved.benchmarks:
        kept = resolved.benchmarks
        others = {
            name: other.model_copy(update={part: getattr(other, part) or getattr(kept.others[name], part)
                                           for part in ("sha256", "price")}) if name in kept.others else other
            for name, other in benchmarks.others.items()
        }  # fmt: skip
        facts = {
            part: getattr(benchmarks, part) or getattr(kept, part)
            for part in ("resolved", "tokenizer_sha256", "other_readers")
        }
        benchmarks = benchmarks.model_copy(update={**facts, "others": others})
    return study.model_copy(update={"models": models, "tasks": tasks, "benchmarks": benchmarks})


def check_jobs(store: Store, plan: Plan) -> Check:
    """Each planned job is recorded whole, under the key that is the hash of its content."""
    jobs = {job.key: job for job in store.jobs()}
    faults = []
    for job in plan.jobs.values():
        record = jobs.get(job.key)
        if record is None or record.finished_at is None:
            faults.append(f"{label(job)}: not recorded whole")
            continue
        content = {
            "version": METHOD_VERSION,
            "stage": record.stage,
            "inputs": record.inputs,
            "needs": job.needs,
        }
        if hashlib.sha256(canonical(content).encode()).hexdigest()[:24] != job.key:
            faults.append(f"{label(job)}: its inputs are not those of its key")
    return checked("jobs are recorded whole, under the hash of their inputs", len(plan.jobs), faults)


class Questions:
    """The items that the tasks themselves draw for each job, in order, by id."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self.jobs = [job for job in lineage.plan.jobs.values() if job.stage in ("generate", "evaluate")]
        self._drawn: dict[str, dict[str, ItemRecord]] = {}

    def of(self, job: Job) -> dict[str, ItemRecord]:
        name = self.lineage.study.task_of(job.arm)
        task = self.lineage.plan.tasks[name]
        is_training = job.stage == "generate"
        source = [name, job.inputs["traces"], job.seed] if is_training else [name, job.inputs["split"]]
        if canonical(source) not in self._drawn:
            if is_training:
                prompts = job.inputs["traces"]["prompts"]
                samples = [task.training_sample(job.seed, index) for index in range(prompts)]
            else:
                samples = task.held_out_samples(job.inputs["split"])
            items = [sample.item(name) for sample in samples]
            self._drawn[canonical(source)] = {item.item_id: item for item in items}
        return self._drawn[canonical(source)]


def check_items(store: Store, questions: Questions) -> Check:
    """Every item is the task's own, and none that is trained on is asked in evaluation."""
    items = store.items()
    training: dict[str, ItemRecord] = {}
    held_out: dict[str, ItemRecord] = {}
    for job in questions.jobs:
        (training if job.stage == "generate" else held_out).update(questions.of(job))
    wanted = training | held_out
    faults = [
        f"item {key} is not as the task draws it" for key, item in wanted.items() if items.get(key) != item
    ]
    faults += [
        f"item {key} is in training and in evaluation" for key in sorted(set(training) & set(held_out))
    ]
    return checked("items are the task's own; evaluation is held out", len(wanted), faults)


def check_answers(store: Store, lineage: Lineage, questions: Questions) -> list[Check]:
    """Every job's replies: whether all are there, scored again, tokens and FLOPs counted again. One job at a time."""
    items = store.items()
    missing: list[str] = []
    scores: list[str] = []
    tokens: list[str] = []
    flops: list[str] = []
    num_samples = num_hidden = 0
    for job in questions.jobs:
        samples = store.samples(job.key)
        num_samples += len(samples)
        num_hidden += sum(sample.generated_tokens > shown_tokens(sample) for sample in samples)
        missing += missing_samples(job, samples, list(questions.of(job)))
        for sample in samples:
            item = items[sample.item_id]
            scores += score_fault(lineage, job, item, sample)
            tokens += token_fault(job, item, sample)
        flops += flops_fault(store, lineage, job, samples)
    num_jobs = len(questions.jobs)
    return [
        checked("every item is answered, and once", num_jobs, missing),
        checked("replies, scored again", num_samples, scores),
        with_hidden(checked("tokens, counted again", num_samples, tokens), num_hidden),
        checked("FLOPs and tokens of answers in the ledger, held to the answers", num_jobs, flops),
    ]


def missing_samples(job: Job, samples: list[SampleRecord], expected: list[str]) -> list[str]:
    repeats = job.inputs["traces"]["samples_per_prompt"] if job.stage == "generate" else 1
    wanted = [(key, place, repeat) for place, key in enumerate(expected) for repeat in range(repeats)]
    found = [(sample.item_id, sample.position, sample.repeat) for sample in samples]
    if found == wanted:
        return []
    return [f"{label(job)}: {len(found):,} samples, not the {len(wanted):,} that were asked for"]


def score_fault(lineage: Lineage, job: Job, item: ItemRecord, sample: SampleRecord) -> list[str]:
    outcome = lineage.plan.tasks[item.task].score(sample.response, item.target, sample.stop_reason)
    if outcome is sample.outcome:
        return []
    return [f"{label(job)}, item {item.item_id}: recorded {sample.outcome}, scored again {outcome}"]


def token_fault(job: Job, item: ItemRecord, sample: SampleRecord) -> list[str]:
    """With the studies' word-level tokenizer a word is a token and <bos> opens a prompt.

    A reply may hold more tokens than its text shows (special tokens that the model wrote), never fewer. A count
    that was raised later still differs: `flops_fault` holds each job's counts to the ledger.
    """
    prompt, written = len(item.prompt.split()) + 1, shown_tokens(sample)
    if prompt == sample.prompt_tokens and written <= sample.generated_tokens:
        return []
    recorded = f"{sample.prompt_tokens} + {sample.generated_tokens}"
    return [f"{label(job)}, item {item.item_id}: recorded {recorded} tokens, counted {prompt} + {written}"]


def shown_tokens(sample: SampleRecord) -> int:
    """Tokens of a reply that its text shows: its words, and the <eos> that ends a whole one."""
    return len(sample.response.split()) + (sample.stop_reason != "length")


def with_hidden(check: Check, num_hidden: int) -> Check:
    """The check, with a word on the replies whose text does not show every token."""
    if not num_hidden:
        return check
    note = (
        f"{num_hidden:,} hold special tokens that their text leaves out; the ledger's sums hold those counts"
    )
    return replace(check, details=(*check.details, note))


def check_training(store: Store, lineage: Lineage) -> Check:
    """A checkpoint's counts are the sums of the ledger up to it, and each is where the budget has it."""
    faults, num_checked = [], 0
    for (arm, seed), key in lineage.plan.train_keys.items():
        entries = [entry for entry in store.ledger(key) if entry.part == "train"]
        recipe = lineage.study.arms[arm].recipe
        if recipe is None:
            continue  # a given model is not trained
        rows = store.checkpoints(key)
        for row in rows:
            num_checked += 1
            until = [entry for entry in entries if entry.index <= row.index]
            sums = (sum(entry.flops or 0 for entry in until), sum(entry.tokens or 0 for entry in until))
            if sums != (row.train_flops, row.tokens):
                faults.append(f"train {arm} seed {seed} checkpoint {row.index}: {row.train_flops:,} FLOPs and "
                              f"{row.tokens:,} tokens, but the ledger sums to {sums[0]:,} and {sums[1]:,}")  # fmt: skip
        if not keeps_budget(lineage, lineage.plan.jobs[key], rows):
            faults.append(f"train {arm} seed {seed}: not trained to the end of its budget")
    return checked("training's counts add up (its steps cannot be worked out again)", num_checked, faults)


def keeps_budget(lineage: Lineage, job: Job, rows: list[CheckpointRecord]) -> bool:
    """Whether a training has all its checkpoints, each at its mark or past it."""
    try:
        marks = marks_of(job, lineage.plan, lineage.store)
    except UserError:  # a control's, whose student is not recorded whole
        return False
    if len(rows) != len(marks.amounts):
        return False
    return all(marks.reached(row) >= amount for row, amount in zip(rows, marks.amounts, strict=True))
