"""A study of 50 arms and a million samples, made up, and what `stillmark report` takes for it.

No model is run: replies are right as often as a made-up learning curve says, written with the task's own words, so
that the store has the rows, sizes and text of a real one. Two shapes of the same million, since the analysis meets
them differently: many checkpoints of few items (seeds x checkpoints x items = 2 x 5 x 2,000), and one checkpoint of
all items (1 x 1 x 20,000).

    python -m benchmarks.report                 makes both, times both, prints the table of report.md
    python -m benchmarks.report --stores FOLDER the same, with the stores kept in FOLDER/curves and FOLDER/wide
    python -m benchmarks.report --make FOLDER --shape wide    only makes a store
"""

import argparse
import hashlib
import json
import math
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.page_opening import opening_seconds, stated

from stillmark.compute.flops import generate_flops
from stillmark.marks import marks_of
from stillmark.plan import Job, Plan
from stillmark.provenance import provenance
from stillmark.records import CheckpointRecord, LedgerEntry, Method, Outcome, SampleRecord, Store
from stillmark.study import study_from_text
from stillmark.tasks import Sample

NUM_VANILLA, NUM_TEACHERS, NUM_CONTROLS, NUM_ARMS = 8, 2, 4, 50
OBJECTS = ("red", "blue", "green", "pink", "white", "black", "orange")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the 20,000 samples of an arm are spread."""

    num_seeds: int
    num_checkpoints: int
    num_items: int


SHAPES = {
    "curves": Shape(num_seeds=2, num_checkpoints=5, num_items=2000),
    "wide": Shape(num_seeds=1, num_checkpoints=1, num_items=20_000),
}


def study_text(shape: Shape) -> str:
    """The study file: a vanilla family of eight sizes, two teachers, 36 students and four controls."""
    models = {
        f"size{k}": {
            "hidden_size": 16 * (k + 2),
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32 * (k + 2),
        }
        for k in range(NUM_VANILLA)
    }
    recipe = {
        "train_flops": 1e12,
        "learning_rate": 5e-3,
        "batch_samples": 8,
        "warmup_samples": 32,
        "checkpoints": shape.num_checkpoints,
        "first_checkpoint": 0.05,
    }
    answers, solutions = {**recipe, "text": "answers"}, {**recipe, "text": "solutions"}
    traces = {**recipe, "text": "traces", "traces": {"prompts": 20, "samples_per_prompt": 1}}
    arms: dict[str, object] = {}
    for k in range(NUM_VANILLA):
        arms[f"vanilla-{k}"] = {"kind": "vanilla", "model": f"size{k}", "recipe": answers}
    for k in range(NUM_TEACHERS):
        model = f"size{NUM_VANILLA - 1 - k}"
        arms[f"teacher-{k}"] = {"kind": "teacher", "model": model, "recipe": solutions}
    for k in range(NUM_CONTROLS):
        own = {**solutions, "learning_rate": 1e-3 * (k + 1)}
        arms[f"control-{k}"] = {"kind": "vanilla", "model": "size0", "recipe": own}
    students = [f"student-{k}" for k in range(NUM_ARMS - len(arms))]
    for k, name in enumerate(students):
        own = {**traces, "learning_rate": 1e-4 * (k + 1)}
        arms[name] = {
            "kind": "distilled",
            "model": f"size{k % 3}",
            "recipe": own,
            "teacher": f"teacher-{k % 2}",
        }
    study = {
        "name": "million",
        "seeds": list(range(shape.num_seeds)),
        "tasks": {
            "shuffled": {
                "kind": "shuffled_objects",
                "objects": 7,
                "min_swaps": 1,
                "max_swaps": 6,
                "test_samples": shape.num_items,
                "validation_samples": 20,
            }
        },
        "models": models,
        "arms": arms,
        "conclusion": {
            "students": students,
            "vanilla": [f"vanilla-{k}" for k in range(NUM_VANILLA)],
            "controls": [f"control-{k}" for k in range(NUM_CONTROLS)],
        },
    }
    return json.dumps(study)  # JSON is YAML


def make_store(folder: Path, shape: Shape) -> int:
    """The store with every job of the study recorded; the number of evaluated samples."""
    text = study_text(shape)
    study = study_from_text(text)
    plan = Plan(study)
    store = Store.create(folder / "records.sqlite")
    store._connection.execute("PRAGMA synchronous=OFF")  # made up, so may be lost
    known = provenance()
    store.put_study(text, study.model_dump(), [job.row() for job in plan.jobs.values()], known)
    task = plan.tasks["shuffled"]
    held_out = task.held_out_samples("test")
    difficulty = [random.Random(sample.prompt).gauss(0, 1) for sample in held_out]
    num_samples = 0
    for job in plan.jobs.values():
        store.begin_job(job.key, job.stage, job.inputs, known)
        with store.transaction():
            if job.stage == "train":
                add_training(job, plan, store)
            else:
                questions = held_out
                if job.stage == "generate":
                    drawn = [task.training_sample(job.seed, index) for index in range(20)]
                    questions = list({sample.prompt: sample for sample in drawn}.values())
                store.add_items(question.item("shuffled") for question in questions)
                made = replies(job, plan, questions, difficulty)
                store.add(*made)
                add_cost(job, plan, store, made)
                num_samples += len(made) if job.stage == "evaluate" else 0
        store.finish_job(job.key)
    store.close()
    return num_samples


def replies(job: Job, plan: Plan, questions: list[Sample], difficulty: list[float]) -> list[SampleRecord]:
    """Right with a chance that rises with compute and size, and falls with the question's own difficulty."""
    checkpoints = plan.study.arms[job.arm].recipe.checkpoints
    step = 1.0 if job.checkpoint is None else (job.checkpoint + 1) / checkpoints
    mixed = int.from_bytes(hashlib.sha256(f"{job.arm} {job.seed}".encode()).digest()[:4], "big") / 2**32
    bonus = 0.0 if job.arm.startswith("vanilla") else 1.2
    centre = 3 * step - 2.2 + bonus + mixed + 0.02 * plan.shape(job.arm).params ** 0.25
    stream = random.Random(f"{job.arm} {job.seed} {job.checkpoint}")
    made = []
    for position, question in enumerate(questions):
        is_right = stream.random() < 1 / (1 + math.exp(difficulty[position] - centre))
        text = f"{question.solution} ; {question.answer}" if bonus else question.answer
        response = text if is_right else " ".join(reversed(text.split()))
        made.append(
            SampleRecord(
                job_key=job.key,
                item_id=question.item("shuffled").item_id,
                repeat=0,
                position=position,
                response=response,
                outcome=Outcome.CORRECT if is_right else Outcome.WRONG,
                stop_reason="stop",
                prompt_tokens=len(question.prompt.split()) + 1,
                generated_tokens=len(response.split()) + 1,
                seconds=0.001,
            )
        )
    return made


