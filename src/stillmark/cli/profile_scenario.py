"""`stillmark profile --scenario`: MLPerf's scenarios under MLCommons LoadGen, for each arm."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from stillmark.cli.profile_request import ProfileRequest, arms_of, workloads_of
from stillmark.errors import UserError
from stillmark.profiling.metrics import values_of
from stillmark.profiling.quantiles import median
from stillmark.profiling.remote import DoesNotFitError, EngineFailedError, RemoteEngine
from stillmark.profiling.scenarios import OFFICIAL_SECONDS, ScenarioResult, ScenarioRules, run_scenario
from stillmark.profiling.session import Arm
from stillmark.profiling.workload import Workload
from stillmark.provenance import provenance

CALIBRATION_RUNS = 3
SERVER_SHARE = 0.7  # of the rate of one stream, where no rate is asked for
SHOWN = ("Samples per second", "Completed samples per second", "90.0th percentile latency (ns)",
         "99.00 percentile latency (ns)", "Scheduled samples per second")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScenarioRow:
    """One arm on one workload; `result` is None where the arm ended."""

    arm: str
    workload: str
    queries_per_second_expected: float | None
    result: ScenarioResult | None
    failure: str | None = None


def run_scenarios(request: ProfileRequest, progress: Callable[[str], None]) -> list[ScenarioRow]:
    """Every arm on every workload, one after another."""
    assert request.scenario is not None
    workloads = workloads_of(request)
    rows = []
    for arm in arms_of(request, workloads, []):
        for workload in workloads:
            progress(f"{request.scenario}: {arm.label}, {workload.label}, {request.seconds:g} s or more")
            rows.append(one_scenario(request, arm, workload))
    return rows


def one_scenario(request: ProfileRequest, arm: Arm, workload: Workload) -> ScenarioRow:
    """A process of its own for each; an arm that ends is a row with the reason."""
    assert request.scenario is not None
    try:
        engine = RemoteEngine(arm.spec, arm.constraints)
    except (DoesNotFitError, EngineFailedError) as error:
        return ScenarioRow(arm=arm.label, workload=workload.label, queries_per_second_expected=None,
                           result=None, failure=str(error))  # fmt: skip
    try:
        expected = expected_rate(engine, request.scenario, workload)
        rules = ScenarioRules(
            min_seconds=request.seconds,
            target_queries_per_second=(request.rate or SERVER_SHARE * expected)
            if request.scenario == "server"
            else expected,
            latency_bound_seconds=request.latency_bound,
        )
        result = run_scenario(engine, request.scenario, workload, rules)
    except (DoesNotFitError, EngineFailedError) as error:
        return ScenarioRow(arm=arm.label, workload=workload.label, queries_per_second_expected=None,
                           result=None, failure=str(error))  # fmt: skip
    finally:
        engine.close()
    return ScenarioRow(arm=arm.label, workload=workload.label, result=result,
                       queries_per_second_expected=rules.target_queries_per_second)  # fmt: skip


def expected_rate(engine: RemoteEngine, scenario: str, workload: Workload) -> float:
    """Queries a second of a few runs: LoadGen plans by it. Also the warm-up."""
    batches = [engine.run(workload, -1 - number) for number in range(CALIBRATION_RUNS)]
    errors = [line.error for batch in batches for line in batch.timelines if line.error]
    if errors:
        raise UserError(f"the engine refuses this workload: {errors[0]}")
    seconds = median([batch.wall_seconds for batch in batches[1:]])
    assert seconds
    return (workload.batch if scenario == "offline" else 1) / seconds


def scenarios_as_dict(rows: list[ScenarioRow]) -> dict[str, Any]:
    """For JSON."""
    return {
        "provenance": provenance(),
        "rows": [
            {
                "arm": row.arm,
                "workload": row.workload,
                "queries_per_second_expected": row.queries_per_second_expected,
                "failure": row.failure,
                "result": row.result.as_dict() if row.result else None,
            }
            for row in rows
        ],
    }


def print_scenarios(rows: list[ScenarioRow]) -> None:
    """LoadGen's own verdict and words; our TTFT and TPOT of the same queries beside them."""
    console = Console(highlight=False)
    for row in rows:
        if row.result is None:
            console.print(f"[bold red]no result[/] {row.arm}, {row.workload}: {row.failure}", soft_wrap=True)
            continue
        result = row.result
        verdict = "VALID" if result.is_valid else "INVALID"
        style = "green" if result.is_valid else "bold red"
        title = f"{result.scenario}, {row.arm}, {row.workload}: [{style}]{verdict}[/] by MLCommons LoadGen"
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_row(
            "kind",
            result.kind
            if result.kind == "official"
            else f"smoke: under {OFFICIAL_SECONDS} s, not for comparing",
        )
        for name in SHOWN:
            if name in result.summary:
                table.add_row(name, result.summary[name])
        for name, values in values_of(result.batches).items():
            if name in ("ttft_seconds", "tpot_seconds"):
                table.add_row(f"{name}, median of {len(values)}", f"{median(values):.4g}")
        console.print(table)
        for error in result.errors[:3]:
            console.print(f"[red]error[/] {error}", soft_wrap=True)
