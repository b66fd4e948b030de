"""Engines in processes of their own, limits that bite, and a server timed from outside."""

import os
import sys
import time
from types import SimpleNamespace

import pytest
from tests.profiling.scripted import slow_server
from tests.text_models import write_given_model

from stillmark.errors import UserError
from stillmark.profiling.constraints import Constraints, bytes_of, check_constraints
from stillmark.profiling.engines import checked_engine, endpoint, load_engine, prepare
from stillmark.profiling.engines.endpoint import timeline_of
from stillmark.profiling.engines.llamacpp import timeline_of as llama_timeline_of
from stillmark.profiling.metrics import gaps_seconds, tpot_seconds, ttft_seconds
from stillmark.profiling.remote import DoesNotFitError, EngineFailedError, RemoteEngine
from stillmark.profiling.workload import EngineSpec, Workload

CLOCK_ROUNDING = 1e-9  # seconds: a difference of two readings and the sum again
WORKLOAD = Workload(prompt_tokens=4, new_tokens=5)
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="limits need Linux")


def fake(model: str = "") -> EngineSpec:
    return EngineSpec(engine="fake", model=model)


def test_known_times_come_back():
    engine = load_engine(fake("prefill=0.02,token=0.005"), None)
    line = engine.run(WORKLOAD, 0).timelines[0]
    assert line.new_tokens == 5
    assert ttft_seconds(line) >= 0.02
    assert line.token_seconds[-1] >= 0.02 + 4 * 0.005
    assert tpot_seconds(line) == pytest.approx((line.token_seconds[-1] - line.token_seconds[0]) / 4)


@needs_proc
def test_an_engine_in_a_process_of_its_own_with_a_core_of_its_own():
    core = min(os.sched_getaffinity(0))
    engine = RemoteEngine(fake("prefill=0.01,token=0.001,memory=50e6"), Constraints(cores=(core,)))
    try:
        assert os.sched_getaffinity(engine._process.pid) == {core}
        batch = engine.run(WORKLOAD, 0)
        assert ttft_seconds(batch.timelines[0]) >= 0.01
        assert batch.cpu_seconds is not None
        assert engine.memory.added_bytes > 45e6  # what was touched
        assert engine.answer("four", 9).new_tokens == 4
    finally:
        engine.close()


@needs_proc
def test_a_memory_cap_below_the_need_does_not_fit_and_the_harness_lives():
    with pytest.raises(DoesNotFitError, match="within 100 MiB"):
        RemoteEngine(fake("memory=300e6"), Constraints(memory_bytes=100 << 20))
    engine = RemoteEngine(fake("memory=30e6"), Constraints(memory_bytes=100 << 20))
    engine.run(WORKLOAD, 0)
    engine.close()


def test_a_killed_engine_is_a_failure_that_is_told():
    engine = RemoteEngine(fake())
    engine._process.kill()
    engine._process.wait()
    with pytest.raises(EngineFailedError, match="SIGKILL"):
        engine.run(WORKLOAD, 0)
    engine.close()


def test_a_users_mistake_comes_back_as_one():
    with pytest.raises(UserError, match="not a URL"):
        RemoteEngine(EngineSpec(engine="endpoint", model="no-url"))


@pytest.mark.parametrize(
    ("constraints", "threads", "said"),
    [
        (Constraints(cores=(9999,)), None, "no core"),
        (Constraints(), 10_000, "threads are not possible"),
        (Constraints(cores=(0,)), 2, "would wait for each other"),
    ],
)
@needs_proc
def test_limits_that_cannot_be_kept_are_refused(constraints, threads, said):
    with pytest.raises(UserError, match=said):
        check_constraints(constraints, threads=threads)


def test_device_memory_cannot_be_capped():
    with pytest.raises(UserError, match="cannot be capped"):
        check_constraints(Constraints(memory_bytes=1 << 30), threads=None, device="cuda")


def test_amounts_of_memory():
    assert bytes_of("512M") == 512 * 2**20
    assert bytes_of("1.5GiB") == 1.5 * 2**30
    assert bytes_of("2GB") == 2e9
    assert bytes_of("1000") == 1000
    with pytest.raises(UserError):
        bytes_of("much")


def test_the_engine_is_found_from_the_model():
    assert checked_engine(None, "a/b.gguf") == "llamacpp"
    assert checked_engine(None, "http://127.0.0.1:1/v1") == "endpoint"
    assert checked_engine(None, "some/dir") == "transformers"
    with pytest.raises(UserError, match="did you mean"):
        checked_engine("lamacpp", "x")


