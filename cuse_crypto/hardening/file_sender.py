"""A small process that stays outside: it reads a file for one that may open none any more.

It hears nothing from that one but its end. Each time that the file changes, it sends all of it.
"""

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from cuse_crypto.linux import processes

Framing = Callable[[bytes], bytes]
PAUSE = 0.5
"""Seconds between two looks at the file."""
PATIENCE = 2.0
"""Seconds that it may take to end."""


class FileSender:
    """``reading`` is a socket from which the contents of ``path`` come, from now on."""

    def __init__(
        self, path: Path, version: Callable[[Path], object], seen: object, frame: Framing
    ) -> None:
        """``version`` changes with the file, and is false for none; ``seen`` is the one that needs
        not be sent. ``frame`` makes what is sent of a content.
        """
        self.reading, theirs = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            try:
                self.reading.close()
                _serve(path.absolute(), version, seen, frame, theirs)
            finally:
                os._exit(0)
        theirs.close()

    def end(self) -> None:
        """End it, and wait until it has, but not for ever: the disk may hang."""
        self.reading.close()
        processes.wait_for_end(self._pid, PATIENCE)


@contextlib.contextmanager
def sending(
    path: Path, version: Callable[[Path], object], seen: object, frame: Framing
) -> Iterator[socket.socket]:
    """A sender for what happens meanwhile."""
    sender = FileSender(path, version, seen, frame)
    try:
        yield sender.reading
    finally:
        sender.end()


def _serve(
    path: Path,
    version: Callable[[Path], object],
    seen: object,
    frame: Framing,
    sock: socket.socket,
) -> None:
    processes.serve_in_background()
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while not poll.poll(PAUSE * 1000):
        found = version(path)
        if found and found != seen:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                sock.sendall(frame(path.read_bytes()))
                seen = found
