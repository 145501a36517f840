"""How far a worker has come with its request, for who takes over when this process is killed.

A request of which nothing is marked is executed as if it were new: nothing has been changed. Before
the first byte of a result goes to the caller it is marked *redo*: the vectors of process_vm_writev
are there, and what they name too, so whoever has this memory can write again what was written by
half. Where the kernel does the copying, and does it with the answer, it is marked *undo*: the
session is as before.

There are two marks, used in turn: one of them is whole at any moment.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from cuse_crypto.frontend.arena import MARKS, Arena
from cuse_crypto.frontend.ledger import State
from cuse_crypto.fuse.protocol import FUSE_UNIQUE_RESEND

UNDO = 0
"""``done`` of a mark that says what the session was before."""
WHOLE = (1 << 64) - 1
"""``done`` of a mark after which only the answer is missing."""
LOST = WHOLE - 1
"""``done`` of one after which nobody else can go on."""
MARK = struct.Struct("=IIQQQQIIIII16s4xQ")
"""pid, count, local, remote, done, slot; the session's number and state; ``unique``, which is
written last.
"""
SIZE = 128
BASE = MARKS + 2 * SIZE
_BASE = struct.Struct("=Q")
"""Where the arena's address in its first process is noted."""


class Mark(NamedTuple):
    """``vectors`` at the addresses ``local`` and ``remote``, of an arena that was at ``base``;
    ``done`` bytes of the operation, these included, or one of the above; ``state`` for the session
    ``ses`` at ``slot`` of the ledger, if that is not 0.
    """

    unique: int
    pid: int
    vectors: int
    local: int
    remote: int
    done: int
    slot: int
    ses: int
    state: State
    base: int

    @property
    def progress(self) -> tuple[int, bool]:
        """The more of two marks counts; of two for the same part, that which has it written."""
        return self.done, not self.vectors


class Changing(Protocol):
    """What an operation changes besides the caller's memory: a session, mostly."""

    @property
    def slot(self) -> int:
        """In the ledger, or 0."""

    @property
    def ses(self) -> int:
        """The session's number."""

    @property
    def state(self) -> State:
        """After the change."""

    def save(self) -> None:
        """Have it changed, once that is marked."""


class Marks:
    """The marks of one worker, in its arena. ``unique`` is that of its request."""

    def __init__(self, arena: Arena) -> None:
        self.unique = 0
        self._view = arena.view
        self._turn = 0
        _BASE.pack_into(arena.view, BASE, arena.address)

    def redo(self, pid: int, vectors: tuple[int, int, int], done: int, what: Changing) -> None:
        """``vectors``: their number, and the addresses of the local and of the remote ones."""
        self._mark(pid, *vectors, done, what.slot, what.ses, *what.state)

    def undo(self, slot: int, ses: int, state: State) -> None:
        """``state`` is what the session has been until now."""
        self._mark(0, 0, 0, 0, UNDO, slot, ses, *state)

    def _mark(self, *members: int | bytes) -> None:
        MARK.pack_into(self._view, MARKS + self._turn, *members, self.unique)
        self._turn ^= SIZE


def read(arena: Arena) -> Iterator[Mark]:
    """What a predecessor has marked, with local addresses as they are here."""
    (base,) = _BASE.unpack_from(arena.view, BASE)
    for at in (MARKS, MARKS + SIZE):
        read = MARK.unpack_from(arena.view, at)
        pid, count, local, remote, done, slot, ses, *state, unique = read
        if unique:
            local, remote = (address - base + arena.address for address in (local, remote))
            unique &= ~FUSE_UNIQUE_RESEND
            yield Mark(unique, pid, count, local, remote, done, slot, ses, (*state,), base)
