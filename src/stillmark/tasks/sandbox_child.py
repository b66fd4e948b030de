"""The sandbox's inside: a script that locks itself in, then runs the untrusted program.

Started by `sandbox.py` as `python -P -S sandbox_child.py FDS`, with an empty environment. Three processes:
the launcher (this one) makes the namespaces; its child, process 1 of the new process namespace, builds the
new root and waits; its grandchild gives up every right and runs the program. When process 1 ends the kernel
kills all that the program started, so nothing is left behind.

The program's interpreter is a fork of this one, which knows nothing worth stealing. That the program ran to
its last line is told with a nonce, read only then.
"""

import json
import linecache
import os
import resource
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import sandbox_kernel as kernel  # type: ignore[import-not-found]

sys.path.pop(0)

BOX = "/box"
NOBODY = 65534
USER_INSIDE = 1000


def build_root(new_root: str, request: dict[str, Any]) -> None:
    """A root in memory that holds the standard library, read-only, and one empty folder to write in."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", new_root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    for source in request["readable"]:
        target = new_root + source
        if os.path.islink(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(os.readlink(source), target)
            continue
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            Path(target).touch()
        kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
        if source.startswith("/dev/"):
            continue
        kernel.make_read_only(target)
        for name in (
            "site-packages",
            "dist-packages",
        ):  # what is installed here is no part of the standard library
            if os.path.isdir(f"{target}/{name}"):
                flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
                kernel.mount("tmpfs", f"{target}/{name}", "tmpfs", flags, "size=4k,mode=555")
    for folder in (BOX, "/dev", "/proc"):
        os.makedirs(new_root + folder, exist_ok=True)
    for link in ("/tmp", "/dev/shm"):
        if not os.path.lexists(new_root + link):  # it is there where Python itself lives below it
            os.symlink(BOX, new_root + link)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    owner = NOBODY if request["is_root"] else 0
    num_files = request["max_files"]
    options = f"size={request['disk_bytes']},nr_inodes={num_files},mode=700,uid={owner},gid={owner}"
    kernel.mount("tmpfs", new_root + BOX, "tmpfs", flags, options)
    kernel.change_root(new_root)
    kernel.call(
        "mount", None, b"/", None, kernel.ctypes.c_ulong(32 | kernel.MS_BIND | kernel.MS_RDONLY), None
    )


def write_identity(proc: int, inside: int, outside_user: int, outside_group: int) -> None:
    """Map one user and one group into the user namespace just made; `proc` is a handle on /proc."""
    lines = {
        "setgroups": "deny",
        "uid_map": f"{inside} {outside_user} 1",
        "gid_map": f"{inside} {outside_group} 1",
    }
    for name, text in lines.items():
        handle = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(handle, text.encode())
        os.close(handle)


def enter_namespaces(proc: int, request: dict[str, Any]) -> None:
    """Root makes them as root and becomes nobody later; a user needs a user namespace to be allowed."""
    flags = kernel.ALL_NAMESPACES & ~kernel.CLONE_NEWUSER
    if request["is_root"]:
        kernel.call("unshare", flags)
        return
    user, group = os.getuid(), os.getgid()
    kernel.call("unshare", flags | kernel.CLONE_NEWUSER)
    write_identity(proc, 0, user, group)


def give_up_rights(proc: int, request: dict[str, Any]) -> None:
    """No capability, no way to a new one, and a user namespace of its own, where processes are counted."""
    if request["is_root"]:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # or /proc/self belongs to root
    user, group = os.getuid(), os.getgid()
    kernel.call("unshare", kernel.CLONE_NEWUSER)
    write_identity(proc, USER_INSIDE, user, group)
    os.close(proc)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.restrict_files(BOX)


def set_limits(request: dict[str, Any]) -> None:
    """Limits of one process; those of all together are the supervisor's, the file system's and time's."""
    cpu_seconds = max(1, -(-int(request["cpu_milliseconds"]) // 1000))
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: request["file_bytes"],
        resource.RLIMIT_NOFILE: request["max_open_files"],
        resource.RLIMIT_AS: request["memory_bytes"],
    }
    if sys.platform == "linux":
        limits |= {resource.RLIMIT_MEMLOCK: 0, resource.RLIMIT_MSGQUEUE: 0}
        if request["isolate"]:  # without a namespace of its own, all of the user's processes would count
            limits[resource.RLIMIT_NPROC] = request["max_processes"]
    for name, value in limits.items():
        resource.setrlimit(name, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))


