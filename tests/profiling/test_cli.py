"""`stillmark profile` from its options to its table, with an engine of known times."""

import json

import pytest
import typer
from tests.profiling.test_procedure import QUIET
from typer.testing import CliRunner

from stillmark.cli.profile import profile_command
from stillmark.cli.profile_request import ProfileRequest, arms_of, numbers, workloads_of
from stillmark.errors import UserError
from stillmark.profiling import procedure
from stillmark.profiling.roofline import Ceilings


@pytest.fixture
def run(monkeypatch):
    """The command, on a machine that needs no noise check and no probe."""
    monkeypatch.setattr(procedure, "noise", lambda rules: QUIET)
    monkeypatch.setattr(procedure.power, "idle_watts", lambda device: None)
    monkeypatch.setattr(
        "stillmark.cli.profile_request.measured_ceilings",
        lambda threads: Ceilings(threads=threads, flops_per_second=1e11, bytes_per_second=2e10),
    )
    app = typer.Typer()
    app.command()(profile_command)
    arguments = ["--model", "prefill=0.01,token=0.001", "--engine", "fake", "--budget", "1",
                 "--new-tokens", "8", "--threads", "1"]  # fmt: skip
    return lambda *more: CliRunner().invoke(app, [*arguments, *more])


def test_the_table_says_unknown_and_the_verdict(run):
    result = run("--prompt-tokens", "16,32")
    assert result.exit_code == 0, result.output
    assert "VALID" in result.output
    assert "16+8" in result.output
    assert "32+8" in result.output
    assert "unknown" in result.output  # energy here, FLOPs of a fake


def test_json_keeps_every_sample(run):
    result = run("--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    [setting] = found["settings"]
    assert len(setting["samples"]["ttft_seconds"]) == setting["num_repetitions"] > 0
    assert setting["figures"]["ttft_seconds"]["value"] >= 0.01
    assert "joules_per_token" not in setting["figures"] or setting["energy"]["tier"]


def test_options_multiply():
    request = ProfileRequest(model=["a.gguf", "b.gguf"], threads="1", prompt_tokens="8,16", batch="1,2")
    workloads = workloads_of(request)
    assert [(w.prompt_tokens, w.batch) for w in workloads] == [(8, 1), (8, 2), (16, 1), (16, 2)]
    arms = arms_of(request, workloads, [])
    assert [arm.label for arm in arms] == ["a.gguf, llamacpp, 1 thread", "b.gguf, llamacpp, 1 thread"]
    assert {(arm.spec.context_tokens, arm.spec.batch) for arm in arms} == {(16 + 64, 2)}


def test_mistakes_are_told():
    with pytest.raises(UserError, match="not a list of numbers"):
        numbers("1,x", "--threads")
    request = ProfileRequest(model=["a.gguf"], context=16)
    with pytest.raises(UserError, match="does not hold"):
        arms_of(request, workloads_of(request), [])
