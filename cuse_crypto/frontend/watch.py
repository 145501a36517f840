"""What a worker writes on the board: what has been done, and while somebody traces, how.

An ioctl is counted before it is answered, so whoever has its answer finds it counted.
"""

import marshal
import os
import time
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any, NamedTuple

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.ioctls import Ioctl
from cuse_crypto.board import (
    DATA,
    KEYS,
    OTHER,
    TRACE,
    Board,
    RingWriter,
)
from cuse_crypto.frontend.counters import Counters
from cuse_crypto.frontend.crypt import DST, IV
from cuse_crypto.frontend.marks import WHOLE, Changing, Marks
from cuse_crypto.frontend.marshal import ARGUMENT
from cuse_crypto.frontend.memory import DirectMemory, Piece, Range, RetriedMemory
from cuse_crypto.fuse.protocol import IoctlFlag, Request
from cuse_crypto.layout import Width

if TYPE_CHECKING:
    from cuse_crypto.frontend.files import OpenFile
    from cuse_crypto.frontend.queue import Queue
    from cuse_crypto.wire.messages import Message

HASHED = 1024
"""So many bytes of a segment, from its start, go into what is shown of it."""
LONGEST = 6 << 20
"""Bytes of one ioctl; those beyond are not written down."""
_SALT = os.urandom(16)
"""So that what is shown of a segment can be compared with another one, but not guessed."""
_SECRET_HASH = os.environ.get("PYTHONHASHSEED", "random") == "random"
_REQUEST_SIZE = ARGUMENT + max(
    ioctls.layout_of(row, 64).size for row in ioctls.IOCTLS if row.name == "CIOCCRYPT"
)
_KEYS = {"key", "mackey"}

Part = tuple[int, int, int | None, bytes | None]
"""Of the caller's memory: address, length, what is shown of it, and the bytes where they are
wanted. Of a key it is only address and length, where keys are not wanted."""
Hop = tuple[int, int, Any]
"""What was done, until when (nanoseconds of the clock), and with what."""
SHORT = 0
"""What a record of the short way begins with; all others begin with a time."""
READ, ASKED, WRITTEN = 0, 1, 2
"""Hops: of the caller's memory, by the back end (a message's type, sizes of what was sent, sizes of
what came back, status), to the caller's memory."""


class Deferral(NamedTuple):
    """An ioctl that is answered later: what is known of it."""

    header: Any
    body: Any
    began: int
    wants: int
    argument: bytes


