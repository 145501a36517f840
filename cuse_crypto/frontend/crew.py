"""The workers of a node, and how many of them read from the kernel: as few as keep up.

The kernel hands requests to its readers in turn, and each other thread costs 8 us, for nothing of
it is in the CPU's caches. So one reads and answers, and the others rest, until it is seen that
requests wait, or are about to.
"""

import logging
import select
import threading
from collections import deque
from collections.abc import Callable

import trio

from cuse_crypto.frontend.files import OpenFile

log = logging.getLogger(__name__)

SAMPLE = 16
"""Of so many requests one is looked behind: whether another one waits. A look costs 1.5 us."""

PATIENCE = 32
"""So often in a row has a worker found another one reading before it rests. With two it rests at
once.
"""


class Crew:
    """At most ``limit`` threads, which run what ``new_worker`` gives."""

    def __init__(self, fd: int, limit: int, new_worker: Callable[[], Callable[[], None]]) -> None:
        """``fd``: what is read from; ``new_worker`` is called in trio's thread."""
        self.readers: list[None] = []
        """One item for each that waits in a read. To append and to pop is atomic."""
        self.size = 0
        self.is_full = False
        """One more than ``limit`` has been hired, for all others were stuck: see ``carry``."""
        self.pile: deque[bytes | OpenFile] = deque()
        """What waits for whoever has time: requests, and files of which the back end is to be told
        that they are released."""
        self._limit = limit
        self._new_worker = new_worker
        self._resting: list[threading.Lock] = []
        self._ended = False
        self._fd = fd
        self._hire: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Work until everybody has ended."""
        token = trio.lowlevel.current_trio_token()
        limiter = trio.CapacityLimiter(self._limit + 1)
        async with trio.open_nursery() as nursery:

            def hire() -> None:
                # Whoever called may have been answered by somebody else meanwhile.
                if self.size > self._limit or self.readers or self._ended:
                    return
                try:
                    worker = self._new_worker()
                except OSError as error:
                    log.error("no further worker: %s", error.strerror)
                    return
                self.size += 1
                self.is_full = self.size > self._limit
                nursery.start_soon(run_worker, worker)

            async def run_worker(run: Callable[[], None]) -> None:
                await trio.to_thread.run_sync(run, limiter=limiter, thread_name="worker")

            self._hire = lambda: token.run_sync_soon(hire)
            hire()

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
        if not self.readers:
            self.call(last)

    def all_busy(self) -> bool:
        """Nobody else is left who could read."""
        return self.is_full and not (self.readers or self._resting)

    def carry(self, item: bytes | OpenFile) -> None:
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
