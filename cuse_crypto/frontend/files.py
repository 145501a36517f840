"""Open files of the device and their sessions, as the front end knows them.

It knows enough to make a session again in a back end that has forgotten it. Session numbers are
the front end's own: random, and valid in one open file only, as the driver's are.
"""

import errno
import secrets
import threading
import time
from collections import deque
from collections.abc import Container, Iterator, MutableSequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.abi.structs import crypt_op
from cuse_crypto.board import Seat, Seats
from cuse_crypto.frontend.ledger import (
    DOUBTFUL,
    FILE,
    HASHING,
    USED,
    Ledger,
    State,
    session_slot,
)
from cuse_crypto.frontend.limits import SESSIONS, Account, Limits
from cuse_crypto.layout import Buffer

MAX_JOBS = 64
"""Asynchronous operations of one open file that may wait to be fetched."""

SHORT = {"cbc", "cfb", "ctr", "xts"}
"""Modes that need nothing but an IV and whole blocks."""


@dataclass(slots=True)
class Session:
    """A cipher, a mac, or both. Their keys are in the ledger. ``lock`` serialises operations."""

    ses: int
    cipher: Cipher | None
    mac: Mac | None
    ledger: Ledger = field(repr=False)
    at: int
    """Its slot there."""
    iv: bytes = b""
    """The chaining value: where an operation without an IV goes on."""
    tag_size: int = 16
    """Of an AEAD; the driver lets it only shrink."""
    hashing: bool = False
    """The back end holds a hash under way, which cannot be made again."""
    place: bytes = b""
    """Which one that is."""
    doubtful: bool = False
    """An operation that went on with it was given up, and nobody knows whether it was done."""
    ended: bool = False
    """Its keys are wiped, and its slot is another's: it cannot be made again."""
    changes: int = 0
    """Of the state that the ledger has."""
    passing: bool = False
    """It is one operation's, and no successor has to know of it."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    use: MutableSequence[int] | memoryview = field(default_factory=lambda: [0, 0], repr=False)
    """Operations and bytes, as they are shown."""

    _wiped: bool = False
    iv_size: int = field(init=False)
    """0 without a cipher."""
    short: int = field(init=False)
    """The block size of a cipher whose operations may go the short way; else 0."""
    is_cbc: bool = field(init=False)
    is_ofb: bool = field(init=False)

    def __post_init__(self) -> None:
        cipher = self.cipher
        self.iv_size = cipher.iv_size if cipher else 0
        self.iv = self.iv or bytes(self.iv_size)
        self.short = cipher.block_size if cipher and cipher.mode in SHORT and not self.mac else 0
        self.is_cbc = cipher is not None and cipher.mode == "cbc"
        self.is_ofb = cipher is not None and cipher.mode == "ofb"

    @property
    def slot(self) -> int:
        """In the ledger, for a successor: 0 for one that ends with its operation."""
        return 0 if self.passing else self.at

    @property
    def state(self) -> State:
        """What a successor has to know of it after one more change, as the ledger has it."""
        flags = HASHING * self.hashing | DOUBTFUL * self.doubtful
        return USED, flags, self.tag_size, self.changes + 1 & 0xFFFFFFFF, self.iv

    def save(self) -> None:
        """Have the ledger know ``state``."""
        if not self.passing:
            self.ledger.save(self.at, self.state)
            self.changes = self.changes + 1 & 0xFFFFFFFF

    def hash_begins(self) -> None:
        """From now on a hash is under way that a successor could not go on with."""
        self.ledger.set_flags(self.at, HASHING | DOUBTFUL * self.doubtful)

    def __enter__(self) -> "Session":
        """One operation at a time; OSError(EINVAL) if it ended meanwhile: its slot is another's."""
        self._acquire()
        if self.ended:
            self._release()
            raise OSError(errno.EINVAL, "the session has ended")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind:
            # What failed may have changed it, too.
            self.save()
        self._release()

    def _acquire(self) -> None:
        """Take ``lock``; meanwhile the thread is known as one that waits for it."""
        if self.lock.acquire(blocking=False):
            return
        thread = threading.get_native_id()
        lock_waiters[thread] = self
        try:
            self.lock.acquire()
        finally:
            del lock_waiters[thread]

    def _release(self) -> None:
        self.lock.release()
        if self.ended:
            self.wipe_if_free()

    def keys(self) -> tuple[bytearray, bytearray]:
        """Copies, to be wiped; OSError(EINVAL) when it has ended."""
        copies = self.ledger.keys(self.at)
        # Another thread may end it at any time: asked before, these could be another's.
        if self.ended:
            wipe(*copies)
            raise OSError(errno.EINVAL, "the session has ended")
        return copies

    def end(self, wait: bool = True) -> None:
        """Forget it, once no operation with it is under way. Where this does not ``wait``, the end
        of that operation does.
        """
        self.ended, self.short = True, 0
        if wait:
            self._acquire()
            self._release()
        else:
            self.wipe_if_free()

    def wipe_if_free(self) -> None:
        """Forget it, unless an operation is under way, at whose end this is called again.

        For a thread that has released ``lock`` and then finds that it has ``ended``: of that thread
        and the one in ``end``, at least the later one finds the lock free.
        """
        if self.lock.acquire(blocking=False):
            if not self._wiped:
                self._wiped = True
                self.ledger.forget_session(self.at)
            self.lock.release()


