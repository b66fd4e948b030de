"""The tiny study, run once a session through the command line: what a user's first run leaves behind."""

import atexit
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stillmark.startup import start_process

ROOT = Path(__file__).parent.parent
TINY = ROOT / "studies" / "tiny.yaml"
CACHE = tempfile.TemporaryDirectory(prefix="stillmark-cache-")  # tests leave the user's own as it is
atexit.register(CACHE.cleanup)
os.environ["STILLMARK_CACHE"] = CACHE.name
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and their models are small
start_process()
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def stillmark(*arguments: str | Path) -> list[str]:
    """The command line of `stillmark` with these arguments, in the environment of the tests."""
    return [sys.executable, "-c", "from stillmark.cli import main; main()", *map(str, arguments)]


def run_stillmark(
    *arguments: str | Path, timeout: float = 300, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end; `variables` are put over its environment."""
    return subprocess.run(
        stillmark(*arguments), env=ENVIRONMENT | variables, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny study. Tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    done = run_stillmark("run", TINY, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder
