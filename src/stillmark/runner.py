"""Runs what a study's plan holds and its store does not: jobs in worker processes, each after those it needs."""

import fcntl
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from queue import Empty
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stillmark.compute.stretch import share_machine
from stillmark.errors import GOES_ON, KEPT, UserError
from stillmark.plan import Job, Plan
from stillmark.provenance import num_cores, provenance
from stillmark.records import Outcome, Store
from stillmark.report.training import training_line
from stillmark.startup import draw_no_bars, start_process
from stillmark.study import Study


def run_study(
    study: Study,
    text: str,
    folder: Path,
    *,
    workers: int | None = None,
    quiet: bool = False,
    wanted: Sequence[str] = (),
) -> int:
    """Carries out what is not yet recorded of a study in `folder`; returns how many jobs that was. The models of the
    arms in `wanted` are there when it is done, also where someone has deleted them.

    Ctrl-C and `kill -9` lose no record; the same call goes on. Raises UserError for a study that is at fault. Where
    `accelerate launch` or `torchrun` started this, each of its processes calls it: they train together (`together.py`).
    """
    import torch

    from stillmark.distill.processes import Processes
    from stillmark.resolve import resolve
    from stillmark.stages.lost import forget_lost

    processes = Processes.launched()
    study = processes.from_first(lambda: resolve(study))
    plan = Plan(study)
    if not processes.is_first:
        from stillmark.together import follow

        return follow(plan, folder, processes)
    with only_runner(folder):
        store = Store.create(folder / "records.sqlite")
        store.put_study(text, study.model_dump(), [job.row() for job in plan.jobs.values()], provenance())
        finished = store.finished_keys() - with_failed_replies(plan, store)
        models = {plan.train_keys[arm, seed] for arm in wanted for seed in study.seeds}
        finished -= forget_lost(plan, store, plan.jobs.keys() - finished, models)
        todo = [job for job in plan.jobs.values() if job.key not in finished]
        with progress_bar(todo, store, quiet) as bar:
            if processes.accelerator:
                from stillmark.together import lead

                lead(todo, plan, store, processes, lambda job, fraction: bar.update(job.key, fraction))
            elif todo:
                if torch.cuda.is_available() and not quiet:
                    bar.print(GPU_UNUSED)
                workers = workers or max(1, num_cores() // (study.threads or num_cores()))
                run_jobs(todo, study, folder, workers, bar)
        store.close()
    return len(todo)


GPU_UNUSED = (
    "the GPU here is not used: `accelerate launch --num_processes 1 -m stillmark ...` runs this on it"
)


def with_failed_replies(plan: Plan, store: Store) -> set[str]:
    """Finished benchmarks in which an endpoint failed on some items: these are asked again, and no others."""
    endpoints = [
        job.key for job in plan.jobs.values() if job.inputs.get("other", {}).get("engine") == "openai"
    ]
    return {key for key in endpoints if Outcome.ERROR in store.outcomes(key)}


@contextmanager
def only_runner(folder: Path) -> Iterator[None]:
    """Two processes must not run one study at once. UserError for one that does, and for a folder of no use."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to as the folder of the records: {error.strerror}",
                        "give another with --out; `stillmark show` reads what one has") from error  # fmt: skip
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder}: another process is running this study", hint="wait for it or stop it"
            ) from error
        yield


LINE_SECONDS = 60.0  # between lines that say how far a job is


class Bar:
    """Progress over all jobs, weighted by the time that each is expected to take; a line for each training.

    Where no bar can be drawn (a file, a pipe), a line says that a job begins or is done, and once a minute how far
    one is.
    """

    def __init__(self, progress: Progress, todo: list[Job], store: Store, is_quiet: bool) -> None:
        self.progress, self.store, self.is_quiet = progress, store, is_quiet
        self.began = self.last_line = time.monotonic()
        self.trainings = {job.key for job in todo if job.stage == "train"}
        self.weights = {job.key: expected_effort(job) for job in todo}
        self.labels = {job.key: f"{job.stage} {job.arm} seed {job.seed}" for job in todo}
        self.done: dict[str, float] = {}  # of each job that was begun
        self.task = progress.add_task(
            "starting", total=sum(self.weights.values()), jobs=f"0/{len(todo)} jobs"
        )

    def update(self, key: str, fraction: float) -> None:
        """How much of a job is done: at 0 it begins. What comes late changes nothing."""
        if fraction <= self.done.get(key, -1.0):
            return
        self.done[key] = fraction
        completed = sum(self.weights[k] * f for k, f in self.done.items())
        jobs = f"{sum(f >= 1 for f in self.done.values())}/{len(self.weights)} jobs"
        self.progress.update(self.task, completed=completed, description=self.labels[key], jobs=jobs)
        if self.is_quiet:
            return
        now = time.monotonic()
        if self.progress.disable and (fraction <= 0 or fraction >= 1 or now - self.last_line >= LINE_SECONDS):
            self.last_line = now
            state = "begins" if fraction <= 0 else "is done" if fraction >= 1 else f"{fraction:.0%}"
            self.print(f"{timedelta(seconds=int(now - self.began))} {jobs}: {self.labels[key]} {state}")
        if fraction >= 1 and key in self.trainings:
            self.print(training_line(self.labels[key], self.store, key))

    def print(self, line: str | None) -> None:
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


EFFORT_PER_FLOP = {
    "adopt": 1.0,
    "train": 1.0,
    "capture": 1.0,
    "generate": 6.0,
    "evaluate": 8.0,
    "benchmark": 2.0,
    "profile": 0.0,  # its time is not one of FLOPs
}  # decoding is slower a FLOP; for the bar alone


def expected_effort(job: Job) -> float:
    return job.predicted_flops * EFFORT_PER_FLOP[job.stage]


@contextmanager
def progress_bar(todo: list[Job], store: Store, quiet: bool) -> Iterator[Bar]:
    columns = (
        TextColumn("{task.fields[jobs]}"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}"),
    )  # fmt: skip
    console, is_quiet = Console(stderr=True), quiet or not todo
    with Progress(
        *columns, console=console, disable=is_quiet or not console.is_terminal, speed_estimate_period=300
    ) as progress:
        yield Bar(progress, todo, store, is_quiet)


def run_jobs(todo: list[Job], study: Study, folder: Path, workers: int, bar: Bar) -> None:
    """Runs jobs in worker processes, each once its needs are finished."""
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    pool = ProcessPoolExecutor(
        workers,
        mp_context=context,
        initializer=begin_worker,
        initargs=(os.getpid(), study, folder, messages, min(workers, len(todo))),
    )
    try:
        schedule(todo, pool, workers, lambda: drain(messages, bar), bar)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died (out of memory, or killed)",
            hint=f"{KEPT}: {GOES_ON}" + (", with --workers 1 to use less memory" if workers > 1 else ""),
        ) from error
    except BaseException:
        end_workers(pool)
        raise
    pool.shutdown()


def schedule(
    todo: list[Job], pool: ProcessPoolExecutor, workers: int, look_for_messages: Callable[[], None], bar: Bar
) -> None:
    """Hands out jobs whose needs are finished, evaluations last: others wait for the other stages.

    What is measured by the clock must have the machine for itself: profiles come when all else is done, one by one.
    """
    waiting = {job.key: job for job in todo}
    running: dict[Future[None], Job] = {}
    while waiting or running:
        unfinished = waiting.keys() | {job.key for job in running.values()}
        ready = [job for job in waiting.values() if unfinished.isdisjoint(job.needs)]
        for job in chosen(ready, list(running.values()), unfinished_stages(waiting, running), workers):
            running[pool.submit(work, job.key)] = waiting.pop(job.key)
            bar.update(job.key, 0.0)
        finished, _ = wait(running, timeout=0.3, return_when=FIRST_COMPLETED)
        look_for_messages()
        for future in finished:
            job = running.pop(future)
            future.result()
            bar.update(job.key, 1.0)


def unfinished_stages(waiting: dict[str, Job], running: dict[Future[None], Job]) -> set[str]:
    return {job.stage for job in [*waiting.values(), *running.values()]}


def chosen(ready: list[Job], running: list[Job], unfinished: set[str], workers: int) -> list[Job]:
    """The jobs to begin now; a profile only when nothing but profiles is left, and none is running."""
    if unfinished == {"profile"}:
        return [] if running else ready[:1]
    others = [job for job in ready if job.stage != "profile"]
    return sorted(others, key=lambda job: job.stage in ("evaluate", "benchmark"))[: workers - len(running)]


def end_workers(pool: ProcessPoolExecutor) -> None:
    """Ends workers in the middle of their jobs (what they have recorded is whole), without waiting for them."""
    for process in list((pool._processes or {}).values()):  # `terminate_workers` is there from Python 3.14 on
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def drain(messages: Any, bar: Bar) -> None:
    while True:
        try:
            bar.update(*messages.get_nowait())
        except Empty:
            return


# ---- in a worker process

_worker: dict[str, Any] = {}


def begin_worker(parent: int, study: Study, folder: Path, messages: Any, jobs_at_once: int) -> None:
    """Loads the study once a process, leaves Ctrl-C to the parent, and ends when the parent is gone."""
    draw_no_bars()
    start_process()
    from tqdm import tqdm  # type: ignore[import-untyped]  # huggingface_hub has it

    from stillmark.distill.processes import end_with

    # Its own lock is one between processes, which a worker that is ended in the middle leaves behind
    tqdm.set_lock(threading.RLock())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    share_machine(jobs_at_once)
    end_with(parent)
    _worker.update(plan=Plan(study), store=Store.create(folder / "records.sqlite"), messages=messages)


def work(key: str) -> None:
    from stillmark.stages import do_job

    plan, store, messages = _worker["plan"], _worker["store"], _worker["messages"]
    try:
        do_job(plan.jobs[key], plan, store, lambda fraction: messages.put((key, min(fraction, 0.999))))
    except Exception as error:
        if (told := that_travels(error)) is error:
            raise
        raise told from error


def that_travels(error: Exception) -> Exception:
    """The error, or its words where it does not survive the way to the parent, which would break the pool there."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
