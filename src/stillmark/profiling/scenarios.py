"""MLPerf Inference's scenarios, driven and judged by MLCommons' own LoadGen (extra `loadgen`).

    single stream   one query after another                          90th percentile of latency
    offline         all queries at once, in batches                  samples a second
    server          queries at random (Poisson) times at a set rate  99th percentile of latency within a bound

LoadGen decides when queries are sent, measures each from its schedule, and gives the verdict: its one line
`Result is`, not the lines above it that may say otherwise (mlcommons/inference#1788). A headline takes its
600 seconds; anything shorter is labelled `smoke` and is not for comparing. A sample is the workload's prompt
with other tokens each time, answered in full; latency is that of the whole answer, as the engine runs in a
process of its own and hands over finished answers (LoadGen's token latencies are not used).
"""

import importlib
import queue
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stillmark.errors import UserError, did_you_mean
from stillmark.profiling.workload import Batch, ProfileEngine, Workload

Scenario = Literal["single-stream", "offline", "server"]
SCENARIOS = {"single-stream": "SingleStream", "offline": "Offline", "server": "Server"}
OFFICIAL_SECONDS = 600
NUM_SAMPLES = 1024  # prompts in the library; LoadGen draws from them


@dataclass(frozen=True, kw_only=True)
class ScenarioRules:
    """What LoadGen is told. Seeds are fixed, so a run can be repeated."""

    min_seconds: float = OFFICIAL_SECONDS
    min_queries: int = 64  # the least that bounds a 90th percentile by LoadGen's early stopping
    target_queries_per_second: float = 1.0
    latency_bound_seconds: float = 10.0
    """Server: of the 99th percentile."""
    seed: int = 20_240_229


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """LoadGen's verdict and figures, in its own words, and our timelines of the same queries."""

    scenario: str
    is_valid: bool
    kind: str
    """`official` (600 s or more) or `smoke`."""
    summary: dict[str, str]
    batches: tuple[Batch, ...]
    errors: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_scenario(
    engine: ProfileEngine,
    scenario: str,
    workload: Workload,
    rules: ScenarioRules | None = None,
    *,
    log_folder: Path | None = None,
) -> ScenarioResult:
    """One scenario on a loaded engine. `workload.batch` is how many waiting queries run together."""
    rules = rules or ScenarioRules()
    if scenario not in SCENARIOS:
        raise UserError(
            f"unknown scenario `{scenario}` (scenarios: {', '.join(SCENARIOS)})",
            hint=did_you_mean(scenario, SCENARIOS),
        )
    try:
        loadgen: Any = importlib.import_module("mlperf_loadgen")
    except ImportError as error:
        raise UserError(
            "MLPerf scenarios take mlcommons-loadgen", hint="pip install 'stillmark[loadgen]'"
        ) from error
    with tempfile.TemporaryDirectory() as scratch:
        folder = log_folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        served = Served(loadgen, engine, workload)
        under_test = loadgen.ConstructSUT(served.issue, lambda: None)
        library = loadgen.ConstructQSL(NUM_SAMPLES, NUM_SAMPLES, lambda indices: None, lambda indices: None)
        try:
            settings = settings_of(loadgen, scenario, rules)
            loadgen.StartTestWithLogSettings(under_test, library, settings, log_settings(loadgen, folder))
        finally:
            served.close()
            loadgen.DestroyQSL(library)
            loadgen.DestroySUT(under_test)
        summary = summary_of((folder / "mlperf_log_summary.txt").read_text(encoding="utf-8"))
    return ScenarioResult(
        scenario=scenario,
        is_valid=summary.get("Result is") == "VALID" and not served.errors,
        kind="official" if rules.min_seconds >= OFFICIAL_SECONDS else "smoke",
        summary=summary,
        batches=tuple(served.batches),
        errors=tuple(served.errors),
    )


class Served:
    """LoadGen's system under test: a thread that answers what is waiting, up to a batch at once."""

    def __init__(self, loadgen: Any, engine: ProfileEngine, workload: Workload) -> None:
        self._loadgen = loadgen
        self._engine = engine
        self._workload = workload
        self._waiting: queue.Queue[Any] = queue.Queue()
        self.batches: list[Batch] = []
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._serve, name="scenario", daemon=True)
        self._thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        for sample in samples:
            self._waiting.put((sample.id, sample.index))

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _serve(self) -> None:
        is_open = True
        while is_open:
            taken = [self._waiting.get()]
            while len(taken) < self._workload.batch and taken[-1] is not None:
                try:
                    taken.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            is_open = taken[-1] is not None
            self._answer([entry for entry in taken if entry is not None])

    def _answer(self, taken: list[tuple[int, int]]) -> None:
        """Every query is completed, also a failed one: LoadGen waits for all, and the errors spoil the verdict."""
        if not taken:
            return
        tokens = [0] * len(taken)
        try:
            batch = self._engine.run(replace(self._workload, batch=len(taken)), taken[0][1])
            self.batches.append(batch)
            tokens = [line.new_tokens for line in batch.timelines]
            self.errors += [line.error for line in batch.timelines if line.error]
        except Exception as error:  # LoadGen would wait for ever
            self.errors.append(f"{type(error).__name__}: {error}")
        self._loadgen.QuerySamplesComplete(
            [
                self._loadgen.QuerySampleResponse(query, 0, 0, number)
                for (query, _), number in zip(taken, tokens, strict=True)
            ]
        )


def settings_of(loadgen: Any, scenario: str, rules: ScenarioRules) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, SCENARIOS[scenario])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(rules.min_seconds * 1000)
    settings.min_query_count = rules.min_queries
    settings.single_stream_expected_latency_ns = round(1e9 / rules.target_queries_per_second)
    settings.offline_expected_qps = rules.target_queries_per_second
    settings.server_target_qps = rules.target_queries_per_second
    settings.server_target_latency_ns = round(1e9 * rules.latency_bound_seconds)
    settings.server_target_latency_percentile = 0.99
    for offset, name in enumerate(("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")):
        setattr(settings, name, rules.seed + offset)
    return settings


def log_settings(loadgen: Any, folder: Path) -> Any:
    settings = loadgen.LogSettings()
    settings.log_output.outdir = str(folder)
    settings.log_output.copy_summary_to_stdout = False
    settings.enable_trace = False
    return settings


def summary_of(text: str) -> dict[str, str]:
    """The `name : value` lines of mlperf_log_summary.txt."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip():
            found[name.strip()] = value.strip()
    return found
