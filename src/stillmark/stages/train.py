"""Training of one arm: from random weights, its base's, or a start cut out of them, to its budget."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stillmark.compute.flops import forward_flops
from stillmark.compute.stretch import Stretch
from stillmark.distill.counting import executed_shape
from stillmark.distill.objective import CachedTeacher, LiveTeacher, Objective
from stillmark.distill.on_policy import OnPolicyText
from stillmark.distill.processes import Processes
from stillmark.distill.spent import Spent
from stillmark.distill.text import CorpusText, TaskText, TextPair, TextSource, TraceText
from stillmark.distill.trackers import TrainingLog, start_trackers
from stillmark.distill.train import Training
from stillmark.errors import UserError
from stillmark.marks import marks_of
from stillmark.models.build import build_model, save_model
from stillmark.models.given import given_model
from stillmark.models.prune import PrunedShape, prune
from stillmark.plan import Job, Plan
from stillmark.records import CheckpointRecord, LedgerEntry, Method, Store
from stillmark.stages.adopt import add_ends, final_model, model_folder, tokenizer_for
from stillmark.stages.text import corpus_for, open_cache
from stillmark.study.schema import ControlArm, GivenModel, PrunedModel
from stillmark.tasks.overlap import EvaluationItems
from stillmark.tasks.task import held_out_prompts
from stillmark.tasks.traces import choose_traces

STATE_FILE = "training_state.safetensors"


def train(job: Job, plan: Plan, store: Store, report: Any, processes: Processes) -> None:
    """From random weights or the base's, to the budget, with a checkpoint at each of its marks.

    All `processes` call this, each with a store of its own: the first one's is the study's, and it writes the files.
    """
    arm = plan.study.arms[job.arm]
    done = store.checkpoints(job.key)
    if len(done) == arm.training.checkpoints:
        return  # killed between the last checkpoint and the mark that the job is finished
    tokenizer = tokenizer_for(plan, job.arm)
    model = starting_model(job, plan, store, processes).to(processes.device).train()
    add_ends(model, tokenizer)
    shape, spent = plan.shape(job.arm), Spent()
    source = text_source(job, plan, store, tokenizer)
    if arm.training.on_policy:
        source = OnPolicyText(
            source, model=model, shape=shape, tokenizer=tokenizer, settings=arm.training.on_policy,
            batch_samples=arm.training.batch_samples, seed=job.seed, spent=spent,
        )  # fmt: skip
    training = Training(
        model=model,
        shape=shape,
        tokenizer=tokenizer,
        source=source,
        recipe=arm.training,
        objective=Objective(
            arm.training,
            teacher_of(job, plan, store, processes.device),
            student_tokenizer=tokenizer,
            teacher_tokenizer=tokenizer_for(plan, arm.teacher) if arm.teacher else tokenizer,
            seed=job.seed,
        ),
        spent=spent,
        seed=job.seed,
        processes=processes,
    )
    log = training.on_step = tracked(job, plan, store) if processes.is_first else None
    folder = model_folder(store, job.key)
    if done:
        training.load(folder / f"{done[-1].index}-{STATE_FILE}", recorded_counts(store, job.key, done[-1]))
    marks = marks_of(job, plan, store)
    checkpoints = training.run(marks.amounts, of=marks.unit, first=len(done))
    while True:
        with processes.stretch() as stretch:
            index = next(checkpoints, None)
        if index is None:
            break
        record_checkpoint(job, training, index, folder, store, stretch)
        report(min(1.0, getattr(training.spent, marks.unit) / marks.amounts[-1]))
    if processes.is_first:
        (folder / f"{arm.training.checkpoints - 1}-{STATE_FILE}").unlink(missing_ok=True)
    if log is not None:
        log.close()


def tracked(job: Job, plan: Plan, store: Store) -> TrainingLog | None:
    """What tells the study's trackers of each step; None where it names none."""
    if not plan.study.track:
        return None
    settings = {"study": plan.study.name, "arm": job.arm, "seed": job.seed, "job": job.key}
    trackers = start_trackers(
        plan.study.track, project=plan.study.name, settings=settings, folder=store.folder
    )
    (record,) = (record for record in store.jobs() if record.key == job.key)
    peak = record.provenance["matmul_flops_per_second"]
    return TrainingLog(matmul_peak=peak, trackers=trackers, stream=None)


