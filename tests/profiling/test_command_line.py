"""What the command line adds to the library: scenarios, recorded lengths, predictions, variants, caps, resuming."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest
import typer
from tests.evaluate.fakes import FakeBackend, fake_model
from tests.paths import ROOT
from typer.testing import CliRunner

from stillmark.cli.predict import predict_command
from stillmark.cli.profile import profile_command
from stillmark.cli.quantise import quantise_command
from stillmark.compute.hardware import device
from stillmark.errors import UserError
from stillmark.profiling.describe import described
from stillmark.profiling.power_cap import LONG_TERM, gpu_power_capped, power_capped
from stillmark.profiling.recorded import recorded_lengths
from stillmark.profiling.variants import make_variants
from stillmark.records import Store

FAKE = ["--model", "prefill=0.002,token=0.001", "--engine", "fake", "--new-tokens", "8", "--threads", "1"]


def invoke(command, *arguments: str):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_a_scenario_carries_loadgens_verdict():
    pytest.importorskip("mlperf_loadgen", reason="takes mlcommons-loadgen")
    done = invoke(profile_command, *FAKE, "--scenario", "offline", "--seconds", "1", "--batch", "4", "--json")
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout)["rows"]
    assert row["result"]["summary"]["Result is"] == ("VALID" if row["result"]["is_valid"] else "INVALID")
    assert row["result"]["kind"] == "smoke"
    # four answers of 2 + 7 ms in turns: no engine of these times answers faster
    assert float(row["result"]["summary"]["Samples per second"]) <= 4 / 0.009


@pytest.fixture
def evaluation(tmp_path):
    """Three generated replies of 5, 9 and 2 letters and the end token, as `stillmark eval` keeps them."""
    from stillmark.evaluate.run_benchmark import EvalSettings, make_job, run_job
    from stillmark.tasks.benchmark import BenchmarkData
    from stillmark.tasks.registry import find_benchmark

    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"q": q, "a": "1"}) for q in ("one", "two", "three"))
    )
    (tmp_path / "t.yaml").write_text(
        "name: t\nfile: t.jsonl\nquestion: '{q}'\nanswer: '{a}'\nscorer: number\nnum_fewshot: 0\n"
    )
    replies = {"one": "x" * 5, "two": "x" * 9, "three": "xx"}

    def answer(prompt: str) -> str:
        return next(text for word, text in replies.items() if word in prompt)

    store = Store.create(tmp_path / "runs")
    benchmark, mode = find_benchmark(str(tmp_path / "t.yaml"))
    model = fake_model(FakeBackend(answer), "student")
    for _ in run_job(
        store, make_job(model, BenchmarkData(benchmark, None), mode, EvalSettings(), reference="t")
    ):
        pass
    store.close()
    return tmp_path / "runs"


def test_lengths_are_those_of_the_replies(evaluation):
    found = recorded_lengths(str(evaluation))
    assert sorted(new for _, new in found.pairs) == [3, 6, 10]  # letters and the end token
    assert sorted(w.new_tokens for w in found.drawn(99)) == [3, 6, 10]
    assert found.drawn(2) == found.drawn(2)
    with pytest.raises(UserError, match="holds no `teacher`"):
        recorded_lengths(f"{evaluation}#teacher")


def test_answers_at_recorded_lengths_take_as_long_as_the_lengths_say(evaluation):
    done = invoke(profile_command, *FAKE, "--lengths-from", str(evaluation), "--budget", "0.1", "--json")
    assert done.exit_code == 0, done.output
    [lines] = json.loads(done.stdout)["at_lengths"].values()
    assert sorted(len(line["token_seconds"]) for line in lines) == [3, 6, 10]
    for line in lines:
        assert line["end_seconds"] >= 0.002 + 0.001 * (len(line["token_seconds"]) - 1)


@pytest.fixture
def config(tmp_path):
    """SmolLM2-135M's, which has 134,515,008 weights by its model card's files."""
    from tests.profiling.test_metrics import SMOLLM2

    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    return tmp_path


def test_a_prediction_is_labelled_and_by_hand_the_same(config):
    done = invoke(predict_command, "--model", str(config), "--device", "h100-sxm", "--prompt-tokens", "100",
                  "--new-tokens", "2", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout)
    assert (row["method"], row["is_bound"]) == ("estimated", True)
    weights = 134_515_008 * 2
    assert described(str(config)).weight_bytes_per_token == weights
    cache = (
        30 * 2 * 3 * 64 * 2 * 101
    )  # layers, keys and values, heads, size, bytes, positions at the one step
    bandwidth = device("h100-sxm").memory_bandwidth_bytes_per_second
    assert row["decode_tokens_per_second"] == pytest.approx(bandwidth / (weights + cache), rel=0.01)
    table = invoke(predict_command, "--model", str(config), "--device", "raspberry-pi-5").output
    assert "PREDICTED, not measured" in table
    assert "unknown" in table  # no peak FLOP/s is published for it


def test_variants_are_refused_with_the_reason_before_anything_is_written(config, tmp_path):
    with pytest.raises(UserError, match="mslk"):
        make_variants(str(config), tmp_path / "out", ["Q8_0", "torchao-int4"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"config\.json"):
        make_variants(str(tmp_path / "none"), tmp_path / "out", ["onnx-int4"])
    assert isinstance(invoke(quantise_command, "--model", str(config), "--out", str(tmp_path / "x.gguf"),
                             "--type", "Q9").exception, UserError)  # fmt: skip


def test_power_is_capped_where_it_can_be_and_given_back(tmp_path):
    with pytest.raises(UserError, match="no RAPL"), power_capped(10, tmp_path):
        pass
    package, part = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:0:0"
    for folder in (package, part):
        folder.mkdir()
        (folder / LONG_TERM).write_text("65000000")
    with contextlib.suppress(KeyError), power_capped(15, tmp_path):
        assert (package / LONG_TERM).read_text() == "15000000"
        assert (part / LONG_TERM).read_text() == "65000000"
        raise KeyError
    assert (package / LONG_TERM).read_text() == "65000000"


class FakeNvml(types.ModuleType):
    """Two cards between 100 and 350 W, as pynvml shows them, in milliwatts."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, is_root: bool = True, num_cards: int = 2) -> None:
        super().__init__("pynvml")
        self.limits, self.is_root, self.is_open = [300_000] * num_cards, is_root, False

    def nvmlInit(self):
        self.is_open = True

    def nvmlShutdown(self):
        self.is_open = False

    def nvmlDeviceGetCount(self):
        return len(self.limits)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle):
        return [100_000, 350_000]

    def nvmlDeviceGetPowerManagementLimit(self, handle):
        return self.limits[handle]

    def nvmlDeviceSetPowerManagementLimit(self, handle, milliwatts):
        assert self.is_open
        if not self.is_root:
            raise self.NVMLError("Insufficient Permissions")
        self.limits[handle] = milliwatts


