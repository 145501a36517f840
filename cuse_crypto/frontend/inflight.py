"""The requests under way, and the right to answer each of them.

States of a request, from when a worker has read it until it is answered:

    waiting   It waits for its user's turn or for the back end, or its caller's memory is read.
    claimed   Its worker alone answers it, and may be writing to its caller's memory.
    gone      It is answered, or the kernel answers it.

waiting -> claimed: its worker, by ``claim`` or, on the fast path, by the same two steps.
waiting -> gone: by ``take``, whose caller then answers: the watchdog with EINTR, the broker of
CRIOGET, and the fast path, which has its worker enter the request again instead. By ``close``, at
the end of the device, for the kernel lets all callers go then. claimed -> gone: its worker, by
``finish``.

``dict.pop`` is atomic: of two that move a request out of a state, one succeeds. A claim is entered
in ``claimed`` before it is taken out of ``waiting``: once the table is closed and ``claimed`` is
empty, no caller's memory is written any more.

A crash leaves no request answered twice: the kernel sends all that is unanswered to the successor,
which finds in the redo log what was claimed and begun.
"""

import contextlib
import errno


class AlreadyReplied(Exception):
    """The request is answered, or another one answers it."""


class Deferred(Exception):
    """Another one serves the request later."""


class InflightRequests:
    """Both tables, by ``unique``, with the callers' thread ids. For several threads."""

    def __init__(self) -> None:
        self.waiting: dict[int, int] = {}
        self.claimed: dict[int, int] = {}
        self.closed = False
        """Nothing can be claimed any more."""
        self.dying: set[int] = set()
        """Claimed requests whose callers die: what has begun need not be ended."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self.claimed)

    def __contains__(self, unique: int) -> bool:
        return unique in self.waiting or unique in self.claimed

    def add(self, unique: int, thread: int) -> None:
        """One more, of the caller ``thread``."""
        self.waiting[unique] = thread

    def take(self, unique: int) -> bool:
        """Whether it was there: then it is gone, and the caller of this answers."""
        return self.waiting.pop(unique, None) is not None

    def thread(self, unique: int) -> int | None:
        """The caller's; None if the request is gone."""
        waiting = self.waiting.get(unique)
        return self.claimed.get(unique) if waiting is None else waiting

    def close(self) -> None:
        """All that wait are gone, and so is what comes later."""
        self.closed = True
        self.waiting.clear()


class InflightRequest:
    """One request, as the worker that serves it has it."""

    __slots__ = ("_claimed", "_table", "_thread", "unique")

    def __init__(self, table: InflightRequests, unique: int) -> None:
        """One that has been entered into the table."""
        self.unique = unique
        self._table = table
        self._thread = table.waiting.get(unique, 0)
        self._claimed = False

    @property
    def is_gone(self) -> bool:
        """Another one has answered it, or will."""
        return not self._claimed and self.unique not in self._table.waiting

    def claim(self) -> None:
        """From here on only its worker answers it; AlreadyReplied if another one does.

        When claimed before: OSError(EINTR) if the caller is dying.
        """
        table, unique = self._table, self.unique
        if self._claimed:
            if unique in table.dying:
                raise OSError(errno.EINTR, "the caller is dying")
            return
        table.claimed[unique] = self._thread
        if table.waiting.pop(unique, None) is None or table.closed:
            del table.claimed[unique]
            raise AlreadyReplied
        self._claimed = True

    def settle(self) -> bool:
        """Claim it, if that has not been done; whether its worker has to answer it."""
        if not self._claimed:
            with contextlib.suppress(AlreadyReplied):
                self.claim()
        return self._claimed

    def is_abandoned(self) -> bool:
        """No answer is waited for: another thread has given it, or the caller dies."""
        return self.unique in self._table.dying if self._claimed else self.is_gone

    def finish(self) -> None:
        """It is answered."""
        table, unique = self._table, self.unique
        table.waiting.pop(unique, None)
        table.claimed.pop(unique, None)
        table.dying.discard(unique)