def add_cost(job: Job, plan: Plan, store: Store, made: list[SampleRecord]) -> None:
    shape = plan.shape(job.arm)
    flops = (
        sum(
            generate_flops(shape, prompt_tokens=sample.prompt_tokens, new_tokens=sample.generated_tokens)
            for sample in made[:50]
        )
        * len(made)
        // min(50, len(made))
    )  # of a made-up run: the mean of fifty would do
    store.add(ledger_entry(job, job.stage, 0, flops))


def add_training(job: Job, plan: Plan, store: Store) -> None:
    before = 0
    for index, flops in enumerate(marks_of(job, plan, store).amounts):
        own = math.ceil(flops * (1 + 0.01 * job.seed))
        store.add(ledger_entry(job, "train", index, own - before))
        store.add(
            CheckpointRecord(
                job_key=job.key,
                index=index,
                step=index + 1,
                samples_seen=8 * (index + 1),
                tokens=1000 * (index + 1),
                train_flops=own,
                loss=1.0,
                path=f"models/{job.key}/{index}",
                sha256="0" * 64,
            )
        )
        before = own


def ledger_entry(job: Job, part: str, index: int, flops: int) -> LedgerEntry:
    return LedgerEntry(
        job_key=job.key,
        part=part,
        index=index,
        flops=flops,
        flops_method=Method.COUNTED,
        tokens=1000,
        positions=1000,
        seconds=flops / 1e9,
        cpu_seconds=flops / 1.1e9,
        device="none, made up",
    )


def measure(folder: Path) -> dict[str, float]:
    """Wall and CPU seconds and the peak of resident memory of `stillmark report`, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    code = (
        "import sys, resource; sys.argv = ['stillmark', 'report', sys.argv[1]]; from stillmark.cli import app\n"
        "try: app()\nexcept SystemExit as end: assert not end.code, end\n"
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = int(done.stderr.rsplit("peak ", 1)[1])  # KiB on Linux
    store = Store.open(folder)
    evaluated = "SELECT COUNT(*) FROM samples JOIN jobs ON job_key = key WHERE stage = 'evaluate'"
    (num_samples,) = store.query(evaluated).fetchone()
    store.close()
    return {
        "samples": num_samples,
        "wall_seconds": wall,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gibibytes": peak / 2**20,
        "page_megabytes": (folder / "report.html").stat().st_size / 1e6,
        "store_megabytes": (folder / "records.sqlite").stat().st_size / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only make a store there")
    parser.add_argument("--shape", choices=SHAPES, default="curves")
    parser.add_argument(
        "--stores", type=Path, metavar="FOLDER", help="stores that are there already are used again"
    )
    arguments = parser.parse_args()
    if arguments.make:
        print(f"{make_store(arguments.make, SHAPES[arguments.shape]):,} samples in {arguments.make}")
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load before: {' '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    print(
        "| shape: seeds x checkpoints x items | samples | store MB | wall s | CPU s | peak GiB | page MB | opens in s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        for name, shape in SHAPES.items():
            folder = (arguments.stores or Path(scratch)) / name
            if not (folder / "records.sqlite").exists():
                make_store(folder, shape)
            row, opened = measure(folder), opening_seconds(folder / "report.html")
            print(
                f"| {name}: {shape.num_seeds} x {shape.num_checkpoints} x {shape.num_items:,} | {row['samples']:,.0f} "
                f"| {row['store_megabytes']:.0f} | {row['wall_seconds']:.1f} | {row['cpu_seconds']:.1f} "
                f"| {row['peak_gibibytes']:.2f} | {row['page_megabytes']:.2f} | {stated(opened)} |",
                flush=True,
            )
    print(f"\nload after: {' '.join(f'{load:.2f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
