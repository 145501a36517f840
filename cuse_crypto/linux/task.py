"""One thread as /proc shows it: who it is, what it may, and what system call it sleeps in.

Imports little, as ptrace does.
"""

import fcntl
import os

_NS_GET_PID_FROM_PIDNS = 0x8004B706
"""linux/nsfs.h, Linux 6.11"""
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"


def _read(path: str) -> bytes:
    # Half of what open() costs.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 8192)
    finally:
        os.close(fd)


def status(thread: int) -> dict[bytes, bytes]:
    """The lines of /proc/PID/status; OSError when it has gone."""
    lines = _read(f"/proc/{thread}/status").split(b"\n")
    return {name: value for name, _, value in [line.partition(b":\t") for line in lines]}


def system_call(thread: int) -> list[int] | None:
    """The number and the arguments of the system call that it sleeps in; None where it runs.

    OSError where this process may not know.
    """
    fields = _read(f"/proc/{thread}/syscall").split()
    return [int(field, 0) for field in fields] if len(fields) > 3 else None


def user_namespace(thread: int | str) -> int:
    """Its number; OSError where this process may not know."""
    return os.stat(f"/proc/{thread}/ns/user").st_ino


def open_user_namespace(thread: int) -> int:
    """A descriptor of it."""
    return os.open(f"/proc/{thread}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def first_of_pid_namespace(thread: int) -> int:
    """The process of its pid namespace that has the number 1 there; OSError if it is not known."""
    fd = os.open(f"/proc/{thread}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(fd, _NS_GET_PID_FROM_PIDNS, 1)
    except OSError:
        return _first_ancestor(thread, os.fstat(fd).st_ino)
    finally:
        os.close(fd)


def _first_ancestor(thread: int, namespace: int) -> int:
    """As older kernels know it: of those that its ancestors are."""
    while thread and os.stat(f"/proc/{thread}/ns/pid").st_ino == namespace:
        found = status(thread)
        if found[b"NSpid"].split()[-1] == b"1":
            return thread
        thread = int(found[b"PPid"])
    raise OSError(0, "the first process of its pid namespace is not known")


def yama_scope() -> int:
    """kernel.yama.ptrace_scope; 0 where there is no such thing."""
    try:
        return int(_read(_YAMA))
    except FileNotFoundError:
        return 0
