"""The Linux calls that the sandbox is made of, through ctypes: mounts, capabilities, seccomp, Landlock.

Runs inside the sandbox's own process, before the untrusted code, with the standard library alone. Every
call that fails raises OSError with the name of the call, so that a sandbox that cannot be had is refused and
never half made. Sources: man 2 mount_setattr, pivot_root, seccomp; man 7 capabilities, landlock,
user_namespaces; syscall numbers from the kernel's asm/unistd tables.
"""

import ctypes
import errno
import os
import platform
import struct

LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x0002_0000, 0x0200_0000, 0x0400_0000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000
ALL_NAMESPACES = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_NO_NEW_PRIVS = 38
SYS_MOUNT_SETATTR, SYS_LANDLOCK_CREATE, SYS_LANDLOCK_ADD, SYS_LANDLOCK_RESTRICT = 442, 444, 445, 446

# Denied though the namespaces already take their worth away: what has been a way out before, or is a large
# part of the kernel that no test program needs. x86-64 number, aarch64 number.
DENIED_SYSCALLS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "pidfd_getfd": (438, 438),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "personality": (135, 92),
    # Memory that belongs to no process's resident set, so that no limit would count it
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
}
MMAP = (9, 222)
SHARED_ANONYMOUS = 0x21  # MAP_SHARED and MAP_ANONYMOUS: pages that stay when they leave the resident set
CLONE = (56, 220)
CLONE3 = (435, 435)
SOCKET = (41, 198)
AUDIT_ARCH = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
X32_BIT = 0x4000_0000


def call(name: str, *arguments: object) -> int:
    """A libc function by name; OSError with the name where it fails."""
    ctypes.set_errno(0)
    result = int(getattr(LIBC, name)(*arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option: int, *values: object) -> None:
    padded = [ctypes.c_ulong(v) if isinstance(v, int) else v for v in (*values, 0, 0, 0, 0)[:4]]
    call("prctl", option, *padded)


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [value.encode() if value is not None else None for value in (source, target, kind, options)]
    call("mount", *encoded[:3], ctypes.c_ulong(flags), encoded[3])


def make_read_only(target: str) -> None:
    """Read-only, no set-uid, no devices, for the mount and all below it."""
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    number = ctypes.c_long(SYS_MOUNT_SETATTR)
    call("syscall", number, AT_FDCWD, target.encode(), AT_RECURSIVE, attributes, ctypes.c_size_t(32))


def change_root(new_root: str) -> None:
    """pivot_root(2) with "." twice: the old root ends under the new one and is detached."""
    os.chdir(new_root)
    numbers = {"x86_64": 155, "aarch64": 41}
    call("syscall", ctypes.c_long(numbers[platform.machine()]), b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def drop_capabilities() -> None:
    """None left in any set, and none to be had again by exec."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: past the last capability that this kernel knows
                raise
            break
    header = struct.pack("Ii", 0x2008_0522, 0)
    call("capset", header, struct.pack("IIIIII", 0, 0, 0, 0, 0, 0))


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


LOAD, EQUAL, GREATER_EQUAL, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, KILL_PROCESS = 0x7FFF_0000, 0x8000_0000
NUMBER_OFFSET, ARCH_OFFSET, ARGUMENT_OFFSET = 0, 4, 16  # arguments are 8 bytes each


def _fail(code: int) -> bytes:
    return _instruction(RETURN, 0x0005_0000 | code)


def seccomp_program(machine: str) -> bytes:
    """The filter in classic BPF: a deny list, namespaces by clone, sockets other than Unix ones, hidden memory."""
    arch, column = AUDIT_ARCH[machine]
    program = [
        _instruction(LOAD, ARCH_OFFSET),
        _instruction(EQUAL, arch, if_true=1),
        _instruction(RETURN, KILL_PROCESS),
        _instruction(LOAD, NUMBER_OFFSET),
        _instruction(GREATER_EQUAL, X32_BIT, if_false=1),
        _fail(errno.ENOSYS),
    ]
    for numbers in DENIED_SYSCALLS.values():
        program += [_instruction(EQUAL, numbers[column], if_false=1), _fail(errno.EPERM)]
    # glibc goes back to clone, whose flags a filter can read
    program += [_instruction(EQUAL, CLONE3[column], if_false=1), _fail(errno.ENOSYS)]
    program += [
        _instruction(EQUAL, CLONE[column], if_false=4),
        _instruction(LOAD, ARGUMENT_OFFSET),
        _instruction(ANY_BIT, ALL_NAMESPACES, if_false=1),
        _fail(errno.EPERM),
        _instruction(RETURN, ALLOW),
    ]
    program += [
        _instruction(EQUAL, MMAP[column], if_false=5),
        _instruction(LOAD, ARGUMENT_OFFSET + 8 * 3),
        _instruction(AND, SHARED_ANONYMOUS),
        _instruction(EQUAL, SHARED_ANONYMOUS, if_false=1),
        _fail(errno.EPERM),
        _instruction(RETURN, ALLOW),
    ]
    program += [
        _instruction(EQUAL, SOCKET[column], if_false=3),
        _instruction(LOAD, ARGUMENT_OFFSET),
        _instruction(EQUAL, 1, if_true=1),  # AF_UNIX
        _fail(errno.EACCES),
        _instruction(RETURN, ALLOW),
    ]
    return b"".join(program)


def install_seccomp() -> None:
    """From here on no thread of this process or of its children can make the denied calls."""
    program = seccomp_program(platform.machine())
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(filter_program))


def restrict_files(writable: str) -> bool:
    """Landlock, the second lock on files: read anywhere in the new root, write in `writable` alone, execute
    nothing, no TCP, no signals to the outside. False where the kernel has no Landlock.
    """
    try:
        version = call("syscall", ctypes.c_long(SYS_LANDLOCK_CREATE), None, ctypes.c_size_t(0), 1)
    except OSError:
        return False
    execute, write_file, read_file, read_folder, truncate = 1, 2, 4, 8, 1 << 14
    num_rights = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    handled = (1 << num_rights) - 1
    attributes = struct.pack("QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    number = ctypes.c_long(SYS_LANDLOCK_CREATE)
    ruleset = call("syscall", number, attributes, ctypes.c_size_t(size), 0)
    rules = {"/": read_file | read_folder, writable: handled & ~execute}
    rules["/dev/null"] = read_file | write_file | truncate
    for path, rights in rules.items():
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights & handled, folder)
        call("syscall", ctypes.c_long(SYS_LANDLOCK_ADD), ruleset, 1, rule, 0)
        os.close(folder)
    call("syscall", ctypes.c_long(SYS_LANDLOCK_RESTRICT), ruleset, 0)
    os.close(ruleset)
    return True
