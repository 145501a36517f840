"""The pool of worker threads of a node, and how many of them read from the kernel.

The kernel hands requests to its readers in turn, and each other thread costs 8 us, for nothing of
it is in the CPU's caches. So one reads and answers, and the others rest, until it is seen that
requests wait, or are about to.

A worker that hangs in the memory of a caller (see turns) is replaced: ``extra`` more may be there
for as long as it hangs. When it comes back, as many go: they take a token of ``surplus`` and end.
"""

import logging
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from cuse_crypto.frontend.worker import Worker

log = logging.getLogger(__name__)

SAMPLE = 16
"""Of so many requests one is looked behind: whether another one waits. A look costs 1.5 us."""

PATIENCE = 32
"""So often in a row has a worker found another one reading before it rests. With two it rests at
once.
"""
Work = Callable[["Worker"], None]
"""What a worker does when it has time."""


class Crew:
    """At most ``limit`` threads, which run what ``new_worker`` gives."""

    def __init__(self, fd: int, limit: int, new_worker: Callable[[], Callable[[], None]]) -> None:
        """``fd``: what is read from; ``new_worker`` is called in trio's thread."""
        self.readers: list[None] = []
        """One item for each that waits in a read. To append and to pop is atomic."""
        self.size = 0
        self.is_full = False
        """One more than the limit has been hired, for all others were stuck: see ``carry``."""
        self.pile: deque[Work] = deque()
        """What waits for the next worker that has time."""
        self.surplus: list[None] = []
        """One item for each worker that has to end. To append and to pop is atomic."""
        self._base, self._extra = limit, 0
        self._new_worker = new_worker
        self._resting: list[threading.Lock] = []
        self._ended = False
        self._fd = fd
        self._hire: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Work until everybody has ended, or until cancelled: who hangs then is left behind."""
        token = trio.lowlevel.current_trio_token()
        # The pool has limits of its own.
        limiter = trio.CapacityLimiter(1)
        async with trio.open_nursery() as nursery:

            def hire() -> None:
                # Whoever called may have been answered by somebody else meanwhile.
                needed = self.pile or not self.readers
                if self.size > self._limit or not needed or self._ended:
                    return
                try:
                    worker = self._new_worker()
                except OSError as error:
                    log.error("no further worker: %s", error.strerror)
                    return
                self._count(1)
                limiter.total_tokens = max(limiter.total_tokens, self.size + 1)
                nursery.start_soon(run_worker, worker)

            async def run_worker(run: Callable[[], None]) -> None:
                await trio.to_thread.run_sync(
                    run, limiter=limiter, thread_name="worker", abandon_on_cancel=True
                )
                self._count(-1)

            self._hire = lambda: token.run_sync_soon(hire)
            hire()

    @property
    def _limit(self) -> int:
        return self._base + self._extra

    def _count(self, more: int) -> None:
        """In trio's thread."""
        self.size += more
        self.is_full = self.size > self._limit

    def replace(self, hung: int) -> None:
        """``hung`` workers hang. In trio's thread."""
        if hung == self._extra:
            return
        self._extra = hung
        self._count(0)
        # One more than the limit may be there: see ``carry``.
        needless = max(0, self.size - self._limit - 1)
        self.surplus[:] = [None] * needless
        for _ in range(min(needless, len(self._resting))):
            self.call()

    def is_surplus(self) -> bool:
        """Whether the worker that asks has to end."""
        try:
            self.surplus.pop()
        except IndexError:
            return False
        return True

    def call(self, last: bool = False) -> None:
        """One more has to read; from any thread. Does nothing where all are at work, unless it is
        time for the ``last`` one, beyond the limit.
        """
        try:
            self._resting.pop().release()
        except IndexError:
            if self.size < self._limit + last:
                self._hire()

    def ensure(self, last: bool = False) -> None:
        """Somebody has to read while the worker that asks is at work."""
        if self.pile or not self.readers:
            self.call(last)

    def all_busy(self) -> bool:
        """Nobody else is left who could read."""
        return self.is_full and not (self.readers or self._resting)

    def carry(self, item: Work) -> None:
        """Lay ``item`` on the pile, where the last one who reads puts what may take long: so it
        sees signals and ends while all the others are stuck.
        """
        self.pile.append(item)
        # Whoever has looked at the pile before has time now.
        if self._resting:
            self.call()

    def watcher(self) -> Callable[[], None]:
        """For one worker: what calls for one more if a request waits and nobody reads."""
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)

        def look_behind() -> None:
            if not self.readers and waiting.poll(0):
                self.call()

        return look_behind

    def rest(self, bed: threading.Lock) -> bool:
        """Sleep until called; False for the end. ``bed`` is the worker's, and locked."""
        self._resting.append(bed)
        if self._ended:
            self.dismiss()
        bed.acquire()
        return not self._ended

    def dismiss(self) -> None:
        """Nothing is left to be read: everybody may go."""
        self._ended = True
        while self._resting:
            self.call()
