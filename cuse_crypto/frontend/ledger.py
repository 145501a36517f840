"""What a successor has to know of this front end, in memory that outlives it: see succession.

A memory file with a header and three tables: open files, sessions, and those sessions whose keys
are long. A slot counts when its first word says that it is USED.
"""

import errno
import os
import struct
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from cuse_crypto.layout import Buffer, Layout, u16, u32, u64
from cuse_crypto.wire.area import Area, new_file

FREE, USED, NEW = range(3)
"""The first word of a slot; one that is NEW does not count yet."""

STATE = struct.Struct("=IIII16s")
"""The start of a session's slot: FREE, USED or NEW; flags; size of the tag; how often the
session has been changed; chaining value.
"""
State = tuple[int, int, int, int, bytes]
FLAGS, CHANGES = 4, 12
"""Offsets in it."""
HASHING, DOUBTFUL = 1, 2
"""Flags: as in files.Session."""

_MAGIC = b"cuse-crypto 1\0\0\0"
_WORD = struct.Struct("=I")


class header(NamedTuple):
    """At the start. ``fh``: the next number of an open file; ``*_end``: offsets that no slot of a
    table has ever reached; then what chmod(2) and chown(2) have made of the node.
    """

    magic: Annotated[bytes, "16s"]
    generation: u32
    """So many front ends have had it."""
    mode: u32
    uid: u32
    gid: u32
    fh: u64
    files_end: u64
    sessions_end: u64
    long_end: u64
    pid: u32
    """Of the front end that has it, in its own pid namespace."""


class file_slot(NamedTuple):
    """An open file."""

    used: u32
    uid: u32
    fh: u64
    unique: u64
    """Of the request that opened it."""
    polled: u64 = 0
    """The handle by which the kernel wants to hear of changes, or 0."""
    jobs: u32 = 0
    """Whether results of asynchronous operations wait in this process."""
    thread: u32 = 0
    """That opened it, where it can be named."""


class session_slot(NamedTuple):
    """What follows the state in a session's slot; and behind it both keys."""

    padding: u32
    fh: u64
    ses: u32
    cipher: u32
    mac: u32
    key: u16
    mac_key: u16


HEADER, FILE, SESSION = Layout(header), Layout(file_slot), Layout(session_slot)
KEYS = STATE.size + SESSION.size
"""Where keys begin in a slot."""
SHORT, LONG = 256, 1024
"""Bytes of a slot, for sessions whose keys are short, and for all others."""
FILES, SESSIONS, LONG_SESSIONS = 65536, 262144, 65536
"""Slots; memory is paid for where it is touched."""
SUSPECTS, _SUSPECTS = 128, 1024
"""Requests that were under way when a front end died, and where they are noted."""
_SUSPECT = struct.Struct("=QQ")
FIRST_FILE = 4096
"""Where the slots of open files begin."""
SIZE = FIRST_FILE + FILES * FILE.size + SESSIONS * SHORT + LONG_SESSIONS * LONG


NAME = "cuse-crypto-ledger"
"""Of the memory file."""


class LedgerError(Exception):
    """What was inherited is no ledger of this version."""


class Table:
    """``count`` slots of ``size`` bytes from ``start`` on. The header's member ``mark`` says how
    far they have ever been used: what lies behind has never been touched.
    """

    def __init__(self, view: memoryview, start: int, size: int, count: int, mark: str) -> None:
        self.size, self.end = size, start + size * count
        self._view, self._start = view, start
        self._mark = HEADER.field(mark).offset
        self._free: list[int] = []
        self._lock = threading.Lock()

    def take(self) -> int:
        """The offset of a free slot; 0 where there is none."""
        with self._lock:
            if self._free:
                return self._free.pop()
            at = self._reached()
            if at >= self.end:
                return 0
            self._view[self._mark : self._mark + 8] = (at + self.size).to_bytes(8, sys.byteorder)
            return at

    def give(self, at: int) -> None:
        """The slot is free again, and nothing is left in it."""
        _WORD.pack_into(self._view, at, FREE)
        self._view[at : at + self.size] = bytes(self.size)
        self._free.append(at)

    def used(self) -> Iterator[int]:
        """The offsets of those that count. To be asked once, at first: all others are free then."""
        for at in range(self._start, min(self._reached(), self.end), self.size):
            if _WORD.unpack_from(self._view, at)[0] == USED:
                yield at
            else:
                self.give(at)

    def _reached(self) -> int:
        end = int.from_bytes(self._view[self._mark : self._mark + 8], sys.byteorder)
        return end or self._start