def test_gpus_are_capped_where_they_can_be_and_given_back(monkeypatch):
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with contextlib.suppress(KeyError), gpu_power_capped(150):
        assert nvml.limits == [150_000, 150_000]
        raise KeyError
    assert nvml.limits == [300_000, 300_000]
    assert not nvml.is_open
    with pytest.raises(UserError, match="cannot be capped at 90 W") as raised, gpu_power_capped(90):
        pass
    assert raised.value.hint == "it takes 100 to 350 W"
    assert nvml.limits == [300_000, 300_000]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (FakeNvml(is_root=False), "NVML says `Insufficient Permissions`"),
        (FakeNvml(num_cards=0), "sees no GPU"),
        (None, "pynvml is not installed"),
    ],
)
def test_a_gpu_that_cannot_be_capped_is_refused_with_the_reason(monkeypatch, module, said):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with pytest.raises(UserError, match=said), gpu_power_capped(150):
        pytest.fail("the block is not entered")


def command(*more: str) -> list[str]:
    return [sys.executable, "-c", "from stillmark.cli import main; main()", "profile", *FAKE, *more]


@pytest.mark.skipif(sys.platform != "linux", reason="limits need Linux")
def test_a_cap_below_the_model_does_not_fit_and_the_other_model_is_measured():
    done = invoke(profile_command, "--model", "memory=400e6", "--model", "token=0.001,memory=1e6", "--engine", "fake",
                  "--new-tokens", "8", "--threads", "1", "--memory-cap", "150M", "--budget", "0.2", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    large, small = json.loads(done.stdout)["settings"]
    assert large["status"] == "does not fit"
    assert "150 MiB" in large["reasons"][0]
    assert small["num_repetitions"] > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's books need Linux")
def test_busy_loops_beside_a_run_make_it_invalid():
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        done = invoke(profile_command, *FAKE, "--budget", "2", "--json")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    [setting] = json.loads(done.stdout)["settings"]
    assert setting["status"] == "INVALID"
    assert any("others kept" in reason for reason in setting["reasons"])


@pytest.mark.slow
def test_a_killed_profile_goes_on_from_its_journal(tmp_path):
    journal = tmp_path / "journal.jsonl"
    where = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    slow = ["--prompt-tokens", "4", "--journal", str(journal), "--budget", "20"]
    running = subprocess.Popen(
        command(*slow), env=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = journal.read_text().count("\n")
    done = subprocess.run(command(*slow, "--json"), env=where, capture_output=True, text=True, check=True)
    [setting] = json.loads(done.stdout)["settings"]
    assert setting["num_resumed"] == kept
    assert setting["num_repetitions"] > kept or kept >= 40
