"""``copy_from_user`` and ``copy_to_user``: the memory of a caller that sleeps in its ioctl.

*Direct*: process_vm_readv(2) and process_vm_writev(2). Safe from reuse of the pid, since the
calling thread cannot leave the kernel before it is answered. *Retried*: the kernel copies for us
and repeats the request (FUSE_IOCTL_RETRY); only a CUSE node may ask for that.
"""

import errno
import os
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import cffi

from cuse_crypto.frontend.arena import SCRATCH, Arena
from cuse_crypto.frontend.ledger import Ledger
from cuse_crypto.frontend.marks import WHOLE, Changing, Marks
from cuse_crypto.fuse import protocol

_VECTORS = 1024
"""Bytes for the vectors of either side."""
_LOCAL, _REMOTE = SCRATCH, SCRATCH + _VECTORS
_COMMITTED = SCRATCH + 2 * _VECTORS
CAP_SYS_PTRACE = 19

# cffi, for a call takes 1.9 us by it, and 3.6 us by ctypes.
_ffi = cffi.FFI()
_ffi.cdef(
    """
    ssize_t process_vm_readv(int, size_t, unsigned long, size_t, unsigned long, unsigned long);
    ssize_t process_vm_writev(int, size_t, unsigned long, size_t, unsigned long, unsigned long);
    """
)
_libc: Any = _ffi.dlopen(None)
readv, writev = _libc.process_vm_readv, _libc.process_vm_writev
"""As the system calls; vectors are given by their addresses. -1 for an error."""


class Range(NamedTuple):
    """``length`` bytes at the caller's ``address``."""

    address: int
    length: int


class Piece(NamedTuple):
    """``length`` bytes at ``offset`` of the arena that belong at the caller's ``address``."""

    address: int
    offset: int
    length: int


class Unreachable(Exception):
    """The memory of this caller may not be touched from here."""


class Retry(Exception):
    """The kernel has to copy ``readable``, make room for ``writable``, and ask again."""

    def __init__(self, readable: Sequence[Range], writable: Sequence[Range]) -> None:
        super().__init__()
        self.readable = readable
        self.writable = writable


class CallerMemory(Protocol):
    """Either way to the caller's memory."""

    announces: bool
    """Whether ``writable`` matters."""

    def copy_from_user(
        self, ranges: Sequence[Range], offset: int, writable: Sequence[Range] = ()
    ) -> None:
        """Copy ``ranges``, one behind the other, to ``offset`` of the arena.

        ``writable`` says what copy_to_user will be given. OSError(EFAULT) when a byte is missing.
        """

    def copy_to_user(self, pieces: Sequence[Piece]) -> None:
        """Copy out of the arena. Fault at the first byte that cannot be written."""

    def commit(self, pieces: Sequence[Piece], what: Changing, done: int = WHOLE) -> None:
        """As copy_to_user, and ``what`` is saved, for what must not be done twice: should this
        process die meanwhile, its successor does the rest.

        ``done``: bytes of the operation, if these pieces are not its last.
        """


class Fault(OSError):
    """EFAULT, after ``copied`` bytes."""

    def __init__(self, copied: int = 0) -> None:
        super().__init__(errno.EFAULT, "bad address")
        self.copied = copied


