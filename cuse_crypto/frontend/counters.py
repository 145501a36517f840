"""What one worker counts: of the short way in its own memory, of all else on the board.

The short way can afford four additions to a list, no more. They are brought to the board whenever
the patrol comes by, within 20 ms, and when the worker turns to another session.
"""

import threading
from array import array
from time import perf_counter_ns as clock
from typing import Any

from cuse_crypto.board import (
    BUCKETS,
    CLOSES,
    ERRORS,
    LENGTHS,
    MOST_ERRNO,
    NANOSECONDS,
    OPENS,
    OPERATIONS,
    SHORT_ROW,
    Board,
)
from cuse_crypto.frontend.files import Session


class Counters:
    """Those of one worker, in its region of the board."""

    def __init__(self, board: Board, worker: int) -> None:
        self._region = board.region(worker)
        self._row = board.row(worker, SHORT_ROW)
        self.totals: list[int] = self._row[:ERRORS].tolist()
        """Of the short way: the words of a row, without errors."""
        self.session: Session | None = None
        """Whose operations are being counted there; ``turn`` before those of another one."""
        self._operations, self._bytes = self.totals[OPERATIONS], self.totals[LENGTHS]
        self._turning = threading.Lock()

    def turn(self, session: Session | None) -> None:
        """Operations of another session follow."""
        with self._turning:
            self._settle()
            self.session = session

    def publish(self) -> None:
        """Bring the short way's counts to the board; from any thread."""
        if self.totals[OPERATIONS] == self._row[OPERATIONS]:
            return
        with self._turning:
            self._settle()
            self._row[:ERRORS] = memoryview(array("Q", self.totals))

    def _settle(self) -> None:
        """The session's share. No other thread runs between the two reads and two writes: the
        interpreter changes it at calls and jumps alone."""
        totals = self.totals
        operations, total = totals[OPERATIONS], totals[LENGTHS]
        if self.session:
            use = self.session.use
            use[0] += operations - self._operations
            use[1] += total - self._bytes
        self._operations, self._bytes = operations, total

    def short_error(self, began: int, error: int) -> None:
        """Count an ioctl of the short way that failed."""
        took, totals = clock() - began, self.totals
        self._row[ERRORS + error] += 1
        totals[NANOSECONDS] += took
        totals[BUCKETS + took.bit_length()] += 1
        self._row[NANOSECONDS:ERRORS] = memoryview(array("Q", totals[NANOSECONDS:]))

    def other(self, row: Any, began: int, error: int) -> None:
        """Count any other ioctl in its row of the board."""
        took = clock() - began
        row[NANOSECONDS] += took
        row[BUCKETS + took.bit_length()] += 1
        if error:
            row[ERRORS + min(error, MOST_ERRNO)] += 1

    def worked(self, row: Any, session: Session | None, length: int) -> None:
        """What an ioctl that did not fail has done."""
        row[LENGTHS] += length
        row[OPERATIONS] += 1
        if session:
            use = session.use
            use[0] += 1
            use[1] += length

    def opened(self) -> None:
        """Count an open file."""
        self._region[OPENS] += 1

    def closed(self) -> None:
        """Count the last close of one."""
        self._region[CLOSES] += 1
