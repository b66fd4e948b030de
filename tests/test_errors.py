"""What the machine refuses, by its own errors: which are the user's to mend, and what is said of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open
from tests.conftest import ENVIRONMENT

from stillmark.errors import fault_of_machine


def raised_by(call) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a disk that is always full is Linux's")
def test_a_full_disk_is_told_by_whoever_writes():
    with open("/dev/full", "wb", buffering=0) as full:
        by_python = fault_of_machine(raised_by(lambda: full.write(b"a")))
    # Words that safetensors wrote on a tmpfs without room
    words = "Error while serializing: I/O error: No space left on device (os error 28)"
    for fault in (by_python, fault_of_machine(SafetensorError(words)), fault_of_machine(Exception(words))):
        assert fault is not None
        assert fault.message.endswith("there is no room left on the disk")
        assert "the same command goes on" in (fault.hint or "")


def test_files_that_cannot_be_used_are_named_and_bugs_stay_bugs(tmp_path: Path):
    fault = fault_of_machine(raised_by(lambda: (tmp_path / "a" / "b").mkdir()))
    assert fault is not None
    assert fault.message == f"{tmp_path / 'a' / 'b'}: No such file or directory"
    (tmp_path / "cut.safetensors").write_bytes(b"\xff")
    fault = fault_of_machine(raised_by(lambda: safe_open(tmp_path / "cut.safetensors", "numpy").__enter__()))
    assert fault is not None
    assert "\n" not in fault.message
    assert fault_of_machine(raised_by(lambda: int("a"))) is None


def test_the_command_line_says_what_is_kept(tmp_path: Path):
    program = (
        "from stillmark import cli\n"
        "from stillmark.cli import main, resumable\n"
        "def app():\n"
        "    with resumable():\n"
        f"        open({str(tmp_path)!r}, 'w')\n"
        "cli.app = app\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path}: Is a directory\n\n"
        "hint: what is recorded is kept: the same command goes on from here\n"
    )
