"""An engine in a process of its own, seen from the harness: loads, runs, and dies without taking it along."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import Any

from stillmark.errors import UserError
from stillmark.profiling.constraints import Constraints, check_constraints, environment
from stillmark.profiling.workload import Batch, EngineSpec, ModelFacts, Timeline, Workload

# What engines say when memory runs out; a thread whose stack cannot be had is "temporarily unavailable" (EAGAIN)
MEMORY_WORDS = ("memory", "alloc", "mmap", "does not fit", "resource temporarily unavailable")
STDERR_TAIL = 2000


class DoesNotFitError(Exception):
    """The arm needs more memory than it may have. A result, not a failure of the harness."""


class EngineFailedError(Exception):
    """The engine's process failed for another reason; the message says what it said."""


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Resident memory of the engine's process in bytes, read from /proc; None where there is none."""

    before_load_bytes: int | None = None
    """The interpreter and the engine's libraries."""
    after_load_bytes: int | None = None
    peak_bytes: int | None = None
    """The highest of the whole life of the process (VmHWM)."""

    @property
    def added_bytes(self) -> int | None:
        """What the model added to the process at its peak: weights, KV cache, work space."""
        if self.peak_bytes is None or self.before_load_bytes is None:
            return None
        return self.peak_bytes - self.before_load_bytes


class RemoteEngine:
    """A `ProfileEngine` in a child process under `constraints`."""

    def __init__(self, spec: EngineSpec, constraints: Constraints | None = None) -> None:
        self.spec = spec
        self.constraints = constraints or Constraints()
        device = spec.options.get("device", "cpu")
        check_constraints(self.constraints, threads=spec.threads, device=device)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stillmark.profiling.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env=environment(spec.threads),
        )
        try:
            loaded = self._ask(do="load", spec=asdict(spec), constraints=self.constraints.as_dict())
        except BaseException:
            self.close()
            raise
        self.load_seconds: float = loaded["load_seconds"]
        self.facts = ModelFacts(**{**loaded["facts"], "notes": tuple(loaded["facts"]["notes"])})
        self.memory = PeakMemory(
            before_load_bytes=(loaded["memory_before"] or {}).get("VmRSS"),
            after_load_bytes=(loaded["memory"] or {}).get("VmRSS"),
            peak_bytes=(loaded["memory"] or {}).get("VmHWM"),
        )

    def run(self, workload: Workload, variant: int) -> Batch:
        return self._batch(self._ask(do="run", workload=asdict(workload), variant=variant))

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        reply = self._ask(do="answer", prompt=prompt, max_new_tokens=max_new_tokens)
        return self._batch(reply).timelines[0]

    def close(self) -> None:
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._stderr.close()

    def _batch(self, reply: dict[str, Any]) -> Batch:
        if reply.get("memory"):
            self.memory = replace(self.memory, peak_bytes=reply["memory"].get("VmHWM"))
        timelines = (
            Timeline(**{**line, "token_seconds": tuple(line["token_seconds"])}) for line in reply["timelines"]
        )
        return Batch(timelines=tuple(timelines), cpu_seconds=reply["cpu_seconds"])

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._ended()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise self._failed(reply)
        return reply

    def _failed(self, reply: dict[str, Any]) -> Exception:
        if reply.get("is_user_error"):
            return UserError(reply["error"], reply.get("hint"))
        said = f"{reply['error']} {self._tail()}".lower()
        if reply.get("is_memory") or (self._is_capped and any(word in said for word in MEMORY_WORDS)):
            return DoesNotFitError(self._cap(reply["error"]))
        return EngineFailedError(f"{self.spec.label}: {reply['error']}\n{self._tail()}".rstrip())

    def _ended(self) -> Exception:
        code = self._process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        said = self._tail()
        says_memory = any(word in said.lower() for word in MEMORY_WORDS)
        is_crash = code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL)
        if "bad_alloc" in said or (self._is_capped and (is_crash or says_memory)):
            return DoesNotFitError(self._cap(f"the process ended with {name}"))
        if code == -signal.SIGKILL:
            name += " (the system does that when memory runs out)"
        return EngineFailedError(f"{self.spec.label}: the process ended with {name}\n{said}".rstrip())

    @property
    def _is_capped(self) -> bool:
        return self.constraints.memory_bytes is not None

    def _cap(self, reason: str) -> str:
        cap = self.constraints.memory_bytes
        limit = f" within {cap / 2**20:,.0f} MiB" if cap is not None else ""
        return f"does not fit{limit}: {reason}"

    def _tail(self) -> str:
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - STDERR_TAIL))
        return self._stderr.read().decode(errors="replace").strip()
