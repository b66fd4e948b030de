"""One call of `stillmark eval`: from what was asked on the command line to results."""

import fcntl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stillmark.analysis.paired import PairedComparison
from stillmark.backends.api_journal import FileJournal, Journal
from stillmark.errors import UserError
from stillmark.evaluate.cache import CachedBackend
from stillmark.evaluate.compare import (
    StoredSide,
    answers_of,
    compare_answers,
    latest_answers,
    name_of,
    stored_side,
)
from stillmark.evaluate.engines import EndpointSettings, ModelRequest, open_model
from stillmark.evaluate.model import LoadedModel, short_label
from stillmark.evaluate.rescore import AtBudget, accuracy_at_budgets
from stillmark.evaluate.run_benchmark import ChatUse, EvalSettings, Job, make_job, run_job
from stillmark.evaluate.run_lm_eval import LmEvalResult, LmEvalRun, run_lm_eval_tasks
from stillmark.evaluate.run_text import TextResult, run_text, text_job_key, text_results
from stillmark.evaluate.summary import Result, evaluation_jobs, result_of
from stillmark.evaluate.tables import (
    print_comparison,
    print_lm_eval,
    print_results,
    print_texts,
    results_as_json,
)
from stillmark.records import Store
from stillmark.tasks.benchmark import BenchmarkData, Shots
from stillmark.tasks.registry import find_benchmark
from stillmark.tasks.text_score import TextTask, load_text
from stillmark.tasks.thinking import DEFAULT_TAGS, ThinkingTags

TEXT, LM_EVAL = "text:", "lm_eval:"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for, as it stands on the command line."""

    model: str
    tasks: Sequence[str]
    data: Path | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    shots: str | None = None
    out: Path = Path("runs/eval")
    engine: str = "transformers"
    device: str = "cpu"
    dtype: str = "float32"
    endpoint: EndpointSettings = field(default_factory=EndpointSettings)
    threads: int = 1
    revision: str | None = None
    chat: str = "auto"
    think_tags: str = "<think>,</think>"
    max_new_tokens: int | None = None
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    budgets: bool = False
    cache: Path | None = None
    against: str | None = None


@dataclass(frozen=True, kw_only=True)
class Session:
    """The results of this call's jobs, and the comparison if one was asked for."""

    results: Sequence[Result]
    curves: Mapping[str, Sequence[AtBudget]]
    texts: Sequence[TextResult] = ()
    lm_eval: Sequence[LmEvalResult] = ()
    notes: Sequence[str] = ()
    names: tuple[str, str] | None = None
    compared: Mapping[str, PairedComparison | None] | None = None
    cautions: Sequence[str] = ()


def evaluate_models(request: Request) -> Session:
    """Runs what is not yet recorded and gives the results. Mistakes are found before a model is loaded."""
    settings = settings_of(request)
    if (
        lm_eval_names_of(request)
        and replace(settings, num_fewshot=None, thinking=DEFAULT_TAGS) != EvalSettings()
    ):
        raise UserError(
            "lm_eval: tasks bring their own prompts, limits and sampling",
            hint="give --num-fewshot and --limit at most beside them, or use our own tasks",
        )
    if not request.tasks:
        raise UserError("no task was named", hint="--tasks gsm8k,arc_easy")
    texts = [load_text(name[len(TEXT) :], request.data) for name in request.tasks if name.startswith(TEXT)]
    lm_eval_names = lm_eval_names_of(request)
    found = [(name, *find_benchmark(name)) for name in request.tasks if not name.startswith((TEXT, LM_EVAL))]
    benchmarks = [(name, BenchmarkData(benchmark, request.data), mode) for name, benchmark, mode in found]
    stored = stored_side(request.against)
    is_stored = stored is not None
    models = [request.model] + ([] if is_stored or request.against is None else [request.against])
    request.out.mkdir(parents=True, exist_ok=True)
    with only_evaluation(request.out), journal_of(request) as journal, ExitStack() as exits:
        store = Store.create(request.out / "records.sqlite")
        job_keys: list[list[str]] = []
        text_keys: list[str] = []
        lm_eval: list[LmEvalRun] = []
        for path in models:
            model = exits.enter_context(opened(request, path, journal))
            jobs = [make_job(model, data, mode, settings, reference=name) for name, data, mode in benchmarks]
            for job in jobs:
                run_with_bar(store, job, request.limit)
            job_keys.append([job.key for job in jobs])
            for text in texts:
                text_keys.append(text_job_key(store, model, text))
                run_text_with_bar(store, text_keys[-1], model, text)
            if lm_eval_names:
                run = run_lm_eval_tasks(
                    store, model, lm_eval_names, request.out,
                    include=request.data, limit=request.limit, num_fewshot=request.num_fewshot,
                )  # fmt: skip
                lm_eval.append(run)
                job_keys[-1] += run.job_keys
            exits.close()
            del model, jobs
        session = replace(
            read_session(request, store, job_keys, stored),
            texts=[text for text in text_results(store) if text.job_key in text_keys],
            lm_eval=[result for run in lm_eval for result in run.results],
            notes=[note for run in lm_eval for note in run.notes],
        )
        store.close()
    return session


def lm_eval_names_of(request: Request) -> list[str]:
    return [name[len(LM_EVAL) :] for name in request.tasks if name.startswith(LM_EVAL)]


