"""A front end that becomes a newer program, in the same process, with all that is open."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping

import trio

log = logging.getLogger(__name__)

PROGRAM = [sys.executable, "-P", "-m", "cuse_crypto"]
INHERIT, EXIT_MONITOR = "--inherit", "--exit-monitor"
PATIENCE = 15
"""Seconds for it to say its version."""
START = 20.0
"""Seconds for it to be there in place of this one."""


async def works() -> bool:
    """Whether the program, as it is installed now, can be started at all."""
    said = [f"no word in {PATIENCE} s"]
    with trio.move_on_after(PATIENCE):
        tried = await trio.run_process(
            [*PROGRAM, "--version"], capture_stdout=True, capture_stderr=True, check=False
        )
        if not tried.returncode:
            return True
        said = tried.stderr.decode(errors="replace").strip().splitlines()[-1:]
    log.error("not renewed: the installed program does not start (%s)", *said or ["silently"])
    return False


def renew(descriptors: Mapping[str, int]) -> None:
    """Start the same command once more, in this process; ``descriptors`` are for it.

    execve(2) waits for all other threads, and for ever where one comes to hang in a caller's memory
    just then. A timer of the kernel's outlives execve: it ends this process, for another one to
    take over, unless the new program is there in time and calls ``arrived``.
    """
    # Until it can heed the signal, it must not die of the next one.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    # The exit monitor is there, and goes on.
    words = [word for word in sys.argv[1:] if not word.startswith((INHERIT, EXIT_MONITOR))]
    for name, fd in descriptors.items():
        # A worker that ends just now has closed its own.
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, True)
            words.append(f"{INHERIT}={name}={fd}")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, START)
    os.execv(PROGRAM[0], [*PROGRAM, *words])


def arrived() -> None:
    """This is the new program, or one that replaces none."""
    signal.setitimer(signal.ITIMER_REAL, 0)
