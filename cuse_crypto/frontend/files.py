"""Open files of the device and their sessions, as the front end knows them.

It knows enough to make a session again in a back end that has forgotten it. Session numbers are
the front end's own: random, and valid in one open file only, as the driver's are.
"""

import errno
import itertools
import secrets
import threading
from dataclasses import dataclass, field

from cuse_crypto.abi.algorithms import Cipher


@dataclass(slots=True)
class Session:
    """A cipher and its key; ``iv`` is the chaining value. ``lock`` serialises its operations."""

    ses: int
    cipher: Cipher
    key: bytes = field(repr=False)
    iv: bytes
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


@dataclass(slots=True)
class OpenFile:
    """One open file description, shared by everyone who inherited it."""

    fh: int
    sessions: dict[int, Session] = field(default_factory=dict)

    def session(self, ses: int) -> Session:
        """OSError(EINVAL) for a number that is not of this open file."""
        session = self.sessions.get(ses)
        if session is None:
            raise OSError(errno.EINVAL, "no such session")
        return session

    def new_number(self) -> int:
        """A session number that is free in this open file; never 0."""
        while True:
            ses = secrets.randbits(32)
            if ses and ses not in self.sessions:
                return ses


class OpenFiles:
    """All open files of one device, by the handle that the kernel knows them by."""

    def __init__(self) -> None:
        self._files: dict[int, OpenFile] = {}
        self._numbers = itertools.count(1)

    def open(self) -> OpenFile:
        """A new open file; its handle is never used again."""
        file = OpenFile(next(self._numbers))
        self._files[file.fh] = file
        return file

    def release(self, fh: int) -> OpenFile | None:
        """Forget an open file; None if it is unknown."""
        return self._files.pop(fh, None)

    def __getitem__(self, fh: int) -> OpenFile:
        file = self._files.get(fh)
        if file is None:
            raise OSError(errno.EBADF, "no such open file")
        return file

    def __len__(self) -> int:
        return len(self._files)
