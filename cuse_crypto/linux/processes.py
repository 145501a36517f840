"""Processes that stay the same: a pid may be another process's a moment later."""

import contextlib
import os
import resource
import select
import signal
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

from cuse_crypto.linux.proc import start_of, state


class Identity(NamedTuple):
    """Of one process, for as long as the machine runs. ``start``: clock ticks since boot."""

    pid: int
    start: int
    namespace: int
    """The inode of the pid namespace in which it has this pid."""

    @classmethod
    def own(cls) -> "Identity":
        """Of this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """Of a process in this pid namespace, which will not end meanwhile."""
        return cls(pid, start_of(pid), pid_namespace())


def pid_namespace() -> int:
    """The inode of this process's."""
    return os.stat("/proc/self/ns/pid").st_ino


def is_alive(process: Identity) -> bool:
    """Whether it runs. True, too, for one that cannot be looked at from here.

    One whose main thread has ended while others hang in the kernel is dead.
    """
    if process.namespace != pid_namespace():
        return True
    try:
        return start_of(process.pid) == process.start and state(process.pid) not in ("Z", "")
    except OSError:
        return False


def allow_descriptors(wanted: int) -> None:
    """Raise the soft limit of open descriptors to ``wanted``, as far as the hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        # Refused where the hard limit is above fs.nr_open.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def serve_in_background(streams: Collection[int] = range(3)) -> None:
    """For a child that another process ends: without these standard streams, and deaf to what ends
    a program in a terminal.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in streams:
        os.dup2(nothing, fd)
    if nothing not in streams:
        os.close(nothing)


def wait_for_end(child: int, seconds: float) -> bool:
    """Whether a child of this process ends within that time; it is waited for then."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
    return True


@contextlib.contextmanager
def opened(process: Identity) -> Iterator[int]:
    """Its pidfd, for signals to that process alone. ProcessLookupError if it has ended."""
    fd = os.pidfd_open(process.pid)
    try:
        # A process that is alive after its start was read is the one of which it was read.
        with contextlib.suppress(FileNotFoundError):
            start = start_of(process.pid)
            if start == process.start and not select.select([fd], [], [], 0)[0]:
                yield fd
                return
        raise ProcessLookupError(f"process {process.pid} has ended")
    finally:
        os.close(fd)
