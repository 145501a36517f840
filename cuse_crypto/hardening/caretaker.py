"""A small process that stays as it is, to remove a socket whose owner no longer may.

It knows nothing but the path, and hears nothing but the end of its owner, however that ends.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from cuse_crypto.linux import processes

PATIENCE = 2.0
"""Seconds that removing may take."""
_IDENTITY = struct.Struct("=2Q")


class Caretaker:
    """Removes the file at ``path`` when ``watch`` has been called and the owner is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        reading, self._writing = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                os.close(self._writing)
                _serve(path, reading)
            finally:
                os._exit(0)
        os.close(reading)

    def watch(self) -> None:
        """The file is there: that one, and not what somebody puts in its place later."""
        os.write(self._writing, _identity(self._path))

    def end(self) -> None:
        """Have it done, and wait until it is, but not for ever: the disk may hang."""
        os.close(self._writing)
        processes.wait_for_end(self._pid, PATIENCE)


@contextlib.contextmanager
def removing(path: Path) -> Iterator[Caretaker]:
    """A caretaker for what happens meanwhile."""
    caretaker = Caretaker(path)
    try:
        yield caretaker
    finally:
        caretaker.end()


def _serve(path: Path, reading: int) -> None:
    processes.serve_in_background()
    watched = b"".join(iter(lambda: os.read(reading, _IDENTITY.size), b""))
    if watched and watched == _identity(path):
        path.unlink()


def _identity(path: Path) -> bytes:
    try:
        status = path.lstat()
    except OSError:
        return b""
    return _IDENTITY.pack(status.st_dev, status.st_ino)
