"""What the back end holds for each front end: open files and sessions under the guest's numbers.

A guest is named by the 16 bytes of its HELLO, and by who says it: the same name from two identities
names two guests. Its queues share everything; two guests share nothing. With its last queue a
guest is forgotten.
"""

import errno
import os
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field

from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.abi.structs import CRYPTO_HMAC_MAX_KEY_LEN
from cuse_crypto.wire.messages import NO_SUCH_HANDLE
from cuse_crypto_backend.engines import Engine, EngineFile, EngineSession
from cuse_crypto_backend.engines.engine import Algorithms, Keys, Short
from cuse_crypto_backend.memory import Memory
from cuse_crypto_backend.shares import Owner, Shares

MAX_FILES = 16384
"""Open files of one guest."""
MAX_SESSIONS = 65536
"""Sessions of one guest, of all its open files."""
ALL_FILES = 4 * MAX_FILES
ALL_SESSIONS = 2 * MAX_SESSIONS
"""Of all guests: one owner alone may have half of these, see shares. A session takes up to 6 KB."""
PLACE_SIZE = 16
Identity = Hashable
"""Who a peer is, by the kernel's word or a certificate; never by its own."""


@dataclass(slots=True)
class Session:
    """An engine's session, and the rows of its algorithms. Within it, one operation at a time.

    Other queues of the guest may end it meanwhile: what an engine closes may be a descriptor, whose
    number is another guest's a moment later.
    """

    algorithms: Algorithms
    engine: EngineSession
    lock: threading.Lock = field(default_factory=threading.Lock)
    iv_size: int = field(init=False)
    block_size: int = field(init=False)
    short: Short | None = None
    """Of a cipher alone, once it has been used."""
    _ended: bool = False

    def __post_init__(self) -> None:
        cipher = self.algorithms.cipher
        self.iv_size = cipher.iv_size if cipher else 0
        self.block_size = cipher.block_size if cipher else 1

    def __enter__(self) -> None:
        """OSError(ESTALE) if it has ended meanwhile."""
        self.lock.acquire()
        if self._ended:
            self.lock.release()
            raise OSError(NO_SUCH_HANDLE, "no such session")

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def end(self) -> None:
        """Once the operation under way is done."""
        with self.lock:
            self._ended, self.short = True, None
            self.engine.close()


@dataclass(slots=True)
class File:
    """An engine's open file, and its sessions by number."""

    engine: EngineFile
    sessions: dict[int, Session] = field(default_factory=dict)

    def close(self) -> None:
        """End all of it."""
        for session in self.sessions.values():
            session.end()
        self.sessions.clear()
        self.engine.close()


class Guest:
    """The open files of one front end, by its handles. Errors are for the caller.

    Its queues are threads: what comes and goes does so under ``_lock``.
    """

    def __init__(self, engine: Engine, held: "Held | None" = None, owner: Owner = None) -> None:
        """``held``: what all guests have; ``owner``: whose share of it this one uses."""
        self._engine = engine
        self._held = held or Held()
        self._owner = owner
        self._files: dict[int, File] = {}
        self.get = self._files.get
        self._sessions = 0
        self._lock = threading.RLock()
        self.queues = 0

    def open(self, handle: int) -> None:
        """Open a file; again is no error, for a request may be repeated. EMFILE for too many."""
        with self._lock:
            if handle not in self._files:
                full = len(self._files) >= MAX_FILES
                if full or not self._held.files.take(self._owner):
                    raise OSError(errno.EMFILE, "a guest with too many open files")
                try:
                    self._files[handle] = File(self._engine.open())
                except BaseException:
                    self._held.files.give(self._owner)
                    raise

    def release(self, handle: int) -> None:
        """Close a file and end its sessions; an unknown one is no error."""
        with self._lock:
            file = self._files.pop(handle, None)
            if file:
                self._sessions -= len(file.sessions)
                self._held.sessions.give(self._owner, len(file.sessions))
                self._held.files.give(self._owner)
        # Outside of the lock: to end many sessions takes long, and no queue finds them any more.
        if file:
            file.close()

    def new_session(self, handle: int, ses: int, numbers: tuple[int, int], keys: Keys) -> None:
        """``numbers`` of cipher and mac, 0 for none.

        OSError(EINVAL) for what cannot be, ENOSPC for too many.
        """
        self._file(handle)
        cipher, mac = CIPHERS.get(numbers[0]), MACS.get(numbers[1])
        if (cipher is None) != (numbers[0] == 0) or (mac is None) != (numbers[1] == 0):
            raise OSError(errno.EINVAL, "no such algorithm")
        if cipher is None and mac is None:
            raise OSError(errno.EINVAL, "no algorithm")
        if len(keys.cipher) not in (cipher.key_sizes if cipher else (0,)):
            raise OSError(errno.EINVAL, "no such key")
        if len(keys.mac) > (CRYPTO_HMAC_MAX_KEY_LEN if mac and mac.is_keyed else 0):
            raise OSError(errno.EINVAL, "no such key of a mac")
        algorithms = Algorithms(cipher, mac)
        with self._lock:
            self.end_session(handle, ses)
            # Once more: another queue may have released it meanwhile.
            file = self._file(handle)
            full = self._sessions >= MAX_SESSIONS
            if full or not self._held.sessions.take(self._owner):
                raise OSError(errno.ENOSPC, "a guest with too many sessions")
            try:
                file.sessions[ses] = Session(algorithms, file.engine.session(algorithms, keys))
            except BaseException:
                self._held.sessions.give(self._owner)
                raise
            self._sessions += 1

    def end_session(self, handle: int, ses: int) -> None:
        """Forget a session; an unknown one is no error."""
        with self._lock:
            session = self._file(handle).sessions.pop(ses, None)
            if session:
                self._sessions -= 1
                self._held.sessions.give(self._owner)
        if session:
            session.end()

    def session(self, handle: int, ses: int) -> Session:
        """OSError(ESTALE) if it is not here (any more)."""
        session = self._file(handle).sessions.get(ses)
        if session is None:
            raise OSError(NO_SUCH_HANDLE, "no such session")
        return session

    def close(self) -> None:
        """End all of it."""
        for handle in list(self._files):
            self.release(handle)

    def _file(self, handle: int) -> File:
        file = self._files.get(handle)
        if file is None:
            raise OSError(NO_SUCH_HANDLE, "no such open file")
        return file


class Held:
    """What all guests together have, and whose it is."""

    def __init__(self) -> None:
        self.files = Shares(ALL_FILES)
        self.sessions = Shares(ALL_SESSIONS)


class Guests:
    """All guests. Used by several threads."""

    def __init__(self, engine: Engine) -> None:
        self.memory = Memory()
        self._engine = engine
        self._held = Held()
        self._guests: dict[tuple[Identity, bytes], Guest] = {}
        self._lock = threading.Lock()
        self.place = os.urandom(PLACE_SIZE)
        """Names this memory among those of other processes and machines."""

    def enter(self, identity: Identity, name: bytes, owner: Owner) -> Guest:
        """One more queue of the guest that ``identity`` calls ``name``."""
        with self._lock:
            guest = self._guests.get((identity, name))
            if guest is None:
                guest = self._guests[identity, name] = Guest(self._engine, self._held, owner)
            guest.queues += 1
            return guest

    def leave(self, identity: Identity, name: bytes) -> None:
        """One queue less; with the last one the guest is forgotten."""
        with self._lock:
            guest = self._guests[identity, name]
            guest.queues -= 1
            if guest.queues:
                return
            del self._guests[identity, name]
        guest.close()
