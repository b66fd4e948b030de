"""Run Python that a model wrote, where it can do no harm and cannot pretend to have passed.

    result = run_python("print(6 * 7)")
    result.outcome is SandboxOutcome.COMPLETED and result.stdout == "42\n"

On Linux the program gets namespaces of its own (users, processes, mounts, network, IPC), a root in memory with
the standard library read-only and one empty folder, no capability, a seccomp filter, Landlock where the kernel
has it, and limits on time, memory, processes and files. What each is for is in `sandbox_child.py`. Where that
cannot be had the program is not run, and the result says why; `allow_unprotected=True` is the user's word that
it may run with limits on resources alone.

What it does not do: a program that searches its own interpreter's memory and open files for the nonce can
still claim to have completed. It stays in the sandbox; only its own grade is forged, as it could forge it by
patching the tests, which run in the same interpreter.
"""

import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from stillmark.tasks.sandbox_watch import Watched, watch

CHILD = Path(__file__).with_name("sandbox_child.py")
ENVIRONMENT = {"HOME": "/box", "TMPDIR": "/box", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
PASSED_ON = ("LD_LIBRARY_PATH",)  # where the interpreter may need it to start


class SandboxOutcome(StrEnum):
    COMPLETED = "completed"  # ran to its last line; proved by a nonce
    RAISED = "raised"  # an exception that nothing caught
    EXITED = "exited"  # left before its last line: sys.exit, os._exit, or a process that ended without proof
    CRASHED = "crashed"  # ended by a signal, as by a segmentation fault
    TIME = "time"  # over the wall or CPU seconds
    MEMORY = "memory"
    OUTPUT = "output"  # wrote more than `output_bytes`
    REFUSED = "refused"  # not run: isolation could not be had, or the sandbox itself failed


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    wall_seconds: float = 10.0  # from the program's first line, not from the start of the sandbox
    cpu_seconds: float = 10.0  # of each process, rounded up to whole seconds; does not grow on a busy machine
    memory_bytes: int = 1 << 30  # address space of each process, and resident memory of all of them
    max_processes: int = 16  # processes and threads
    file_bytes: int = 16 << 20  # of one file
    disk_bytes: int = 64 << 20  # of all files
    max_files: int = 1000
    max_open_files: int = 64
    output_bytes: int = 1 << 20  # of stdout and of stderr, each


@dataclass(frozen=True, kw_only=True)
class SandboxResult:
    """How the program ended, and what it wrote. `exit_status` is None unless the program ended by itself."""

    outcome: SandboxOutcome
    stdout: str = ""
    stderr: str = ""
    seconds: float | None = None  # wall clock, from the program's first line
    cpu_seconds: float | None = None  # the program's first process and the children it waited for
    peak_memory_bytes: int | None = None  # of its first process
    exit_status: int | None = None
    reason: str = ""
    is_isolated: bool = True


def run_python(
    code: str,
    *,
    stdin: str = "",
    limits: SandboxLimits | None = None,
    allow_unprotected: bool = False,
) -> SandboxResult:
    """Run `code` as `__main__` and say how it ended. Never raises for what the code does."""
    limits = limits or SandboxLimits()
    problem = isolation_problem()
    if problem is not None and not allow_unprotected:
        return SandboxResult(outcome=SandboxOutcome.REFUSED, reason=problem, is_isolated=False)
    return _run(code, stdin, limits, isolate=problem is None)


@functools.cache
def isolation_problem() -> str | None:
    """Why programs cannot be isolated on this machine, or None where they can: found by trying."""
    if not sys.platform.startswith("linux"):
        return f"the sandbox needs Linux; this is {sys.platform}: run it in a Linux container or machine"
    trial = _run("print(1)", "", SandboxLimits(), isolate=True)
    if trial.outcome is SandboxOutcome.COMPLETED and trial.stdout == "1\n":
        return None
    return (
        f"the kernel or the container does not allow the sandbox ({trial.reason or trial.stderr[-300:]}). "
        "It needs unprivileged user namespaces (in Docker: --security-opt seccomp=unconfined, or --privileged "
        "in a throw-away machine; on Ubuntu 24.04: sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
    )


def readable_paths() -> list[str]:
    """What the program can see of this machine: the standard library, system libraries, five devices."""
    paths = sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_exec_prefix})
    wanted = [
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"),
        *(os.path.realpath(paths["stdlib"]), os.path.realpath(paths["platstdlib"])),
        *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"),
    ]
    for folder in {sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib"}:
        if folder and os.access(folder, os.R_OK | os.X_OK):
            wanted += sorted(str(path) for path in Path(folder).glob("libpython*.so*"))
    kept: list[str] = []
    for path in wanted:
        inside_another = any(path == other or path.startswith(other + "/") for other in kept)
        if os.path.exists(path) and not inside_another:
            kept.append(path)
    return kept


def _run(code: str, stdin: str, limits: SandboxLimits, *, isolate: bool) -> SandboxResult:
    nonce = secrets.token_hex(32)
    try:
        with tempfile.TemporaryDirectory(prefix="stillmark-sandbox-") as folder:
            watched = _start_and_watch(code, stdin, limits, isolate, nonce, folder)
    except OSError as error:
        reason = f"the sandbox could not be started: {error}"
        return SandboxResult(outcome=SandboxOutcome.REFUSED, reason=reason, is_isolated=isolate)
    outcome, reason = _judge(watched, nonce, limits)
    return SandboxResult(
        outcome=outcome,
        stdout=watched.stdout.decode("utf-8", "replace"),
        stderr=watched.stderr.decode("utf-8", "replace"),
        seconds=watched.seconds,
        cpu_seconds=watched.cpu_seconds,
        peak_memory_bytes=watched.peak_memory_bytes,
        exit_status=watched.exit_status
        if watched.exit_status is not None and watched.exit_status >= 0
        else None,
        reason=reason,
        is_isolated=isolate,
    )


def _start_and_watch(
    code: str, stdin: str, limits: SandboxLimits, isolate: bool, nonce: str, folder: str
) -> Watched:
    request = asdict(limits) | {
        "code": code,
        "isolate": isolate,
        "is_root": os.getuid() == 0,
        "new_root": folder,
        "cpu_milliseconds": round(limits.cpu_seconds * 1000),
        "readable": readable_paths() if isolate else [],
    }
    request_file = _read_only_file(json.dumps(request))
    stdin_file = _read_only_file(stdin)
    nonce_file, nonce_writer = os.pipe()
    os.write(nonce_writer, nonce.encode())
    os.close(nonce_writer)
    report, report_writer = os.pipe()
    status, status_writer = os.pipe()
    given = (request_file, nonce_file, report_writer, status_writer)
    try:
        process = subprocess.Popen(
            [_interpreter(), "-P", "-S", "-s", "-X", "utf8", str(CHILD), *map(str, given)],
            stdin=stdin_file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=given,
            env=ENVIRONMENT | {name: os.environ[name] for name in PASSED_ON if name in os.environ},
            cwd=folder,
            start_new_session=True,
        )
    finally:
        for handle in (*given, stdin_file):
            os.close(handle)
    bounds = (limits.wall_seconds, limits.output_bytes, limits.memory_bytes)
    return watch(process, report, status, isolate, *bounds)


def _interpreter() -> str:
    """The Python outside any virtual environment, which needs no site-packages to start."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def _read_only_file(text: str) -> int:
    """A handle on a file that has no name any more and cannot be written through it."""
    handle, path = tempfile.mkstemp(prefix="stillmark-sandbox-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="", errors="replace") as stream:
            stream.write(text)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.unlink(path)


def _judge(watched: Watched, nonce: str, limits: SandboxLimits) -> tuple[SandboxOutcome, str]:
    """What was seen from outside comes before what the program says of itself."""
    if watched.refused:
        return SandboxOutcome.REFUSED, watched.refused
    if watched.killed_for is not None:
        return SandboxOutcome(watched.killed_for), watched.killed_because
    if watched.exit_status is None:
        return SandboxOutcome.REFUSED, "the sandbox ended without a word about the program"
    if watched.exit_status < 0:
        number = -watched.exit_status
        over_cpu = watched.cpu_seconds is not None and watched.cpu_seconds >= limits.cpu_seconds
        if number == signal.SIGXCPU or (number == signal.SIGKILL and over_cpu):
            return SandboxOutcome.TIME, f"more than {limits.cpu_seconds:g} CPU seconds"
        return SandboxOutcome.CRASHED, f"signal {number} ({signal.Signals(number).name})"
    for line in watched.report.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and secrets.compare_digest(str(said.get("nonce")).encode(), nonce.encode()):
            return SandboxOutcome(said["outcome"]), str(said["reason"])
    return SandboxOutcome.EXITED, f"ended with status {watched.exit_status} before its last line"