class Watch:
    """One worker's part of the board."""

    def __init__(self, board: Board, rows: tuple[Ioctl, ...], queue: "Queue", marks: Marks) -> None:
        self._worker = worker = board.hire()
        self._words, self.counters = board.words, Counters(board, worker)
        self._view, self._queue = queue.arena.view, queue
        self._rows = _rows(board, worker, rows)
        self._other = board.row(worker, OTHER)
        self._ring = RingWriter(board, worker)
        self._direct = _TracedMemory(queue.arena, marks, self)
        self._request: Request | None = None
        self._began = 0
        self._file: OpenFile | None = None
        self._wants = 0
        self._hops: list[Hop] = []
        self._argument = b""
        self._after = b""
        """The structure, before anything is done, and as its caller gets it back."""
        self._held = 0
        """Bytes that were copied."""

    def leave_board(self, board: Board) -> None:
        """Nothing more is written by this."""
        self.counters.publish()
        board.leave(self._worker)

    def trace_short(
        self, times: tuple[int, int, int], error: int, message: tuple[int, ...]
    ) -> None:
        """Write down an ioctl of the short way.

        ``times``: when it began, was read, and answered by the back end. ``message``: its type,
        the size of the IV, the length, and the caller's addresses of IV, source and destination.
        """
        view, wants = self._view, self._words[TRACE]
        (began, read, asked), (_, iv_size, length, _, _, _) = times, message
        start, now = IV + iv_size, clock()
        places = (IV, iv_size), (start, length), (DST, length)
        shown = [_shown(view[at : at + min(size, HASHED)]) for at, size in places]
        data = None
        if wants & DATA and length <= LONGEST:
            data = [bytes(view[at : at + size]) for at, size in places]
        when = time.time_ns(), now - began, read - began, asked - began
        # As it came: taken apart by whoever reads it, and not in its caller's time.
        request = bytes(view[:_REQUEST_SIZE])
        self._ring.put(marshal.dumps((SHORT, *when, error, message, request, shown, data)))

    def begin(self, request: Request, file: "OpenFile") -> None:
        """An ioctl is about to be done."""
        self._request, self._file, self._began = request, file, clock()
        wants = self._words[TRACE]
        if wants or self._wants:
            self._wants, self._hops = wants, []
            self._argument = self._after = self._brought(request.body)
            self._held = 0
            self._queue.watch = self._asked if wants else None

    def memory(
        self, memory: DirectMemory | RetriedMemory, thread: int
    ) -> DirectMemory | RetriedMemory:
        """What is to be used in its place."""
        if not self._wants:
            return memory
        if isinstance(memory, DirectMemory):
            self._direct.pid = thread
            return self._direct
        return _TracedRetriedMemory(memory, self)

    def leave(self) -> None:
        """It will come again, and is counted then."""
        self._request = None

    def defer(self) -> Deferral | None:
        """It is counted and written down by a DeferredWatch."""
        request, self._request = self._request, None
        if request is None:
            return None
        return Deferral(request.header, request.body, self._began, self._wants, self._argument)

    def end(self, error: int) -> None:
        """Count it and write it down, before it is answered with ``error``. Once."""
        request, self._request = self._request, None
        if request is None:
            return
        body = request.body
        row, words = self._row(body.cmd, body.flags)
        self.counters.other(words, self._began, error)
        if not error and row and "len" in row.argument._fields and row.name != "CIOCASYNCFETCH":
            op = ioctls.layout_of(row, _width(body.flags)).read(self._view, ARGUMENT)
            session = self._file.sessions.get(getattr(op, "ses", 0)) if self._file else None
            self.counters.worked(words, session, op.len)
        if self._wants:
            self._queue.watch = None
            self._write(request.header, body, error)

    def _row(self, cmd: int, flags: int) -> tuple[Ioctl | None, memoryview]:
        return self._rows[_width(flags)].get(cmd) or (None, self._other)

    def _asked(self, message: "Message", readable: Any, writable: Any, reply: Any) -> None:
        """The back end has answered."""
        sizes = tuple(map(len, reply.segments)) or writable
        if not any(sizes[2:]):
            # Only OFB has a chaining value there.
            sizes = sizes[:2]
        self._hops.append((ASKED, clock(), (message.type, tuple(readable), sizes, reply.status)))

    def touched(self, hop: int, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Memory of the caller has been copied: these addresses and bytes."""
        if self._request is None or not pieces:
            return
        self._keep_structure(self._request.body, hop, *pieces[-1])
        secret, wants = self._secret_addresses(self._request.body), self._wants
        self._held += sum(len(data) for _, data in pieces)
        if self._held > LONGEST:
            wants &= ~DATA
        parts = tuple(
            (address, len(data), None, None)
            if address in secret and not wants & KEYS
            else _part(address, data, wants)
            for address, data in pieces
        )
        self._hops.append((hop, clock(), parts))

    def _keep_structure(self, body: Any, hop: int, address: int, data: memoryview) -> None:
        """It is read before all else, where the kernel has not brought it, and written last."""
        row, _ = self._row(body.cmd, body.flags)
        if row is None or address != body.arg or len(data) != self._size(body):
            return
        if hop == READ and row.direction & ioctls.CALLER_WRITES and not self._argument:
            self._argument = self._after = bytes(data)
        # A program may have its data there as well.
        if hop == WRITTEN and (self._lies_there(data) or not (row.readable or row.writable)):
            self._after = bytes(data)

    def _lies_there(self, data: memoryview) -> bool:
        return data == self._view[ARGUMENT : ARGUMENT + len(data)]

    def _brought(self, body: Any) -> bytes:
        """What the kernel has copied of it; else another one may lie there."""
        row, _ = self._row(body.cmd, body.flags)
        came = row and row.direction & ioctls.CALLER_WRITES
        return self._structure(body) if came and not body.flags & IoctlFlag.UNRESTRICTED else b""

    def _structure(self, body: Any) -> bytes:
        """As it is now. What lies behind it may be a key: the kernel has put it there."""
        return bytes(self._view[ARGUMENT : ARGUMENT + self._size(body)])

    def _size(self, body: Any) -> int:
        row, _ = self._row(body.cmd, body.flags)
        return ioctls.layout_of(row, _width(body.flags)).size if row else 0

    def _secret_addresses(self, body: Any) -> set[int]:
        """Where the caller has its keys, if this ioctl brings any."""
        row, _ = self._row(body.cmd, body.flags)
        members = {segment.pointer for segment in row.readable} & _KEYS if row else set()
        if row is None or not members:
            return set()
        op = ioctls.layout_of(row, _width(body.flags)).read(self._view, ARGUMENT)
        return {getattr(op, member) for member in members}

    def _write(self, header: Any, body: Any, error: int) -> None:
        began = self._began
        later = [(kind, until - began, parts) for kind, until, parts in self._hops]
        structures = self._argument, self._after
        self._ring.put(_record(header, body, began, error, structures, later))


class DeferredWatch:
    """The same of ioctls that no worker answers. Of one thread."""

    def __init__(self, board: Board, rows: tuple[Ioctl, ...]) -> None:
        self._board, self._table = board, rows

    @cached_property
    def _worker(self) -> int:
        return self._board.hire()

    @cached_property
    def _counters(self) -> Counters:
        return Counters(self._board, self._worker)

    @cached_property
    def _ring(self) -> RingWriter:
        return RingWriter(self._board, self._worker)

    @cached_property
    def _rows(self) -> "_Rows":
        return _rows(self._board, self._worker, self._table)

    def end(self, what: Deferral | None, error: int) -> None:
        """As Watch.end."""
        if what is None:
            return
        _, words = self._rows[_width(what.body.flags)][what.body.cmd]
        self._counters.other(words, what.began, error)
        if what.wants:
            structures = what.argument, what.argument
            self._ring.put(_record(what.header, what.body, what.began, error, structures, []))


_Rows = dict[Width, dict[int, tuple[Ioctl, memoryview]]]


def _rows(board: Board, worker: int, rows: tuple[Ioctl, ...]) -> _Rows:
    """By number of the ioctl: its row, and where a worker counts it."""
    return {
        width: {
            number: (row, board.row(worker, index))
            for index, row in enumerate(rows)
            for number in row.numbers(width)
        }
        for width in _WIDTHS
    }


def _record(
    header: Any, body: Any, began: int, error: int, structures: tuple[bytes, bytes], hops: list[Hop]
) -> bytes:
    now = clock()
    fixed = time.time_ns() - (now - began), now - began, header.pid, header.uid
    what = body.fh, body.cmd, body.flags, body.arg, error, *structures
    # Both ends are the same program, and this is the quickest that it has.
    return marshal.dumps((*fixed, *what, hops))


_WIDTHS: tuple[Width, Width] = 32, 64


def _width(flags: int) -> Width:
    return 32 if flags & IoctlFlag.COMPAT else 64


def _part(address: int, data: memoryview, wants: int) -> Part:
    wanted = wants & DATA and len(data) <= LONGEST
    return address, len(data), _shown(data[:HASHED]), bytes(data) if wanted else None


def _shown(data: memoryview) -> int:
    """For each process another one (SipHash), unless PYTHONHASHSEED has been set to a number."""
    return hash(bytes(data)) if _SECRET_HASH else hash(blake2b(data, key=_SALT).digest())


class _Traced:
    """Memory that tells what has been copied."""

    watch: Watch
    _view: memoryview

    def _read(self, ranges: Sequence[Range], offset: int) -> None:
        pieces = []
        for address, length in ranges:
            pieces.append((address, self._view[offset : offset + length]))
            offset += length
        self.watch.touched(READ, pieces)

    def _written(self, pieces: Sequence[Piece]) -> None:
        found = [(address, self._view[at : at + length]) for address, at, length in pieces]
        self.watch.touched(WRITTEN, found)


class _TracedMemory(_Traced, DirectMemory):
    def __init__(self, arena: Any, marks: Marks, watch: Watch) -> None:
        super().__init__(arena, marks)
        self.watch = watch

    def copy_from_user(
        self, ranges: Sequence[Range], offset: int, writable: Sequence[Range] = ()
    ) -> None:
        super().copy_from_user(ranges, offset, writable)
        if ranges:
            self._read(ranges, offset)

    def copy_to_user(self, pieces: Sequence[Piece]) -> None:
        super().copy_to_user(pieces)
        self._written(pieces)

    def commit(self, pieces: Sequence[Piece], what: Changing, done: int = WHOLE) -> None:
        super().commit(pieces, what, done)
        self._written(pieces)


class _TracedRetriedMemory(_Traced, RetriedMemory):
    def __init__(self, memory: RetriedMemory, watch: Watch) -> None:
        vars(self).update(vars(memory))
        self.watch = watch

    def copy_from_user(
        self, ranges: Sequence[Range], offset: int, writable: Sequence[Range] = ()
    ) -> None:
        super().copy_from_user(ranges, offset, writable)
        if ranges:
            self._read(ranges, offset)

    def copy_to_user(self, pieces: Sequence[Piece]) -> None:
        super().copy_to_user(pieces)
        self._written(pieces)
