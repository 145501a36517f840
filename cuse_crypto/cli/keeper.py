"""The other end of notify: descriptors that a child has us keep for its successor.

As systemd's fd store (FDSTORE=1 of sd_notify(3)), for what ``cuse-crypto up`` starts.
"""

import contextlib
import fcntl
import os
import socket
from pathlib import Path

import trio

from cuse_crypto.frontend.estate import LOCK

_LONGEST = 4096
"""Bytes of a message."""
_MOST = 16
"""Descriptors in one."""


class Keeper:
    """Keeps what comes to the socket at ``path``, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptors: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(os.fspath(path))

    async def run(self) -> None:
        """Take what comes, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            self.collect()

    def collect(self) -> None:
        """Take what has come. What a child said before it died is here already."""
        with contextlib.suppress(BlockingIOError):
            while True:
                message, given, _, _ = socket.recv_fds(self._socket, _LONGEST, _MOST)
                for fd in given:
                    os.set_inheritable(fd, False)
                self._take(message.decode(errors="replace").splitlines(), given)

    def _take(self, assignments: list[str], given: list[int]) -> None:
        values = dict(line.partition("=")[::2] for line in assignments)
        name = values.get("FDNAME", "")
        if values.get("FDSTORE") == "1" and name and len(given) == 1:
            self._forget(name)
            self._descriptors[name] = given[0]
            return
        for fd in given:
            os.close(fd)
        if values.get("FDSTOREREMOVE") == "1":
            self._forget(name)

    def _forget(self, name: str) -> None:
        fd = self._descriptors.pop(name, -1)
        if fd >= 0:
            os.close(fd)

    @property
    def descriptors(self) -> list[int]:
        """All that are kept."""
        return list(self._descriptors.values())

    def arguments(self) -> list[str]:
        """How a child is told what it inherits, under the same numbers."""
        return [f"--inherit={name}={fd}" for name, fd in self._descriptors.items()]

    def close(self) -> None:
        """Give everything back: with the last descriptor of a node's channel the node ends."""
        self._socket.close()
        self.path.unlink(missing_ok=True)
        if LOCK in self._descriptors:
            # A front end that cannot end has it open as well, for as long as it hangs.
            fcntl.flock(self._descriptors[LOCK], fcntl.LOCK_UN)
        for name in list(self._descriptors):
            self._forget(name)
