"""MLCommons LoadGen drives an engine with known times and gives its own verdict."""

import pytest
from tests.profiling.scripted import ScriptedEngine

from stillmark.errors import UserError
from stillmark.profiling.engines import load_engine
from stillmark.profiling.scenarios import ScenarioRules, run_scenario
from stillmark.profiling.workload import Batch, EngineSpec, Workload

WORKLOAD = Workload(prompt_tokens=4, new_tokens=3)
SMOKE = ScenarioRules(min_seconds=0.3, min_queries=64, target_queries_per_second=200)


def engine(times: str = "prefill=0.002,token=0.001"):
    return load_engine(EngineSpec(engine="fake", model=times), None)


@pytest.fixture(autouse=True)
def loadgen():
    return pytest.importorskip("mlperf_loadgen", reason="takes mlcommons-loadgen")


def test_single_stream_is_valid_and_no_faster_than_the_engine():
    result = run_scenario(engine(), "single-stream", WORKLOAD, SMOKE)
    assert result.is_valid, result.summary
    assert result.kind == "smoke"
    assert len(result.batches) >= 64
    latency = next(float(v) for k, v in result.summary.items() if "90.0th percentile latency" in k or
                   k.startswith("90.00 percentile latency"))  # fmt: skip
    assert latency >= 4e6  # 2 ms and two tokens of 1 ms, in ns


def test_offline_runs_in_batches():
    rules = ScenarioRules(min_seconds=0.3, min_queries=64, target_queries_per_second=5000)
    result = run_scenario(engine(), "offline", Workload(prompt_tokens=4, new_tokens=3, batch=8), rules)
    assert result.is_valid, result.summary
    assert max(len(batch.timelines) for batch in result.batches) == 8
    assert "Samples per second" in result.summary


def test_a_server_that_is_too_slow_for_its_bound_is_invalid():
    rules = ScenarioRules(
        min_seconds=0.2, min_queries=64, target_queries_per_second=400, latency_bound_seconds=0.002
    )
    result = run_scenario(engine("prefill=0.01,token=0.001"), "server", WORKLOAD, rules)
    assert not result.is_valid
    assert result.summary["Result is"] == "INVALID"


def test_too_few_queries_are_invalid_and_errors_spoil_a_verdict():
    class Failing(ScriptedEngine):
        def run(self, workload: Workload, variant: int) -> Batch:
            raise RuntimeError("gone")

    result = run_scenario(Failing([0.1]), "single-stream", WORKLOAD, SMOKE)
    assert not result.is_valid
    assert "gone" in result.errors[0]


def test_an_unknown_scenario_is_told():
    with pytest.raises(UserError, match="did you mean"):
        run_scenario(engine(), "ofline", WORKLOAD)
