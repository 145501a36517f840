"""Two processes that see to it that all of ``cuse-crypto run`` ends when any of it does.

The first one is the parent of the back end and the front end; it watches these, the program and the
second one, which watches it. Whoever sees an end ends the rest, and what the program has left
behind in its mount namespace. They are no children of the program's, which may wait for its own.
"""

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from cuse_crypto import namespaces
from cuse_crypto.errors import Failure
from cuse_crypto.hardening import privileges
from cuse_crypto.linux import credentials

READY, FAILED = b"ready\n", b"failed\n"
"""What the first guard says, once; FAILED when a line that says why has been written already."""
GRACE = 1.0
"""Seconds that the program has to end after SIGTERM, when something else has ended."""
SWEEP = 2.0
"""Seconds in which what the program has left behind is looked for."""


class Process(NamedTuple):
    """A process, by a descriptor that stays its own."""

    name: str
    fd: int

    @classmethod
    def of(cls, name: str, pid: int) -> "Process":
        """One that has not been waited for."""
        return cls(name, os.pidfd_open(pid))

    def send(self, number: int) -> None:
        """A signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)

    def has_ended(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        return bool(ended([self], seconds))


def ended(processes: list[Process], seconds: float | None = None) -> list[Process]:
    """Wait until at least one of them has; those that have."""
    poll = select.poll()
    for process in processes:
        poll.register(process.fd, select.POLLIN)
    found = {fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)}
    return [process for process in processes if process.fd in found]


def forked(action: Callable[[], object], *close: int) -> int:
    """The pid of a child that does that, without these descriptors, and ends."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        for fd in close:
            os.close(fd)
        action()
        status = 0
    except SystemExit as leave:
        # As the interpreter does at its end.
        if isinstance(leave.code, str):
            sys.stderr.write(f"{leave.code}\n")
        else:
            status = leave.code or 0
    except Failure as failure:
        sys.stderr.write(f"cuse-crypto: {failure}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class Guards:
    """For the ``program``, which is this process before it becomes one."""

    def __init__(self, say: int) -> None:
        """``say``: a descriptor to write READY or FAILED to."""
        self.program = Process.of("program", os.getpid())
        self._say = say
        self._started = False

    def watch(self, back: Callable[[int], object], front: Callable[[int], object]) -> NoReturn:
        """Be the first guard. ``back`` and ``front`` serve; each is given a descriptor to which to
        write a line once it is ready.
        """
        os.setsid()
        os.chdir("/")
        self._said, write = os.pipe()
        silent = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.daemons = [
            Process.of("back end", forked(lambda: back(silent), self._say, self._said, write)),
            Process.of("front end", forked(lambda: front(write), self._say, self._said)),
        ]
        os.close(write)
        first = Process.of("guard", os.getpid())
        second = Process.of("guard", forked(lambda: self._second(first), self._say, self._said))
        privileges.keep({credentials.CAP_KILL, credentials.CAP_SYS_PTRACE})
        self._first(second)
        second.send(signal.SIGKILL)
        os._exit(0)

    def _first(self, second: Process) -> None:
        if self._hears_ready([self.program, *self.daemons, second]):
            self._started = True
            self.tell(READY)
            for one in ended([self.program, *self.daemons, second]):
                _tell(one)
        else:
            for one in self.daemons:
                _tell(one)
            self.tell(FAILED)
        self._end()

    def tell(self, what: bytes) -> None:
        """Say how it has begun to what will be the program, if that still hears it."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._say, what)
        os.close(self._say)

    def _hears_ready(self, processes: list[Process]) -> bool:
        """Wait for the front end's line; False when something ends before it comes."""
        said = Process("its line", self._said)
        if said not in ended([said, *processes]):
            return False
        return os.read(self._said, 4096).startswith(b"ready: ")

    def _second(self, first: Process) -> None:
        privileges.keep({credentials.CAP_KILL, credentials.CAP_SYS_PTRACE})
        self._started = True
        ended([first])
        sys.stderr.write("cuse-crypto run: its guard was killed; everything is ended\n")
        self._end()

    def _end(self) -> None:
        """End the program, unless it has not become one yet; then everything else."""
        if self._started and not self.program.has_ended(0):
            self.program.send(signal.SIGTERM)
            # One that is stopped does not hear it.
            self.program.send(signal.SIGCONT)
            if not self.program.has_ended(GRACE):
                self.program.send(signal.SIGKILL)
        for one in self.daemons:
            one.send(signal.SIGKILL)
        if self._started:
            _sweep()


def _tell(process: Process) -> None:
    """A line, if it was killed: when it ends by itself it has said why."""
    if process.name == "program" or not process.has_ended(0):
        return
    result = os.waitid(os.P_PIDFD, process.fd, os.WEXITED | os.WNOWAIT)
    if result and result.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
        how = signal.Signals(result.si_status).name
        sys.stderr.write(f"cuse-crypto run: the {process.name} was killed by {how}\n")


def _sweep() -> None:
    """End all that is left in this mount namespace, as the end of a container does."""
    end = time.monotonic() + SWEEP
    while time.monotonic() < end:
        left = [pid for pid in namespaces.members() if pid != os.getpid()]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
