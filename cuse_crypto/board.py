"""What a front end shows of itself: shared memory, which it writes and its status process reads.

Looking inside costs the front end nothing but to write down, in place, what has happened: nobody
is asked, and nobody waits. Words are of 8 bytes and aligned, so each is whole whenever it is read.
A region belongs to one worker; only that one writes there. What the reader writes are the wishes
(``TRACE``) and how far it has read (``TAIL``): both may be anything, and harm nobody.
"""

import contextlib
import ctypes
import errno
import itertools
import json
import mmap
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

WORD = 8
TRACE = 1
"""The word that says what is to be written into the rings; 0 for nothing."""
LINES, DATA, KEYS = 1, 2, 4
"""Bits of it: what was asked and how it went; with what was read and written; with keys, too."""
_HIRED, _INFO = 2, 3
_INFO_AT, _HEADER = 1024, 4096

OPENS, CLOSES, DROPPED, HEAD, TAIL = 0, 1, 2, 3, 4
"""Words of a region. The last three are of its ring: records that had no room, and bytes that were
ever written and ever read."""
_FIRST_ROW = 16
LENGTHS, OPERATIONS, NANOSECONDS, BUCKETS, ERRORS = 0, 1, 2, 3, 51
"""Words of a row. In the bucket ``n`` are the ioctls that took from ``2**(n-1)`` to ``2**n - 1``
nanoseconds; those that failed are also counted by errno. Operations are those that worked on
bytes, and lengths the sum of those."""
MOST_ERRNO = 133
_ROW = ERRORS + MOST_ERRNO + 1
ROWS = 16
SHORT_ROW, OTHER = ROWS - 2, ROWS - 1
"""The rows of CIOCCRYPT on the short way, and of ioctls that there are not."""
_REGION = -(-(_FIRST_ROW + ROWS * _ROW) * WORD // mmap.PAGESIZE) * mmap.PAGESIZE

_SEAT = 8
SEATS = 16384
"""Sessions that are shown, at most."""
_OPERATIONS, _BYTES, _STATE, _FILE, _NUMBER, _ALGORITHMS, _WHO, _BEGAN = range(_SEAT)

RING = 8 << 20
"""Bytes of a worker's ring. What it has not touched takes no memory."""
_HEAD = struct.Struct("<II")
"""Before a record: its length and its check sum."""
_RECORD = _HEAD.size


_libc = ctypes.CDLL(None)
_libc.munlock.argtypes = [ctypes.c_size_t, ctypes.c_size_t]


MAP_NORESERVE = 0x4000
"""asm-generic/mman-common.h, the same on x86-64 and aarch64."""


class Seat(NamedTuple):
    """A session, as it is shown. ``thread`` is the one that opened the file; ``began`` is the time
    in nanoseconds; ``cipher`` and ``mac`` are 0 for none."""

    operations: int
    bytes: int
    file: int
    ses: int
    cipher: int
    mac: int
    thread: int
    uid: int
    began: int


class Board:
    """The shared memory of one device; a process that is forked has the same."""

    def __init__(self, workers: int, *, traced: bool = True, more: int = 0) -> None:
        """``workers``: at most; ``traced``: with rings; ``more``: workers beyond, without rings."""
        self.ringed = workers * traced
        self.workers = workers = workers + more
        self._seats = _HEADER + workers * _REGION
        self._rings = self._seats + SEATS * _SEAT * WORD
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self._map = mmap.mmap(-1, self._rings + self.ringed * RING, flags=flags)
        self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self._start = ctypes.c_char.from_buffer(self._map)
        self.traced = traced
        self.words = memoryview(self._map).cast("Q")
        self._hired = itertools.count()
        self._left: list[int] = []

    def tell(self, **facts: Any) -> None:
        """Facts to be shown, once; 3000 bytes as JSON."""
        text = json.dumps(facts).encode()
        if len(text) > _HEADER - _INFO_AT:
            raise ValueError("too much to be shown")
        self._map[_INFO_AT : _INFO_AT + len(text)] = text
        self.words[_INFO] = len(text)

    def told(self) -> dict[str, Any]:
        """Those facts; none before they are told."""
        facts: dict[str, Any] = json.loads(
            self._map[_INFO_AT : _INFO_AT + self.words[_INFO]] or b"{}"
        )
        return facts

    def hire(self) -> int:
        """The number of a region, from 0, which no other worker has. For several threads."""
        with contextlib.suppress(IndexError):
            return self._left.pop()
        number = next(self._hired)
        if number >= self.workers:
            raise OSError(errno.EUSERS, f"no region for worker {number}")
        self.words[_HIRED] = number + 1
        return number

    def leave(self, number: int) -> None:
        """Its worker has ended; what it has counted stays."""
        self._left.append(number)

    def region(self, worker: int) -> memoryview:
        """The words of a worker."""
        start = (_HEADER + worker * _REGION) // WORD
        return self.words[start : start + _REGION // WORD]

    def row(self, worker: int, row: int) -> memoryview:
        """The words in which a worker counts one kind of ioctl."""
        start = _FIRST_ROW + row * _ROW
        return self.region(worker)[start : start + _ROW]

    def sums(self, row: int) -> list[int]:
        """A row, summed over all workers."""
        rows = [self.row(worker, row).tolist() for worker in self._all()]
        return [sum(column) for column in zip(*rows, strict=True)] or [0] * _ROW

    def total(self, word: int) -> int:
        """A word of the regions, summed over all workers."""
        return sum(self.region(worker)[word] for worker in self._all())

    def _all(self) -> range:
        return range(self.words[_HIRED])

    def seat(self, number: int) -> memoryview:
        """The words of a session."""
        start = self._seats // WORD + number * _SEAT
        return self.words[start : start + _SEAT]

    def seats(self) -> Iterator[Seat]:
        """Those that are taken."""
        start = self._seats // WORD
        states = self.words[start + _STATE : start + SEATS * _SEAT : _SEAT].tolist()
        for number, state in enumerate(states):
            if state & 1:
                seat = self.seat(number).tolist()
                # Given to another session meanwhile, it has another state.
                if self.seat(number)[_STATE] == seat[_STATE] == state:
                    yield _shown(seat)

    def ring(self, worker: int) -> memoryview:
        """The bytes of a worker's ring."""
        start = self._rings + worker * RING
        return memoryview(self._map)[start : start + RING]

    def forget(self) -> None:
        """Give back the memory of the rings, and what is in it."""
        if self.traced:
            # From memory that is locked no pages can be taken.
            _libc.munlock(ctypes.addressof(self._start) + self._rings, self.ringed * RING)
            self._map.madvise(mmap.MADV_REMOVE, self._rings, self.ringed * RING)


def _shown(seat: list[int]) -> Seat:
    algorithms, who = seat[_ALGORITHMS], seat[_WHO]
    return Seat(
        *(seat[_OPERATIONS], seat[_BYTES], seat[_FILE], seat[_NUMBER]),
        *(algorithms >> 32, algorithms & 0xFFFFFFFF, who >> 32, who & 0xFFFFFFFF),
        seat[_BEGAN],
    )


class Seats:
    """The seats of one board, and who gives them out: the front end. From any thread."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._fresh = itertools.count()
        self._returned: list[int] = []
        self._taken: dict[tuple[int, int], int] = {}

    def take(self, seat: Seat) -> Any:
        """Where this session counts its operations (0) and bytes (1); shown if there is room."""
        try:
            number = self._returned.pop()
        except IndexError:
            number = next(self._fresh)
            if number >= SEATS:
                return [0, 0]
        words = self._board.seat(number)
        self._taken[seat.file, seat.ses] = number
        words[_OPERATIONS] = words[_BYTES] = 0
        words[_FILE], words[_NUMBER], words[_BEGAN] = seat.file, seat.ses, seat.began
        words[_ALGORITHMS] = seat.cipher << 32 | seat.mac
        words[_WHO] = seat.thread << 32 | seat.uid
        words[_STATE] += 1
        return words

    def give(self, file: int, ses: int) -> None:
        """The session has ended; nothing is counted there any more."""
        number = self._taken.pop((file, ses), None)
        if number is not None:
            self._board.seat(number)[_STATE] += 1
            self._returned.append(number)


class RingWriter:
    """The end of a ring that belongs to its worker."""

    def __init__(self, board: Board, worker: int) -> None:
        self._words, self._ring = board.region(worker), board.ring(worker)
        self._size = len(self._ring)

    def put(self, record: bytes) -> None:
        """Append it, or count it as dropped."""
        words, size = self._words, self._size
        head, whole = words[HEAD], len(record) + _RECORD
        used = head - words[TAIL]
        if not 0 <= used <= size - whole:
            words[DROPPED] += 1
            return
        data, at = _HEAD.pack(len(record), zlib.crc32(record)) + record, head % size
        if at + whole <= size:
            self._ring[at : at + whole] = data
        else:
            self._ring[at:] = data[: size - at]
            self._ring[: whole - size + at] = data[size - at :]
        words[HEAD] = head + whole


class RingReader:
    """The end of a ring that belongs to whoever looks inside."""

    def __init__(self, board: Board, worker: int) -> None:
        self._words, self._ring = board.region(worker), board.ring(worker)
        self._size = len(self._ring)

    def skip(self) -> None:
        """Nothing of what is there is wanted."""
        self._words[TAIL] = self._words[HEAD]

    def take(self) -> Iterator[bytes]:
        """The records that are there; those that are not wholly written are left."""
        end = self._words[HEAD]
        while (tail := self._words[TAIL]) < end:
            head = self._lift(tail, _RECORD)
            length, check = _HEAD.unpack(head)
            if length > end - tail - _RECORD:
                return
            record = self._lift(tail + _RECORD, length)
            # Another processor may see the head before it sees what is in front of it.
            if zlib.crc32(record) != check:
                return
            self._words[TAIL] = tail + _RECORD + length
            yield record

    def _lift(self, position: int, length: int) -> bytes:
        at = position % self._size
        first = min(length, self._size - at)
        return bytes(self._ring[at : at + first]) + bytes(self._ring[: length - first])