def test_a_server_slowed_by_50_ms_shows_50_ms(monkeypatch):
    """By cause and effect, whatever else the machine does: no token is there before the server sent it, nor after the
    call came back, and the server slept its 50 ms between the request and the first token."""
    read = []
    monkeypatch.setattr(
        endpoint, "time", SimpleNamespace(perf_counter=lambda: read.append(now()) or read[-1])
    )
    now = time.perf_counter
    with slow_server(0.0, gap_seconds=0.002) as fast, slow_server(0.05, gap_seconds=0.002) as slow:
        for (url, sent), delay in ((fast, 0.0), (slow, 0.05)):
            engine = load_engine(EngineSpec(engine="endpoint", model=url), None)
            for variant in range(4):
                read.clear()
                line = engine.run(WORKLOAD, variant).timelines[0]
                scheduled, ended = read[0], now()
                assert line.error is None
                assert (line.prompt_tokens, line.new_tokens) == (4, 5)
                assert len(gaps_seconds(line)) == 4
                arrived = [scheduled + at for at in line.token_seconds]
                pairs = zip(arrived, sent[-1], strict=True)
                assert all(at > sent_at - CLOCK_ROUNDING for at, sent_at in pairs)
                assert arrived[-1] <= ended + CLOCK_ROUNDING
                assert ttft_seconds(line) >= delay
            engine.close()


def test_a_server_that_is_not_there_is_an_error_of_the_request():
    engine = load_engine(EngineSpec(engine="endpoint", model="http://127.0.0.1:9/v1"), None)
    line = engine.run(WORKLOAD, 0).timelines[0]
    engine.close()
    assert "refused" in line.error
    assert line.new_tokens == 0


def test_reasoning_comes_before_the_answer():
    chunks = [
        (0.1, {"choices": [{"delta": {"reasoning_content": "hm"}}]}),
        (0.2, {"choices": [{"delta": {"content": "4"}}]}),
        (0.3, {"choices": [], "usage": {"completion_tokens": 3, "prompt_tokens": 7}}),
    ]
    line = timeline_of(chunks, 0.4, None)
    assert line.token_seconds == (0.1, 0.2, 0.2)  # the third token came with the last chunk
    assert line.first_answer_token == 1
    assert timeline_of(chunks[:1], 0.4, None).first_answer_token is None


def test_llama_cpp_may_hold_tokens_back_until_a_character_is_whole():
    def chunk(text, predicted):
        timings = {
            "prompt_n": 9,
            "cache_n": 0,
            "prompt_ms": 20.0,
            "predicted_n": predicted,
            "predicted_ms": 30.0,
        }
        return {"choices": [{"text": text}], "timings": timings}

    line = llama_timeline_of([(0.02, chunk("a", 1)), (0.05, chunk("é", 3)), (0.06, chunk("", 3))], 0.06)
    assert line.token_seconds == (0.02, 0.05, 0.05)
    assert (line.prompt_tokens, line.engine_prefill_seconds, line.engine_decode_seconds) == (9, 0.02, 0.03)
    assert line.text == "aé"
    assert llama_timeline_of([], 0.1).error


def test_torchaos_int8_is_the_same_model_in_a_quarter_of_the_bytes(tmp_path):
    pytest.importorskip("torchao", reason="takes torchao")
    spec = {"engine": "transformers", "model": str(write_given_model(tmp_path / "given", hidden_size=64))}
    plain, rounded = (load_engine(made, prepare(made)) for made in (
        EngineSpec(**spec, options={}), EngineSpec(**spec, options={"quantise": "torchao-int8"})
    ))  # fmt: skip
    assert rounded.facts.weight_format == "torchao-int8"
    assert rounded.facts.file_bytes is None
    # by hand: 3 layers of 4 attention matrices (two of half the rows) and 3 of the feed-forward, and a head
    weights = 3 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128) + 300 * 64
    rows = 3 * (2 * 64 + 2 * 32 + 2 * 128 + 64) + 300
    norms = 4 * 64 * 7
    assert plain.facts.weight_bytes_per_token == 4 * weights + norms
    assert (
        rounded.facts.weight_bytes_per_token == weights + 5 * rows + norms
    )  # a scale and a zero point a row
    line = rounded.run(WORKLOAD, 0).timelines[0]
    assert line.new_tokens == 5


def test_a_format_that_torchao_has_not_is_refused(tmp_path):
    spec = EngineSpec(engine="transformers", model="x", options={"quantise": "int3"})
    with pytest.raises(UserError, match="cannot quantise to `int3`"):
        prepare(spec)