class Ledger:
    """The tables, and ``fd``, by which others have them too. ``view`` is all of it."""

    def __init__(self, fd: int = -1) -> None:
        """A new one, or that which a predecessor has left as ``fd``: LedgerError if it is none."""
        inherited = fd >= 0
        if inherited and os.fstat(fd).st_size != SIZE:
            raise LedgerError("what a front end has left is no ledger of this version")
        self.fd = fd if inherited else new_file(SIZE, NAME)
        weakref.finalize(self, os.close, self.fd)
        self._area = Area(SIZE, self.fd)
        self.view = self._area.view
        if inherited and self.header.magic != _MAGIC:
            raise LedgerError("what a front end has left is no ledger of this version")
        self.view[: len(_MAGIC)] = _MAGIC
        known = self.header
        self.predecessor = known.pid if known.pid != os.getpid() else 0
        """The pid of the front end that had it before; 0 for none, and for this process."""
        self.change(generation=known.generation + 1, pid=os.getpid())
        view = self.view
        self.files = Table(view, FIRST_FILE, FILE.size, FILES, "files_end")
        self._short = Table(view, self.files.end, SHORT, SESSIONS, "sessions_end")
        self._long = Table(view, self._short.end, LONG, LONG_SESSIONS, "long_end")

    @property
    def header(self) -> header:
        """As it is now."""
        return HEADER.read(self.view)

    def change(self, **members: int) -> None:
        """Of the header."""
        self._write(HEADER, 0, members)

    def _write(self, layout: Layout[Any], at: int, members: Mapping[str, int]) -> None:
        """Nothing but these members: others may be written by another thread, and none of them may
        be seen in between, for whoever looks then takes over.
        """
        for name, value in members.items():
            field = layout.field(name)
            start = at + field.offset
            self.view[start : start + field.size] = value.to_bytes(field.size, sys.byteorder)

    def suspect(self, uniques: Iterable[int]) -> dict[int, int]:
        """Note the requests that a front end has left; how often in a row each has been left."""
        end = _SUSPECTS + SUSPECTS * _SUSPECT.size
        known = dict(_SUSPECT.iter_unpack(self.view[_SUSPECTS:end]))
        counts = {unique: known.get(unique, 0) + 1 for unique in uniques}
        noted = sorted(counts.items(), key=lambda item: -item[1])[:SUSPECTS]
        packed = b"".join(_SUSPECT.pack(*item) for item in noted)
        self.view[_SUSPECTS:end] = packed.ljust(end - _SUSPECTS, b"\0")
        return counts

    def suspect_nobody(self) -> None:
        """This front end ends in an orderly way: no request is the reason."""
        self.suspect(())

    def next_fh(self) -> int:
        """A number that no open file has had."""
        at = HEADER.field("fh").offset
        fh = int.from_bytes(self.view[at : at + 8], sys.byteorder) + 1
        self.view[at : at + 8] = fh.to_bytes(8, sys.byteorder)
        return fh

    def add_file(self, fh: int, uid: int, unique: int, thread: int = 0) -> int:
        """The slot of an open file; OSError(ENFILE) where there is none."""
        at = self.files.take()
        if not at:
            raise OSError(errno.ENFILE, "no room for one more open file")
        FILE.pack_into(self.view, at, *file_slot(NEW, uid, fh, unique, thread=thread))
        _WORD.pack_into(self.view, at, USED)
        return at

    def note(self, at: int, **members: int) -> None:
        """Change what is known of the open file in this slot."""
        self._write(FILE, at, members)

    def add_session(self, row: session_slot, key: Buffer, mac_key: Buffer) -> int:
        """A slot that does not count before its state is saved; OSError(ENOSPC) if none is left."""
        size = len(key) + len(mac_key)
        at = self._table(SHORT if KEYS + size <= SHORT else LONG).take()
        if not at:
            raise OSError(errno.ENOSPC, "no room for one more session")
        view, start = self.view, at + KEYS
        STATE.pack_into(view, at, NEW, 0, 0, 0, b"")
        SESSION.pack_into(view, at + STATE.size, *row)
        view[start : start + len(key)] = key
        view[start + len(key) : start + size] = mac_key
        return at

    def sessions(self) -> Iterator[tuple[int, session_slot]]:
        """Those that count, with their slots; as Table.used."""
        for table in (self._short, self._long):
            for at in table.used():
                yield at, SESSION.read(self.view, at + STATE.size)

    def state(self, at: int) -> State:
        """Of the session in this slot."""
        return STATE.unpack_from(self.view, at)

    def save(self, at: int, state: State) -> None:
        """The state of the session in this slot."""
        # Not pack_into, which begins by making it zeros.
        self.view[at : at + STATE.size] = STATE.pack(*state)

    def set_flags(self, at: int, flags: int) -> None:
        """Of the session in this slot."""
        self.view[at + FLAGS : at + FLAGS + 4] = flags.to_bytes(4, sys.byteorder)

    def number(self, at: int) -> int:
        """The number of the session in this slot."""
        return SESSION.read(self.view, at + STATE.size).ses

    def keys(self, at: int) -> tuple[bytearray, bytearray]:
        """Copies of both, to be wiped."""
        row = SESSION.read(self.view, at + STATE.size)
        start = at + KEYS
        middle, end = start + row.key, start + row.key + row.mac_key
        return bytearray(self.view[start:middle]), bytearray(self.view[middle:end])

    def forget_session(self, at: int) -> None:
        """Its keys too."""
        self._table(SHORT if at < self._short.end else LONG).give(at)

    def _table(self, size: int) -> Table:
        return self._short if size == SHORT else self._long
