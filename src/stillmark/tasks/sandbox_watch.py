"""The sandbox's outside: read what the program writes, and end it when it goes over a limit.

Only this side is believed about time, memory, output and how the program's process ended.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0  # to make the namespaces on a machine that is busy; the program's own time starts after
POLL_SECONDS = 0.05
END_SECONDS = 10.0  # for the kernel to end all processes of the sandbox
READ_BYTES = 1 << 16
REPORT_BYTES = 1 << 16


@dataclass(kw_only=True)
class Watched:
    """What was seen. `exit_status` is negative for a signal; None where the program's end was not seen."""

    stdout: bytes = b""
    stderr: bytes = b""
    report: bytes = b""
    refused: str = ""
    killed_for: str | None = None  # time, memory, output
    killed_because: str = ""
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    exit_status: int | None = None


class Watch:
    """One program, from its start to its end."""

    def __init__(self, process: subprocess.Popen[bytes], report: int, status: int, is_isolated: bool) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.is_isolated = is_isolated
        self.seen = Watched()
        self.handles = {
            process.stdout.fileno(): "stdout",
            process.stderr.fileno(): "stderr",
            report: "report",
            status: "status",
        }
        self.buffers = {name: bytearray() for name in self.handles.values()}
        self.started: float | None = None
        self.opened = time.monotonic()
        self.selector = selectors.DefaultSelector()
        for handle, name in self.handles.items():
            os.set_blocking(handle, False)
            self.selector.register(handle, selectors.EVENT_READ, name)

    def run(self, wall_seconds: float, output_bytes: int, memory_bytes: int) -> Watched:
        next_check = time.monotonic() + POLL_SECONDS
        while self.selector.get_map():
            for key, _ in self.selector.select(self._patience(wall_seconds)):
                self._read(key.fd, str(key.data), output_bytes)
            now = time.monotonic()
            self._check_time(now, wall_seconds)
            if now >= next_check:
                next_check = now + POLL_SECONDS
                self._check_memory(memory_bytes)
            if self.seen.killed_for is not None or self.process.poll() is not None:
                break
        return self._end(output_bytes)

    def _patience(self, wall_seconds: float) -> float:
        since, allowed = self._clock(wall_seconds)
        return max(0.0, min(POLL_SECONDS, since + allowed - time.monotonic()))

    def _clock(self, wall_seconds: float) -> tuple[float, float]:
        return (self.opened, START_SECONDS) if self.started is None else (self.started, wall_seconds)

    def _check_time(self, now: float, wall_seconds: float) -> None:
        since, allowed = self._clock(wall_seconds)
        if now - since < allowed or self.seen.killed_for is not None:
            return
        if self.started is None:
            self.seen.refused = f"the sandbox was not ready after {START_SECONDS:g} seconds"
        self._kill("time", f"more than {wall_seconds:g} seconds")

    def _check_memory(self, memory_bytes: int) -> None:
        resident = resident_bytes(self.process.pid)
        if resident > memory_bytes and self.seen.killed_for is None:
            self._kill("memory", f"more than {memory_bytes / 2**20:.0f} MiB in all processes")

    def _read(self, handle: int, name: str, output_bytes: int) -> None:
        try:
            data = os.read(handle, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.selector.unregister(handle)
            return
        buffer = self.buffers[name]
        allowed = output_bytes if name in ("stdout", "stderr") else REPORT_BYTES
        buffer += data[: max(0, allowed - len(buffer))] if len(buffer) + len(data) > allowed else data
        if len(buffer) >= allowed and self.seen.killed_for is None:
            self._kill("output", f"more than {allowed} bytes on {name}")
        if name == "status":
            self._read_status()

    def _read_status(self) -> None:
        """Lines of the sandbox itself: refused, started, ended."""
        *lines, rest = bytes(self.buffers["status"]).split(b"\n")
        self.buffers["status"] = bytearray(rest)
        for line in lines:
            said = json.loads(line)
            if "refused" in said:
                self.seen.refused = self.seen.refused or said["refused"]
            elif "started" in said:
                self.started = time.monotonic()
            elif self.seen.exit_status is None:
                self.seen.exit_status = said["ended"]
                self.seen.cpu_seconds = said["cpu_seconds"]
                self.seen.peak_memory_bytes = said["peak_bytes"]
                self._note_time()

    def _note_time(self) -> None:
        if self.started is not None and self.seen.seconds is None:
            self.seen.seconds = time.monotonic() - self.started

    def _kill(self, why: str, because: str) -> None:
        self.seen.killed_for, self.seen.killed_because = why, because
        self._note_time()

    def _end(self, output_bytes: int) -> Watched:
        """Ask the launcher to end process 1, which takes all the others along; then read the rest."""
        if self.process.poll() is None and self.is_isolated:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 1.0  # the pipes close when the last process has died
        while self.selector.get_map() and time.monotonic() < deadline:
            for key, _ in self.selector.select(POLL_SECONDS):
                self._read(key.fd, str(key.data), output_bytes)
        self.selector.close()
        self.seen.stdout = bytes(self.buffers["stdout"])
        self.seen.stderr = bytes(self.buffers["stderr"])
        self.seen.report = bytes(self.buffers["report"])
        return self.seen


def watch(
    process: subprocess.Popen[bytes],
    report: int,
    status: int,
    is_isolated: bool,
    wall_seconds: float,
    output_bytes: int,
    memory_bytes: int,
) -> Watched:
    """See the program to its end; all handles are closed when this returns."""
    try:
        with process:
            return Watch(process, report, status, is_isolated).run(wall_seconds, output_bytes, memory_bytes)
    finally:
        os.close(report)
        os.close(status)


def resident_bytes(pid: int) -> int:
    """Memory of a process and all below it that no file backs; pages shared by a fork count each time."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text()
            total += sum(resident_bytes(int(child)) for child in children.split())
    except (OSError, ValueError, IndexError):
        pass  # it ended meanwhile, or this system has no /proc
    return total
