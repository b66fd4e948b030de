"""Training with adapters, packed rows and recomputation in a study: killed at random moments, it ends the same."""

import random
import subprocess
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from tests.test_runner import ENVIRONMENT, TINY, records, run_stillmark, stillmark

pytest.importorskip("peft")
CHANGES = {
    "seeds: [0, 1]": "seeds: [0]",
    "recipe: {<<: *solutions, train_flops: 4.5e9}": "recipe: {<<: *solutions, train_flops: 4.5e9, packing: true}",
    "base: vanilla-small\n    recipe: *traces": "base: vanilla-small\n    recipe: {<<: *traces, lora: {rank: 4}, packing: true}",
    "recipe: {<<: *traces, loss: forward_kl}": "recipe: {<<: *traces, loss: forward_kl, lora: {rank: 4}, gradient_checkpointing: true}",
}


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_records(tmp_path: Path):
    text = TINY.read_text()
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    study = tmp_path / "tiny.yaml"
    study.write_text(text)
    done = run_stillmark("run", study, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr

    folder, stream = tmp_path / "killed", random.Random(0)
    for _ in range(5):
        process = subprocess.Popen(
            stillmark("run", study, "--out", folder),
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while not (folder / "models").is_dir() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        time.sleep(stream.uniform(1, 8))
        process.kill()
        process.wait()
    done = run_stillmark("run", study, "--out", folder)
    assert done.returncode == 0, done.stderr
    expected, found = records(tmp_path / "whole"), records(folder)
    for table in expected:
        assert found[table] == expected[table], table
    for weights in (folder / "models").glob("*/*/model.safetensors"):
        with safe_open(weights, "pt") as file:
            assert not any("lora" in name or "base_layer" in name for name in file.keys())  # noqa: SIM118
