"""Whether the workers of a node still take what the kernel has for them."""

import select
from collections.abc import Callable, Sequence

from cuse_crypto.frontend.crew import Crew
from cuse_crypto.frontend.queue import Queue


class Pulse:
    """Asked now and then. There is always somebody who reads, however long all others take: a
    request that nobody has taken since the last time is in a process that does nothing any more.
    """

    def __init__(
        self, fd: int, crew: Crew, queues: Sequence[Queue], under_way: Callable[[], object]
    ) -> None:
        """``fd``: what is read from; ``under_way`` tells one set of requests from another."""
        self._crew, self._queues, self._under_way = crew, queues, under_way
        self._waiting = select.poll()
        self._waiting.register(fd, select.POLLIN)
        self._before: object = None

    def beats(self) -> bool:
        """False if requests wait, nobody reads, and nothing has moved since this was asked."""
        before, self._before = self._before, None
        if self._crew.readers or not self._waiting.poll(0):
            return True
        self._before = [queue.requests for queue in self._queues], self._under_way()
        return self._before != before
