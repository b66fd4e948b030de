"""`--tasks lm_eval:NAME`: lm-evaluation-harness's own tasks, filters and metrics, on our engine.

Its results are kept whole as JSON beside the records, under the hash of everything they depend on, and are not run
again. Their samples become records too (lm_eval_records.py), where the task's metric is right or wrong.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from stillmark.backends.work import Work
from stillmark.errors import UserError
from stillmark.evaluate.lm_eval_records import NoRightOrWrongError, TaskLog, record_lm_eval
from stillmark.evaluate.model import LoadedModel, file_hash, sha256_text
from stillmark.provenance import package_version
from stillmark.records import Store, canonical


@dataclass(frozen=True, kw_only=True)
class LmEvalResult:
    """One metric of one of lm-eval's tasks. `stderr` is its own; None where it gives none."""

    label: str
    task: str
    metric: str  # with its filter, as lm-eval names it: `exact_match,strict-match`
    value: float
    stderr: float | None
    num_samples: int | None
    path: Path  # of the whole result


@dataclass(frozen=True, kw_only=True)
class LmEvalRun:
    """lm-eval's own metrics, the jobs that hold the samples as records, and what has none and why."""

    results: list[LmEvalResult]
    job_keys: list[str]
    notes: list[str]


def run_lm_eval_tasks(
    store: Store, model: LoadedModel, names: Sequence[str], out: Path, *,
    include: Path | None, limit: int | None, num_fewshot: int | None,
) -> LmEvalRun:  # fmt: skip
    """Results of these of lm-eval's tasks; `include` is a folder with task files of one's own."""
    if model.identity.get("engine") != "transformers":
        raise UserError("lm-eval's tasks run on the engine transformers alone")
    run = LmEvalRun(results=[], job_keys=[], notes=[])
    for name in names:
        inputs = {
            "model": dict(model.identity),
            "task_files": None if include is None else files_hash(include),
            "task": name,
            "limit": limit,
            "num_fewshot": num_fewshot,
            "lm_eval": package_version("lm_eval"),
        }
        key = hashlib.sha256(canonical(inputs).encode()).hexdigest()[:20]
        path = out / "lm_eval" / f"{key}.json"
        if not path.is_file():
            # Not through our cache: lm-eval has its own requests
            engine: Any = getattr(model.backend, "backend", model.backend)
            started, before = time.perf_counter(), engine.work
            result = evaluated(engine, name, include, limit, num_fewshot)
            result |= {"seconds": time.perf_counter() - started, "work": asdict(engine.work - before)}
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_suffix(".half")
            half.write_text(json.dumps({"inputs": inputs, "label": model.label, **result}, default=str))
            half.replace(path)
        result = json.loads(path.read_text())
        run.results.extend(metrics_of(result, path))
        record_samples(store, model, inputs, result, run)
    return run


def record_samples(
    store: Store, model: LoadedModel, inputs: dict[str, Any], result: dict[str, Any], run: LmEvalRun
) -> None:
    """The samples of a result (several tasks, where it is of a group) as records, each task's under its own job."""
    is_alone = len(result["samples"]) == 1
    for task, samples in result["samples"].items():
        log = TaskLog(
            name=task,
            config=result["configs"][task],
            samples=samples,
            num_items_in_task=int(result["n-samples"][task]["original"]),
            seconds=float(result["seconds"]) if is_alone else None,
            work=Work(**result["work"]) if is_alone and "work" in result else None,
        )
        try:
            run.job_keys.append(record_lm_eval(store, model, inputs, log))
        except NoRightOrWrongError as reason:
            run.notes.append(
                f"lm_eval:{task} has no outcomes, intervals or comparisons here: {reason}. Its metrics are lm-eval's"
            )


def files_hash(folder: Path) -> str:
    """Of the task files and data in a folder: a changed task is another task, whatever its name."""
    kinds = (".yaml", ".yml", ".py", ".json", ".jsonl", ".csv", ".parquet")
    files = sorted(path for path in folder.rglob("*") if path.suffix in kinds and path.is_file())
    return sha256_text(canonical({str(path.relative_to(folder)): file_hash(path) for path in files}))


def evaluated(
    engine: Any, name: str, include: Path | None, limit: int | None, num_fewshot: int | None
) -> dict[str, Any]:
    bridge = import_module("stillmark.backends.lm_eval_bridge")
    tasks = import_module("lm_eval.tasks")
    # Where only one's own tasks are asked for, the index of 14,000 others (12 CPU seconds) is not made
    own = None if include is None else str(include)
    manager = tasks.TaskManager(include_path=own, include_defaults=own is None)
    if own is not None and name not in manager.all_tasks:
        manager = tasks.TaskManager(include_path=own)
    try:
        result: dict[str, Any] = bridge.run_lm_eval(
            engine,
            [name],
            task_manager=manager,
            limit=limit,
            num_fewshot=num_fewshot,
        )
    except KeyError as error:
        raise UserError(f"lm-eval has no task {error}", hint="`lm_eval ls tasks` lists them") from error
    return {part: result[part] for part in ("results", "n-samples", "samples", "versions", "configs")}


def metrics_of(result: dict[str, Any], path: Path) -> list[LmEvalResult]:
    found = []
    for task, metrics in result["results"].items():
        for name, value in metrics.items():
            metric, _, kind = name.partition(",")
            if not isinstance(value, int | float) or metric.endswith("_stderr") or not kind:
                continue
            stderr = metrics.get(f"{metric}_stderr,{kind}")
            counts = result["n-samples"].get(task) or {}
            found.append(
                LmEvalResult(
                    label=result["label"],
                    task=task,
                    metric=name,
                    value=float(value),
                    stderr=float(stderr) if isinstance(stderr, int | float) else None,
                    num_samples=counts.get("effective"),
                    path=path,
                )
            )
    return found
