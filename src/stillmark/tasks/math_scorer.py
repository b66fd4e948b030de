"""Mathematics: math-verify decides (Kydlicek, github.com/huggingface/Math-Verify), text equality beside it.

`symbolic` is math-verify on the whole answer, `boxed_text` compares the last \\boxed{...} with the target as text.
How often they disagree is in the report: math-verify has false positives and negatives of its own (its issues #14,
#26, #37, #41, #60).
"""

import atexit
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stillmark.tasks.verdict import Reading, ScorerError

HANG_CPU_SECONDS = 30.0  # beyond the worker's own limit, which a computation in C does not heed
MAX_WALL_SECONDS = 1800.0  # for what uses no CPU at all


class MathVerify:
    """A math-verify process that is started when first needed, and again after it had to be killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # one question at a time, from any thread
        atexit.register(self.close)

    def check(self, answer: str, target: str) -> dict[str, Any]:
        """{"value": what was read or None, "is_right": True, False or None, "error": ...}."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps({"answer": answer, "target": target}).encode() + b"\n")
                self._process.stdin.flush()
                line = self._next_line(self._process)
            except OSError:
                line = b""
            if not line:
                status = self._process.poll()
                self.close()
                how = "was killed: it hung" if status is None else f"ended with {status}"
                return {"value": None, "is_right": None, "error": f"math-verify {how}"}
            reply: dict[str, Any] = json.loads(line)
            return reply

    def _start(self) -> subprocess.Popen[bytes]:
        if find_spec("math_verify") is None:
            raise ScorerError("mathematics is graded by math-verify: pip install math-verify")
        script = Path(__file__).with_name("math_worker.py")
        process = subprocess.Popen(
            [sys.executable, "-P", str(script)],  # -P: the script's folder is not searched for modules
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if not self._next_line(process):
            raise ScorerError("math-verify does not start")
        return process

    @staticmethod
    def _next_line(process: subprocess.Popen[bytes]) -> bytes:
        """The worker's next line; empty where it ended or has used up its CPU seconds."""
        assert process.stdout is not None
        used, deadline = cpu_seconds_of(process.pid), time.monotonic() + MAX_WALL_SECONDS
        while not select.select([process.stdout], [], [], 1.0)[0]:
            now_used = cpu_seconds_of(process.pid)
            if time.monotonic() > deadline or now_used - used > HANG_CPU_SECONDS:
                return b""
        return process.stdout.readline()

    def close(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def cpu_seconds_of(pid: int) -> float:
    """CPU seconds that a process has used; where /proc does not tell, wall seconds stand for them."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@cache
def math_verify() -> MathVerify:
    return MathVerify()


class MathScorer:
    """Equality of mathematical objects. The target is LaTeX without its `$`."""

    version = 1

    def readings(self, answer: str, target: str) -> list[Reading]:
        boxed = last_boxed(answer)
        is_same_text = boxed is not None and plain_latex(boxed) == plain_latex(target)
        # Only the final box is read where there is one: what comes before it is working
        asked = answer if boxed is None else f"\\boxed{{{boxed}}}"
        checked = math_verify().check(asked, f"\\boxed{{{target}}}")
        value, is_right = checked["value"], checked["is_right"]
        if boxed is not None and is_right is None:
            value, is_right = boxed, (True if is_same_text else None) if checked.get("error") else False
        return [
            Reading(extractor="symbolic", value=value, is_right=is_right, is_explicit=boxed is not None),
            Reading(extractor="boxed_text", value=boxed, is_right=None if boxed is None else is_same_text),
        ]


def last_boxed(text: str) -> str | None:
    """The content of the last complete \\boxed{...}, braces counted."""
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))):
        depth = 1
        for position in range(match.end(), len(text)):
            if text[position] == "{" and text[position - 1] != "\\":
                depth += 1
            elif text[position] == "}" and text[position - 1] != "\\":
                depth -= 1
                if depth == 0:
                    return text[match.end() : position].strip()
    return None


def plain_latex(text: str) -> str:
    """LaTeX without what does not change its meaning: spaces, sizes, units as text, a degree sign, `\\$`."""
    text = re.sub(r"\\(?:left|right|big|Big|displaystyle|,|!|;|:|quad| )", "", text)
    text = re.sub(r"\\(?:dfrac|tfrac)", r"\\frac", text)
    text = re.sub(r"\\text(?:bf|it|rm)?\{\s*([^{}]*?)\s*\}", r"\1", text)
    text = re.sub(r"\^\{?\\circ\}?|\\[$%]|[$%\s]", "", text)
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    return text.rstrip(".")