class DirectMemory:
    """The caller's memory by system call; one object serves a worker for all its callers."""

    announces = False

    def __init__(self, arena: Arena, marks: Marks) -> None:
        self._view = arena.view
        self._base = arena.address
        self._marks = marks
        self.pid = 0

    def copy_from_user(
        self, ranges: Sequence[Range], offset: int, writable: Sequence[Range] = ()
    ) -> None:
        """One process_vm_readv."""
        if not ranges:
            return
        vector = [number for item in ranges for number in item]
        total = sum(vector[1::2])
        struct.pack_into("=2Q", self._view, _LOCAL, self._base + offset, total)
        try:
            struct.pack_into(f"={len(vector)}Q", self._view, _REMOTE, *vector)
        except struct.error:
            raise Fault from None
        local, remote = self._base + _LOCAL, self._base + _REMOTE
        copied = readv(self.pid, local, 1, remote, len(ranges), 0)
        if copied != total:
            self._failed(copied)

    def copy_to_user(self, pieces: Sequence[Piece]) -> None:
        """One process_vm_writev."""
        if pieces:
            self._write(*self._lay(pieces))

    def commit(self, pieces: Sequence[Piece], what: Changing, done: int = WHOLE) -> None:
        """The vectors stay where they are, for whoever has to write again."""
        count, local, remote, total = self._lay(pieces, _COMMITTED)
        self._marks.redo(self.pid, (count, local, remote), done, what)
        if done == WHOLE:
            what.save()
        if pieces:
            self._write(count, local, remote, total)
        if done != WHOLE:
            self._marks.redo(self.pid, (0, 0, 0), done, what)

    def _lay(self, pieces: Sequence[Piece], at: int = _LOCAL) -> tuple[int, int, int, int]:
        """Vectors for all of it: their number, addresses, and the bytes that they name."""
        base = self._base
        sources = [number for _, at, length in pieces for number in (base + at, length)]
        targets = [number for address, _, length in pieces for number in (address, length)]
        form = f"={len(sources)}Q"
        struct.pack_into(form, self._view, at, *sources)
        try:
            struct.pack_into(form, self._view, at + _VECTORS, *targets)
        except struct.error:
            raise Fault from None
        return len(pieces), base + at, base + at + _VECTORS, sum(sources[1::2])

    def _write(self, count: int, local: int, remote: int, total: int) -> None:
        copied = writev(self.pid, local, count, remote, count, 0)
        if copied != total:
            self._failed(copied)

    def _failed(self, copied: int) -> None:
        error = _ffi.errno
        if copied < 0 and error == errno.ESRCH:
            # The caller was killed, and has been answered.
            raise OSError(errno.EINTR, "the caller has gone")
        if copied < 0 and error in (errno.EPERM, errno.ENOSYS):
            raise Unreachable(f"process {self.pid}: errno {error}")
        raise Fault(max(copied, 0))


class RetriedMemory:
    """The caller's memory as the kernel passed it along with one request.

    ``payload`` holds the ranges asked for in the round before, one behind the other; the ranges
    are derived afresh in every round, so nothing is remembered between rounds.
    """

    announces = True

    def __init__(
        self, arena: Arena, marks: Marks, ledger: Ledger, payload: memoryview, out_size: int
    ) -> None:
        self._view = arena.view
        self._marks, self._ledger = marks, ledger
        self._payload = payload
        self._out_size = out_size
        self._readable: list[Range] = []
        self._used = 0
        self.output: list[memoryview] = []

    def copy_from_user(
        self, ranges: Sequence[Range], offset: int, writable: Sequence[Range] = ()
    ) -> None:
        """From the payload; Retry when it or the room for results is not as large as needed."""
        self._readable += ranges
        total = sum(length for _, length in ranges)
        room = sum(length for _, length in writable)
        if max(total, room) > protocol.MAX_TRANSFER:
            raise OSError(errno.ENOMEM, "more than the kernel copies for a server")
        part = self._payload[self._used : self._used + total]
        if len(part) < total or room > self._out_size:
            raise Retry(self._readable, writable)
        self._used += total
        self._view[offset : offset + total] = part

    def forget(self, length: int) -> None:
        """Wipe the last ``length`` bytes that have been copied, where they came from."""
        self._payload[self._used - length : self._used] = bytes(length)

    def copy_to_user(self, pieces: Sequence[Piece]) -> None:
        """Keeps what the kernel is to copy; the ranges are those that were announced."""
        self.output += [self._view[at : at + length] for _, at, length in pieces]

    def commit(self, pieces: Sequence[Piece], what: Changing, done: int = WHOLE) -> None:
        """The caller's memory stays as it is until the answer: it could all be done again."""
        if what.slot:
            self._marks.undo(what.slot, what.ses, self._ledger.state(what.slot))
        what.save()
        self.copy_to_user(pieces)


def why_not_direct() -> str | None:
    """Why caller memory cannot be reached directly, with the remedy; None if it can be."""
    arena = Arena()
    memory = DirectMemory(arena, Marks(arena))
    memory.pid = os.getpid()
    try:
        memory.copy_from_user([Range(arena.address, 1)], _REMOTE + _VECTORS)
    except Unreachable:
        return "process_vm_readv is forbidden here; allow it in the seccomp filter"
    with open("/proc/self/status") as status:
        capabilities = next(int(line.split()[1], 16) for line in status if "CapEff" in line)
    if not capabilities >> CAP_SYS_PTRACE & 1:
        return "other users' memory is closed; run as root, or grant CAP_SYS_PTRACE"
    return None
