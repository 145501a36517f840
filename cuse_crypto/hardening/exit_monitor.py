"""Tells that the main thread of a process has ended, though other threads hang in the kernel.

Such a process is dead and stays: no wait(2), no pidfd and no end of a pipe announces it. What the
kernel does announce is the death of the thread that has forked, to its child (PR_SET_PDEATHSIG).
"""

import os
import signal
from typing import NoReturn

from cuse_crypto.hardening import privileges
from cuse_crypto.linux import credentials, processes


def start(descriptor: int) -> None:
    """Fork a process that holds ``descriptor``, a pipe's writing end, for as long as this thread
    lives, and close it here. To be called in the main thread, before there are others.
    """
    parent = os.getpid()
    if os.fork():
        os.close(descriptor)
        return
    try:
        _live(descriptor, parent)
    finally:
        os._exit(1)


def _live(descriptor: int, parent: int) -> NoReturn:
    import setproctitle

    setproctitle.setproctitle("cuse-crypto exit-monitor")
    processes.serve_in_background()
    # Before the next line, which a change of capabilities may undo.
    privileges.keep()
    credentials.prctl(credentials.PR_SET_PDEATHSIG, signal.SIGKILL)
    kept = os.dup2(descriptor, 3)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    while os.getppid() == parent:
        signal.pause()
    os._exit(0)
