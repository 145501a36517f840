"""The watchdog: deadlines, callers that die, workers that hang; one task, every 20 ms.

An idle device wakes nobody: without requests the task ends, until the next one starts it again.
"""

import time
from collections.abc import Callable, Sequence

import trio

from cuse_crypto.frontend.crew import Crew
from cuse_crypto.frontend.queue import Queue

TICK = 0.02
LATE = 10.0
"""Seconds without a look after which it is taken for dead, on a machine that has much to do."""
STUCK = 5
"""So many looks in a row at which nothing has moved are a back end that does not answer."""


class Patrol:
    """Calls for one more reader where all are stuck, and gives up what is late."""

    def __init__(
        self, crew: Crew, queues: Sequence[Queue], deadline: float, look: Callable[[], bool]
    ) -> None:
        """``deadline``: seconds for one answer of the back end; ``look`` is called each time, and
        says whether there is anything that it has to look at again.
        """
        self.running = False
        """Whether the task looks; whoever has a request calls ``start`` if not."""
        self.start: Callable[[], None] = lambda: None
        """From any thread. Does nothing before ``run``."""
        self.last = time.monotonic()
        """When it has looked last."""
        self._crew = crew
        self._queues = queues
        self.deadline = deadline
        self._look = look
        self._since: dict[Queue, tuple[int, float]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        wanted = trio.Event()
        token = trio.lowlevel.current_trio_token()
        self.start = lambda: token.run_sync_soon(lambda: wanted.set())
        if self._crew.pile:
            # What a predecessor has left is worked on before anything is read.
            wanted.set()
        while True:
            await wanted.wait()
            wanted = trio.Event()
            self.running = True
            await self._walk()

    @property
    def is_healthy(self) -> bool:
        """It looks when it has to."""
        return not self.running or time.monotonic() - self.last < LATE

    async def _walk(self) -> None:
        still = 0
        while True:
            before = self._requests()
            await trio.sleep(TICK)
            self.last = time.monotonic()
            quiet = before == self._requests()
            still = still + 1 if quiet else 0
            again = self._look()
            if quiet or self._crew.pile:
                self._crew.ensure(last=still >= STUCK)
            late = self._late()
            if quiet and not late and not again and self._crew.readers:
                self.running = False
                # Whoever saw that it was running has made its request by then.
                await trio.sleep(TICK)
                if before == self._requests() and not self._look():
                    return
                self.running = True

    def _requests(self) -> int:
        """So many have been made of the back end."""
        return sum(queue.requests for queue in self._queues)

    def _late(self) -> bool:
        """Give up what is late; whether anything waits for the back end."""
        now = time.monotonic()
        since = self._since
        self._since = {
            queue: since[queue]
            if since.get(queue, (0,))[0] == queue.requests
            else (queue.requests, now)
            for queue in self._queues
            if queue.waiting
        }
        for queue, (request, began) in self._since.items():
            if now - began > self.deadline:
                queue.give_up(request)
        return bool(self._since)