lock_waiters: dict[int, Session] = {}
"""Threads of this process that wait for a session, with which an operation is under way."""


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
    ledger: Ledger = field(repr=False)
    at: int
    """Its slot there."""
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
    coming: int = 0
    """Asynchronous operations that are being done."""
    lost: bool = False
    """Results of asynchronous operations died with a predecessor, and nobody was told so yet."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def session(self, ses: int, unknown: int = errno.EINVAL) -> Session:
        """OSError(``unknown``) for a number that is not of this open file."""
        session = self.sessions.get(ses)
        if session is None:
            raise OSError(unknown, "no such session")
        return session

    def new_session(
        self, cipher: Cipher | None, mac: Mac | None, key: Buffer, mac_key: Buffer
    ) -> Session:
        """One that nobody knows of yet, under a random number; OSError(ENOSPC)."""
        ses = 0
        while not ses or ses in self.sessions:
            ses = secrets.randbits(32)
        numbers = cipher.id if cipher else 0, mac.id if mac else 0
        row = session_slot(0, self.fh, ses, *numbers, len(key), len(mac_key))
        return Session(ses, cipher, mac, self.ledger, self.ledger.add_session(row, key, mac_key))

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

    def note_jobs(self, more: int = 0) -> None:
        """Have a successor know whether there are results that it has not, or ``more`` that are
        being made. ``lock`` is held.
        """
        self.coming += more
        self.ledger.note(self.at, jobs=int(bool(self.jobs or self.coming)))

    def poll(self, handle: int) -> None:
        """The kernel wants to hear by ``handle`` when poll(2) would answer differently."""
        if handle not in self.pollers:
            self.ledger.note(self.at, polled=handle)
        self.pollers.add(handle)


class OpenFiles:
    """All open files of one device, by the handle that the kernel knows them by."""

    def __init__(
        self,
        limits: Limits | None = None,
        ledger: Ledger | None = None,
        seats: Seats | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.ledger = ledger or Ledger()
        self._seats = seats
        self._files: dict[int, OpenFile] = {}
        self.get = self._files.get
        """The open file of a handle, or None."""
        self._lock = threading.Lock()

    def open(self, uid: int = 0, unique: int = 0, thread: int = 0) -> OpenFile:
        """A new open file; its handle is never used again. OSError if this user has too many.

        ``unique`` and ``thread``: of the request, and of who makes it.
        """
        account = self.limits.open(uid)
        with self._lock:
            fh = self.ledger.next_fh()
        try:
            at = self.ledger.add_file(fh, uid, unique, thread)
        except OSError:
            self.limits.close(account)
            raise
        file = self._files[fh] = OpenFile(fh, account, self.ledger, at, self._seats, thread)
        return file

    def release(self, fh: int) -> OpenFile | None:
        """Forget an open file; None if it is unknown."""
        file = self._files.pop(fh, None)
        if file:
            self.limits.close(file.account)
            self.ledger.files.give(file.at)
        return file

    def restore(self) -> None:
        """Those of a predecessor that are in the ledger."""
        for at in self.ledger.files.used():
            slot = FILE.read(self.ledger.view, at)
            account = self.limits.restore(slot.uid)
            file = OpenFile(slot.fh, account, self.ledger, at, self._seats, slot.thread)
            file.lost = bool(slot.jobs)
            file.pollers = {slot.polled} if slot.polled else set()
            self._files[file.fh] = file
        for at, row in self.ledger.sessions():
            self._restore_session(at, row)

    def _restore_session(self, at: int, row: session_slot) -> None:
        file, cipher, mac = self.get(row.fh), CIPHERS.get(row.cipher), MACS.get(row.mac)
        if file is None or not (cipher or mac):
            self.ledger.forget_session(at)
            return
        _, flags, tag_size, changes, iv = self.ledger.state(at)
        session = Session(row.ses, cipher, mac, self.ledger, at, tag_size=tag_size)
        session.changes = changes
        session.iv = iv[: session.iv_size]
        # Whatever was under way was so in a back end's memory for the predecessor.
        session.hashing = session.doubtful = bool(flags)
        file.add(session)
        file.account.take(SESSIONS, forced=True)

    def opened_by(self, uniques: Container[int]) -> list[OpenFile]:
        """Those that were opened by these requests."""
        view = self.ledger.view
        return [file for file in self if FILE.read(view, file.at).unique in uniques]

    def sessions(self) -> Iterator[Session]:
        """Of all open files."""
        for file in self:
            yield from file.sessions.values()

    def __iter__(self) -> Iterator[OpenFile]:
        return iter(list(self._files.values()))

    def __getitem__(self, fh: int) -> OpenFile:
        file = self._files.get(fh)
        if file is None:
            raise OSError(errno.EBADF, "no such open file")
        return file

    def __len__(self) -> int:
        return len(self._files)
