"""What the back end holds for each front end: open files and sessions under the guest's numbers.

A guest is named by the 16 bytes of its HELLO. Its queues share everything; two guests share
nothing. With its last queue a guest is forgotten.
"""

import errno
import os
import threading
from dataclasses import dataclass, field

from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.abi.structs import CRYPTO_HMAC_MAX_KEY_LEN
from cuse_crypto.wire.messages import NO_SUCH_HANDLE
from cuse_crypto_backend.engines import Engine, EngineFile, EngineSession
from cuse_crypto_backend.engines.engine import Algorithms, Keys, Short

MAX_FILES = 16384
"""Open files of one guest."""
MAX_SESSIONS = 65536
"""Sessions of one guest, of all its open files."""
PLACE_SIZE = 16


@dataclass(slots=True)
class Session:
    """An engine's session, and the rows of its algorithms."""

    algorithms: Algorithms
    engine: EngineSession
    lock: threading.Lock = field(default_factory=threading.Lock)
    iv_size: int = field(init=False)
    block_size: int = field(init=False)
    short: Short | None = None
    """Of a cipher alone, once it has been used."""

    def __post_init__(self) -> None:
        cipher = self.algorithms.cipher
        self.iv_size = cipher.iv_size if cipher else 0
        self.block_size = cipher.block_size if cipher else 1


@dataclass(slots=True)
class File:
    """An engine's open file, and its sessions by number."""

    engine: EngineFile
    sessions: dict[int, Session] = field(default_factory=dict)

    def close(self) -> None:
        """End all of it."""
        for session in self.sessions.values():
            session.engine.close()
        self.sessions.clear()
        self.engine.close()


class Guest:
    """The open files of one front end, by its handles. Errors are for the caller.

    Its queues are threads: what comes and goes does so under ``_lock``.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._files: dict[int, File] = {}
        self.get = self._files.get
        self._sessions = 0
        self._lock = threading.RLock()
        self.queues = 0

    def open(self, handle: int) -> None:
        """Open a file; again is no error, for a request may be repeated. EMFILE for too many."""
        with self._lock:
            if handle not in self._files:
                if len(self._files) >= MAX_FILES:
                    raise OSError(errno.EMFILE, "a guest with too many open files")
                self._files[handle] = File(self._engine.open())

    def release(self, handle: int) -> None:
        """Close a file and end its sessions; an unknown one is no error."""
        with self._lock:
            file = self._files.pop(handle, None)
            if file:
                self._sessions -= len(file.sessions)
                file.close()

    def new_session(self, handle: int, ses: int, numbers: tuple[int, int], keys: Keys) -> None:
        """``numbers`` of cipher and mac, 0 for none.

        OSError(EINVAL) for what cannot be, ENOSPC for too many.
        """
        file = self._file(handle)
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
            if self._sessions >= MAX_SESSIONS:
                raise OSError(errno.ENOSPC, "a guest with too many sessions")
            file.sessions[ses] = Session(algorithms, file.engine.session(algorithms, keys))
            self._sessions += 1

    def end_session(self, handle: int, ses: int) -> None:
        """Forget a session; an unknown one is no error."""
        with self._lock:
            session = self._file(handle).sessions.pop(ses, None)
            if session:
                self._sessions -= 1
                session.engine.close()

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


class Guests:
    """All guests. Used by several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._guests: dict[bytes, Guest] = {}
        self._lock = threading.Lock()
        self.place = os.urandom(PLACE_SIZE)
        """Names this memory among those of other processes and machines."""

    def enter(self, name: bytes) -> Guest:
        """One more queue of this guest."""
        with self._lock:
            guest = self._guests.setdefault(name, Guest(self._engine))
            guest.queues += 1
            return guest

    def leave(self, name: bytes) -> None:
        """One queue less; with the last one the guest is forgotten."""
        with self._lock:
            guest = self._guests[name]
            guest.queues -= 1
            if guest.queues:
                return
            del self._guests[name]
        guest.close()
