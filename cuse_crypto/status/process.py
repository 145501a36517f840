"""The processes that serve a status tree: children of the front end, which they ask nothing.

Forked before the front end has anything that they should not have, or a thread: they share the
board and cost no start. The first one starts the second, which serves, and another one when that is
killed. Both end, and the tree is taken down, when the front end has gone, however it went.
"""

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import trio

from cuse_crypto.board import Board
from cuse_crypto.errors import Failure
from cuse_crypto.fuse.node import Attributes
from cuse_crypto.hardening import privileges, secrets
from cuse_crypto.linux import credentials, processes
from cuse_crypto.status.mount import SUBTYPE, prepare, remove, sweep

log = logging.getLogger(__name__)

NICE = 10
"""Callers come first."""
READY = b"ready"
START = 10.0
"""Seconds that mounting may take."""
END = 5.0
"""Seconds that unmounting may take."""
PARENT_ENDED = signal.SIGUSR1
"""Sent by the kernel when the front end's main thread ends."""
PAUSES = [0.05 * 2**times for times in range(8)]
"""Seconds before one that was killed is replaced, and how often that is done."""
TASKS = 250
"""Requests at once, reads of the trace that wait among them."""


class StatusProcess:
    """The child, as the front end has it."""

    def __init__(self, folder: Path, board: Board, attributes: Attributes, sandbox: bool) -> None:
        """Forks: to be called before there are threads, or descriptors that nobody may keep."""
        self.folder = folder
        self._socket, theirs = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            _live(folder, board, attributes, theirs, sandbox)
        theirs.close()
        self._socket.settimeout(START)

    def mount(self) -> str | None:
        """Have the tree mounted; why it is not, if it is not. Blocks."""
        try:
            self._socket.send(b"mount")
            answer = self._socket.recv(1000)
        except OSError as error:
            return error.strerror or "no answer"
        return None if answer == READY else answer.decode() or "its process has died"

    async def ended(self) -> None:
        """Wait until no process serves the tree any more, nor will again."""
        fd = os.pidfd_open(self._pid)
        try:
            await trio.lowlevel.wait_readable(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Have it unmounted."""
        self._socket.close()
        if not processes.wait_for_end(self._pid, END):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            # One that hangs in the kernel is given up.
            processes.wait_for_end(self._pid, END)


def _live(
    folder: Path, board: Board, attributes: Attributes, link: socket.socket, sandbox: bool
) -> NoReturn:
    """The life of the child."""
    status = 1
    try:
        link = _settle_in(folder, link)
        if link.recv(10):
            if sandbox:
                privileges.keep({credentials.CAP_SYS_ADMIN, credentials.CAP_IPC_LOCK})
            status = _keep(folder, link, lambda: _serve(folder, board, attributes, link, sandbox))
    except BaseException:
        log.exception("the status process")
    finally:
        os._exit(status)


def _keep(folder: Path, link: socket.socket, serve: Callable[[], int]) -> int:
    """Serve in a child, and in the next one when that is killed; the exit status of the last."""

    def pass_on(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        os.killpg(0, number)

    signal.signal(PARENT_ENDED, pass_on)
    for pause in PAUSES:
        pid = os.fork()
        if not pid:
            signal.signal(PARENT_ENDED, signal.SIG_DFL)
            os._exit(serve())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status >= 0 or _is_closed(link):
            break
        name = signal.Signals(-status).name
        log.warning("the status process was killed by %s; starting another one", name)
        time.sleep(pause)
    sweep(folder)
    return status


def _is_closed(link: socket.socket) -> bool:
    """The front end has gone, or does not want it any more."""
    try:
        return not link.recv(10, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _settle_in(folder: Path, link: socket.socket) -> socket.socket:
    """Keep nothing of the front end's but what is logged to, and answer to no terminal."""
    import setproctitle

    setproctitle.setproctitle(f"cuse-crypto status-tree {folder}")
    processes.serve_in_background(streams=(0, 1))
    low = os.dup2(link.detach(), 3)
    os.closerange(low + 1, os.sysconf("SC_OPEN_MAX"))
    credentials.prctl(credentials.PR_SET_PDEATHSIG, PARENT_ENDED)
    os.setpgid(0, 0)
    os.nice(NICE)
    with open("/proc/self/comm", "w") as comm:
        comm.write("cuse-status")
    return socket.socket(fileno=low)


def _serve(
    folder: Path, board: Board, attributes: Attributes, link: socket.socket, sandbox: bool
) -> int:
    import pyfuse3

    from cuse_crypto.status.streams import Streams
    from cuse_crypto.status.tree import Tree

    streams = Streams(board)
    tree = Tree(board, attributes, streams)
    _confine(sandbox)
    try:
        prepare(folder)
        options = {f"fsname={folder.name}", f"subtype={SUBTYPE}", "default_permissions"}
        pyfuse3.init(tree, os.fspath(folder), {*options, "allow_other"})
    except (Failure, RuntimeError, OSError) as error:
        remove(folder)
        link.send(str(error).encode()[:1000])
        return 1

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(streams.run)
            nursery.start_soon(_main, pyfuse3, nursery.cancel_scope)
            with contextlib.suppress(BrokenPipeError):
                link.send(READY)
            nursery.start_soon(_until_parent_ends, nursery.cancel_scope)
            await trio.lowlevel.wait_readable(link)
            # Readers that wait are told the end before the tree goes.
            streams.end()
            await trio.sleep(0)
            nursery.cancel_scope.cancel()

    try:
        trio.run(main)
    finally:
        pyfuse3.close(unmount=True)
        remove(folder)
    return 0


async def _until_parent_ends(scope: trio.CancelScope) -> None:
    """The socket stays open where threads of a dead front end hang."""
    with trio.open_signal_receiver(PARENT_ENDED) as signals:
        await anext(signals)
    scope.cancel()


async def _main(pyfuse3: object, scope: object) -> None:
    """Serve until the tree is unmounted, by whomever."""
    await pyfuse3.main(max_tasks=TASKS)  # type: ignore[attr-defined]
    scope.cancel()  # type: ignore[attr-defined]


def _confine(sandbox: bool) -> None:
    """Nothing but to mount and unmount, from now on."""
    locking = [credentials.CAP_IPC_LOCK] * (sandbox and secrets.no_swap())
    if sandbox:
        privileges.keep({*locking, credentials.CAP_SYS_ADMIN})
    secrets.no_dump()