def run_program(code: str, nonce_file: int, report_file: int) -> None:
    """Run the code as `__main__`; report how it ended, with the nonce, unless it ended the process.

    The functions needed afterwards are held here, since programs replace them (HumanEval's own guard does).
    """
    read, write, leave, dumps, process = os.read, os.write, os._exit, json.dumps, os.getpid
    this_process = process()
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.modules.pop("sandbox_kernel", None)
    sys.argv = ["program.py"]
    lines = code.splitlines(keepends=True)
    linecache.cache["program.py"] = (len(code), None, lines, "program.py")
    outcome, reason, status = "completed", "", 0
    try:
        exec(compile(code, "program.py", "exec"), main.__dict__)
        threading._shutdown()  # type: ignore[attr-defined]  # threads that the program started write too
    except SystemExit as error:
        status = error.code & 0xFF if isinstance(error.code, int) else 0 if error.code is None else 1
        outcome, reason = "exited", f"sys.exit with status {status}"
        if isinstance(error.code, str):
            sys.stderr.write(error.code + "\n")
    except MemoryError:
        outcome, reason = "memory", "MemoryError"
    except BaseException as error:
        outcome, reason = "raised", f"{type(error).__name__}: {error}"[:500]
        own = error.__traceback__  # the first frame is this function
        traceback.print_exception(type(error), error, own.tb_next if own else None)
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()
    if process() == this_process:  # a fork that reaches the end proves nothing
        nonce = read(nonce_file, 64).decode()
        write(report_file, dumps({"nonce": nonce, "outcome": outcome, "reason": reason}).encode() + b"\n")
    leave(status)


def tell(status_file: int, **message: Any) -> None:
    os.write(status_file, json.dumps(message).encode() + b"\n")


def watch(program: int, status_file: int) -> None:
    """Process 1: reap whatever ends, and tell how the program did."""
    while True:
        pid, wait_status, usage = os.wait4(-1, 0)
        if pid == program:
            cpu_seconds = usage.ru_utime + usage.ru_stime
            code = os.waitstatus_to_exitcode(wait_status)
            tell(status_file, ended=code, cpu_seconds=cpu_seconds, peak_bytes=usage.ru_maxrss * 1024)
            os._exit(0)


def inside(request: dict[str, Any], proc: int, files: tuple[int, int, int]) -> None:
    """Process 1 of the sandbox, or the launcher itself where isolation was waived."""
    nonce_file, report_file, status_file = files
    if request["isolate"]:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        build_root(request["new_root"], request)
        os.chdir(BOX)
    program = os.fork()
    if program == 0:
        if request["isolate"]:
            os.setsid()  # kill(0) reaches the program's own processes and not the launcher
            give_up_rights(proc, request)
        set_limits(request)
        if request["isolate"]:
            kernel.install_seccomp()
        tell(status_file, started=True)
        os.close(status_file)
        code = request.pop("code")
        run_program(code, nonce_file, report_file)
    for handle in (nonce_file, report_file):
        os.close(handle)
    watch(program, status_file)


def main() -> None:
    request_file, nonce_file, report_file, status_file = (int(value) for value in sys.argv[1:5])
    try:
        with os.fdopen(request_file, encoding="utf-8") as stream:
            request = json.load(stream)
        if not request["isolate"]:
            return inside(request, -1, (nonce_file, report_file, status_file))
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        enter_namespaces(proc, request)
        awaited = {signal.SIGTERM, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
            inside(request, proc, (nonce_file, report_file, status_file))
        if signal.sigwait(awaited) == signal.SIGTERM:  # the supervisor wants an end
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)  # returns when process 1 and all of its namespace are gone
    except BaseException as error:
        tell(status_file, refused=f"{type(error).__name__}: {error}")
    os._exit(0)


if __name__ == "__main__":
    main()
