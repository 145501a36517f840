"""Open files of the device and their sessions, as the front end knows them.

It knows enough to make a session again in a back end that has forgotten it. Session numbers are
the front end's own: random, and valid in one open file only, as the driver's are.
"""

import errno
import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cuse_crypto.abi.algorithms import Cipher, Mac
from cuse_crypto.abi.structs import crypt_op
from cuse_crypto.board import Seat, Seats
from cuse_crypto.frontend.limits import Account, Limits

MAX_JOBS = 64
"""Asynchronous operations of one open file that may wait to be fetched."""

SHORT = {"cbc", "cfb", "ctr", "xts"}
"""Modes that need nothing but an IV and whole blocks."""


@dataclass(slots=True)
class Session:
    """A cipher, a mac, or both, with their keys. ``lock`` serialises its operations."""

    ses: int
    cipher: Cipher | None
    mac: Mac | None
    key: bytearray = field(repr=False)
    mac_key: bytearray = field(repr=False)
    iv: bytes
    """The chaining value: where an operation without an IV goes on."""
    tag_size: int = 16
    """Of an AEAD; the driver lets it only shrink."""
    hashing: bool = False
    """The back end holds a hash under way, which cannot be made again."""
    doubtful: bool = False
    """An operation that went on with it was given up, and nobody knows whether it was done."""
    ended: bool = False
    """Its keys are wiped: it cannot be made again."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    use: MutableSequence[int] | memoryview = field(default_factory=lambda: [0, 0], repr=False)
    """Operations and bytes, as they are shown."""

    iv_size: int = field(init=False)
    """0 without a cipher."""
    short: int = field(init=False)
    """The block size of a cipher whose operations may go the short way; else 0."""
    is_cbc: bool = field(init=False)

    def __post_init__(self) -> None:
        cipher = self.cipher
        self.iv_size = cipher.iv_size if cipher else 0
        self.short = cipher.block_size if cipher and cipher.mode in SHORT and not self.mac else 0
        self.is_cbc = cipher is not None and cipher.mode == "cbc"

    def keys(self) -> tuple[bytearray, bytearray]:
        """Copies, to be wiped; OSError(EINVAL) when it has ended."""
        copies = self.key[:], self.mac_key[:]
        # Another thread may end it at any time: asked before, this could be of wiped keys.
        if self.ended:
            wipe(*copies)
            raise OSError(errno.EINVAL, "the session has ended")
        return copies

    def end(self) -> None:
        """Forget the keys."""
        self.ended = True
        wipe(self.key, self.mac_key)


def wipe(*secrets: bytearray | memoryview) -> None:
    """Overwrite them in place."""
    for secret in secrets:
        secret[:] = bytes(len(secret))


class Job(NamedTuple):
    """An asynchronous operation that is done. ``status`` is 0 or the errno that fetching gives."""

    op: crypt_op
    status: int
    digest: bytes
    iv: bytes


@dataclass(slots=True)
class OpenFile:
    """One open file description, shared by everyone who inherited it."""

    fh: int
    account: Account
    """Of who opened it."""
    seats: Seats | None = None
    """Where sessions are shown."""
    opener: int = 0
    """The thread that opened it, where it can be named."""
    sessions: dict[int, Session] = field(default_factory=dict)
    jobs: deque[Job] = field(default_factory=deque)
    pollers: set[int] = field(default_factory=set)
    """Handles by which the kernel wants to hear that poll(2) would answer differently."""
    released: bool = False
    """Nobody has it open any more: the back end must not be told of it again."""
    polled: int = 0
    """What poll(2) was told last."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def session(self, ses: int, unknown: int = errno.EINVAL) -> Session:
        """OSError(``unknown``) for a number that is not of this open file."""
        session = self.sessions.get(ses)
        if session is None:
            raise OSError(unknown, "no such session")
        return session

    def add(self, session: Session) -> None:
        """One more session."""
        cipher, mac = session.cipher, session.mac
        if self.seats:
            algorithms = cipher.id if cipher else 0, mac.id if mac else 0
            who = self.opener, self.account.uid
            seat = Seat(0, 0, self.fh, session.ses, *algorithms, *who, time.time_ns())
            session.use = self.seats.take(seat)
        self.sessions[session.ses] = session

    def remove(self, ses: int) -> Session | None:
        """Forget a session; None if it is unknown."""
        session = self.sessions.pop(ses, None)
        if session and self.seats:
            session.use = [0, 0]
            self.seats.give(self.fh, ses)
        return session

    def new_number(self) -> int:
        """A session number that is free in this open file; never 0."""
        while True:
            ses = secrets.randbits(32)
            if ses and ses not in self.sessions:
                return ses


class OpenFiles:
    """All open files of one device, by the handle that the kernel knows them by."""

    def __init__(self, limits: Limits | None = None, seats: Seats | None = None) -> None:
        self.limits = limits or Limits()
        self._seats = seats
        self._files: dict[int, OpenFile] = {}
        self.get = self._files.get
        """The open file of a handle, or None."""
        self._numbers = itertools.count(1)

    def open(self, uid: int = 0) -> OpenFile:
        """A new open file; its handle is never used again. OSError if this user has too many."""
        file = OpenFile(next(self._numbers), self.limits.open(uid), self._seats)
        self._files[file.fh] = file
        return file

    def release(self, fh: int) -> OpenFile | None:
        """Forget an open file; None if it is unknown."""
        file = self._files.pop(fh, None)
        if file:
            self.limits.close(file.account)
        return file

    def __getitem__(self, fh: int) -> OpenFile:
        file = self._files.get(fh)
        if file is None:
            raise OSError(errno.EBADF, "no such open file")
        return file

    def __len__(self) -> int:
        return len(self._files)