def read_session(
    request: Request, store: Store, job_keys: list[list[str]], other: StoredSide | None
) -> Session:
    """What the store now says of these jobs."""
    recorded = {job.key: job for job in evaluation_jobs(store)}
    keys = [key for group in job_keys for key in group]
    results = [result_of(recorded[key], store.samples(key), store.details(key)) for key in keys]
    curves = {key: accuracy_at_budgets(store, recorded[key]) for key in keys} if request.budgets else {}
    if request.against is None or not job_keys[0]:
        return Session(results=results, curves=curves)
    sides = [
        {name_of(recorded[key]): answers_of(store, recorded[key]) for key in group} for group in job_keys
    ]
    first = sides[0]
    if other is None:
        second = sides[1]
    else:
        second_store = Store.open(other.folder)
        second = latest_answers(second_store, label=other.label, mode=other.mode)
        second_store.close()
    compared, cautions = compare_answers(first, second)
    names = (next(iter(first.values())).label, next(iter(second.values())).label)
    return Session(results=results, curves=curves, names=names, compared=compared, cautions=cautions)


@contextmanager
def only_evaluation(folder: Path) -> Iterator[None]:
    """Two processes must not write one folder's records at once: each would ask the same items."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder}: another process is evaluating there", hint="wait, or give another --out"
            ) from error
        yield


def settings_of(request: Request) -> EvalSettings:
    chat, shots = request.chat, request.shots
    if chat not in ("auto", "always", "never"):
        raise UserError(f"--chat `{chat}`", hint="give auto, always or never")
    if shots not in (None, "by_item", "fixed"):
        raise UserError(f"--shots `{shots}`", hint="give by_item or fixed")
    if request.samples > 1 and request.temperature == 0:
        raise UserError(
            f"--samples {request.samples} at temperature 0: all would be the same text",
            hint="give --temperature 0.6 or another above 0",
        )
    return EvalSettings(
        num_fewshot=request.num_fewshot, shot_order=cast("Shots | None", shots),
        max_new_tokens=request.max_new_tokens, temperature=request.temperature, top_p=request.top_p,
        num_samples=request.samples, seed=request.seed, chat=cast("ChatUse", chat),
        thinking=tags_of(request.think_tags),
    )  # fmt: skip


def tags_of(text: str) -> ThinkingTags | None:
    if text == "none":
        return None
    opening, comma, closing = text.partition(",")
    if not (opening and comma and closing):
        raise UserError(f"--think-tags `{text}`", hint="give both marks, `<think>,</think>`, or `none`")
    return ThinkingTags(opening=opening, closing=closing)


@contextmanager
def journal_of(request: Request) -> Iterator[Journal | None]:
    """Of a remote engine: what was paid for, kept beside the records and closed at the end."""
    if request.engine != "openai":
        yield None
        return
    journal = FileJournal(request.out / "api_journal.jsonl")
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def opened(request: Request, path: str, journal: Journal | None) -> Iterator[LoadedModel]:
    model = load_model(request, path, journal)
    try:
        yield model
    finally:
        model.close()


def load_model(request: Request, path: str, journal: Journal | None = None) -> LoadedModel:
    print(f"loading {short_label(path)}", file=sys.stderr)
    model = open_model(
        ModelRequest(
            model=path, engine=request.engine, device=request.device, dtype=request.dtype,
            revision=request.revision, endpoint=request.endpoint, journal=journal, threads=request.threads,
        )
    )  # fmt: skip
    if request.cache is None:
        return model
    return replace(model, backend=CachedBackend(model.backend, model.identity, request.cache))


def run_with_bar(store: Store, job: Job, limit: int | None) -> None:
    with progress() as bar:
        total = len(job.data.chosen(limit))
        task = bar.add_task(f"{job.model.label} {job.data.benchmark.name}", total=total, score="")
        for step in run_job(store, job, limit=limit):
            score = f"{step.num_correct} of {step.num_samples} correct"
            bar.update(task, completed=step.done, score=score)


def run_text_with_bar(store: Store, key: str, model: LoadedModel, text: TextTask) -> None:
    with progress() as bar:
        task = bar.add_task(f"{model.label} {text.name}", total=len(text.pieces), score="")
        for done, _ in run_text(store, key, model, text):
            bar.update(task, completed=done)


@contextmanager
def progress() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[score]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


def print_session(session: Session) -> None:
    if session.results:
        print_results(session.results, session.curves)
    if session.texts:
        print_texts(session.texts)
    if session.lm_eval:
        print_lm_eval(session.lm_eval)
    for note in session.notes:
        print(note)
    if session.compared is not None and session.names is not None:
        print_comparison(session.names, session.compared, session.cautions)


def session_as_json(session: Session) -> dict[str, Any]:
    value: dict[str, Any] = {
        "results": results_as_json(session.results, session.curves),
        "texts": [asdict(text) for text in session.texts],
        "notes": list(session.notes),
        "lm_eval": [{**asdict(result), "path": str(result.path)} for result in session.lm_eval],
    }
    if session.compared is not None and session.names is not None:
        value["comparison"] = {
            "first": session.names[0],
            "second": session.names[1],
            "tasks": {task: result and asdict(result) for task, result in session.compared.items()},
            "beware": list(session.cautions),
        }
    return value