def starting_model(job: Job, plan: Plan, store: Store, processes: Processes) -> Any:
    """Random weights, the base's, or what pruning leaves of the base; pruning's FLOPs are recorded, once.

    Each process prunes for itself, and so many times over it is recorded.
    """
    arm = plan.study.arms[job.arm]
    spec = plan.study.models[arm.model]
    if isinstance(spec, GivenModel):
        return given_model(spec.checkpoint, spec.revision)
    if not arm.base:
        return build_model(plan.config(job.arm), job.seed)
    base = final_model(store, plan.train_keys[arm.base, job.seed]).to(processes.device)
    if not isinstance(spec, PrunedModel):
        return base
    sequences = corpus_for(plan, job.arm).train
    step = max(1, len(sequences) // spec.calibration_sequences)
    chosen = sequences[::step][: spec.calibration_sequences]  # spread over the text: the same for all seeds
    shape = PrunedShape(
        num_layers=spec.num_hidden_layers, hidden_size=spec.hidden_size,
        ffn_size=spec.intermediate_size, num_kv_heads=spec.num_key_value_heads,
    )  # fmt: skip
    executed = executed_shape(base, plan.shape(arm.base))
    with processes.stretch() as stretch:
        pruned = prune(base, shape, [torch.tensor([sequence.token_ids]) for sequence in chosen])
    if not any(entry.part == "prune" for entry in store.ledger(job.key)):
        tokens = [len(sequence.token_ids) for sequence in chosen]
        flops = sum(forward_flops(executed, tokens=count, scored_tokens=0) for count in tokens)
        times, took = processes.count, stretch.row()
        with store.transaction():
            store.add(
                LedgerEntry(
                    job_key=job.key, part="prune", index=0, flops=times * flops, flops_method=Method.COUNTED,
                    tokens=times * sum(tokens), positions=times * sum(tokens), device=processes.device_name,
                    **(took | {"cpu_seconds": times * took["cpu_seconds"]}),
                )
            )  # fmt: skip
    return pruned.model


def teacher_of(
    job: Job, plan: Plan, store: Store, device: torch.device
) -> LiveTeacher | CachedTeacher | None:
    """What judges the arm's text: a live teacher, its captured logits, or nothing."""
    arm = plan.study.arms[job.arm]
    if not arm.teacher or not arm.training.needs_logits:
        return None
    if arm.training.logit_cache:
        return CachedTeacher(cache=open_cache(job, plan, store))
    model = final_model(store, plan.train_keys[arm.teacher, job.seed]).to(device)
    return LiveTeacher(model=model, shape=plan.shape(arm.teacher))


def recorded_counts(store: Store, job_key: str, last: CheckpointRecord) -> dict[str, int]:
    """What training had spent at its last checkpoint, added up from the records."""
    entries = store.ledger(job_key)

    def total(part: str, name: str) -> int:
        return sum(getattr(entry, name) for entry in entries if entry.part == part)

    return {
        "step": last.step,
        "samples": last.samples_seen,
        "tokens": total("train", "tokens"),
        "positions": total("train", "positions"),
        "train_flops": total("train", "flops"),
        "teacher_flops": total("teacher_forward", "flops"),
        "teacher_tokens": total("teacher_forward", "tokens"),
        "teacher_positions": total("teacher_forward", "positions"),
        "generate_flops": total("generate_student", "flops"),
        "generate_tokens": total("generate_student", "tokens"),
        "generate_positions": total("generate_student", "positions"),
    }


def record_checkpoint(
    job: Job, training: Training, index: int, folder: Path, store: Store, stretch: Stretch
) -> None:
    """Files first, then the rows that refer to them: a kill between the two leaves files that are written again."""
    spent, processes = training.spent, training.processes
    checkpoint, weights = folder / f"checkpoint-{index}", training.averaged_weights()
    sha256 = processes.from_first(lambda: save_model(checkpoint, training.model, weights, training.tokenizer))
    training.save(folder / f"{index}-{STATE_FILE}")
    before = store.ledger(job.key)
    segment = {
        part: {
            name: now - sum(getattr(entry, name) for entry in before if entry.part == part)
            for name, now in zip(("flops", "tokens", "positions"), amounts, strict=True)
        }
        for part, amounts in (
            ("train", (spent.train_flops, spent.tokens, spent.positions)),
            ("teacher_forward", (spent.teacher_flops, spent.teacher_tokens, spent.teacher_positions)),
            ("generate_student", (spent.generate_flops, spent.generate_tokens, spent.generate_positions)),
        )
    }
    seconds = {
        "train": (spent.train_seconds, spent.train_cpu_seconds),
        "teacher_forward": (spent.teacher_seconds, spent.teacher_cpu_seconds),
        "generate_student": (spent.generate_seconds, spent.generate_cpu_seconds),
    }
    parts = ["train", "teacher_forward"] if training.recipe.needs_live_teacher else ["train"]
    if training.recipe.on_policy:
        parts.append("generate_student")
    joules = shared_joules(stretch, {part: seconds[part][0] for part in parts})
    with store.transaction():
        for part in parts:
            store.add(
                LedgerEntry(
                    job_key=job.key,
                    part=part,
                    index=index,
                    flops_method=Method.COUNTED,
                    device=processes.device_name,
                    seconds=seconds[part][0],
                    cpu_seconds=seconds[part][1],
                    **segment[part],
                    **joules[part],
                )
            )
        store.add(
            CheckpointRecord(
                job_key=job.key,
                index=index,
                step=spent.step,
                samples_seen=spent.samples,
                tokens=spent.tokens,
                train_flops=spent.train_flops,
                loss=spent.loss_sum / spent.loss_tokens if spent.loss_tokens else None,
                path=str(checkpoint.relative_to(store.folder)),
                sha256=sha256,
            )
        )
    if processes.is_first:
        (folder / f"{index - 1}-{STATE_FILE}").unlink(missing_ok=True)


def shared_joules(stretch: Stretch, seconds: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The energy of a stretch for each of its parts: by wall seconds where there are several, which is an estimate."""
    if len(seconds) == 1:
        return {part: stretch.joules() for part in seconds}
    total = sum(seconds.values())
    by = f"the part's share by wall seconds, of {' and '.join(seconds)} together"
    return {
        part: stretch.joules(share=own / total if total else 0.0, shared_by=by)
        for part, own in seconds.items()
    }


def text_source(job: Job, plan: Plan, store: Store, tokenizer: Any) -> TextSource:
    """The text that the job's arm learns from."""
    recipe = plan.study.arms[job.arm].training
    if recipe.text == "corpus":
        corpus, arm = corpus_for(plan, job.arm), plan.study.arms[job.arm]
        student = plan.study.arms[arm.student] if isinstance(arm, ControlArm) else arm
        # What an on-policy student can reply to is what its control reads, in the same order
        sequences = corpus.prompted if student.training.on_policy else corpus.train
        return CorpusText(sequences, job.seed, corpus.train_texts if recipe.loss == "uld" else None)
    if recipe.text != "traces":
        return TaskText(plan.tasks[plan.study.task_of(job.arm)], recipe.text, job.seed, tokenizer)
    items = store.items()
    assert recipe.traces is not None, job.arm
    task = plan.tasks[plan.study.task_of(job.arm)]
    choice = choose_traces(
        store.samples(plan.generate_keys[job.arm, job.seed]),
        {item_id: item.prompt for item_id, item in items.items()},
        max_per_prompt=recipe.traces.max_per_prompt,
        evaluation=EvaluationItems(held_out_prompts(task), with_runs=False),
    )
    accepted = [TextPair(prompt=prompt, response=response) for prompt, response in choice.pairs]
    if not accepted:
        raise UserError(f"arm `{job.arm}`: the task's scorer accepted none of the teacher's traces",
                        hint="give the teacher a larger `train_flops` or a lower `traces.temperature`")  # fmt: skip
    return TraceText(accepted, job.seed, tokenizer)
