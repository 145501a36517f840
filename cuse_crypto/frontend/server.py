"""The server of one node: its workers, what they share, and the end of it all.

There is always one worker more than is busy (up to a limit), so that a caller's signal is seen
while others wait.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

import trio

from cuse_crypto.frontend.files import OpenFiles
from cuse_crypto.frontend.queue import Queue
from cuse_crypto.frontend.tickets import Ticket, is_dying
from cuse_crypto.frontend.worker import Worker
from cuse_crypto.fuse.node import Node
from cuse_crypto.wire.address import Address

log = logging.getLogger(__name__)

FIRST_WORKERS = 2
GRACE = 1.0
"""Seconds that a caller waits for the back end after a signal that does not kill it. Much longer
than a part of an operation takes: a timer of the caller's must not keep it from getting anywhere.
"""
WATCH = 0.1
"""Seconds between two looks at callers that were signalled."""
DRAIN = 1.0
"""Seconds that operations under way may still take when the node is removed."""
GUEST_SIZE = 16


class Server:
    """Serves ``node`` from the back end at ``address``, until stopped or until the node goes."""

    def __init__(
        self,
        node: Node,
        address: Address,
        *,
        workers: int,
        deadline: float,
        direct: bool = True,
        api: str = "cryptodev",
    ) -> None:
        """``workers``: at most; ``deadline``: seconds for one answer of the back end;
        ``direct``: touch caller memory ourselves where the kernel lets us; ``api``: a key of APIS.
        """
        self.api = api
        self.node = node
        self.files = OpenFiles()
        self.direct = direct
        self.limit = workers
        self.idle = 0
        self.tickets: dict[int, Ticket] = {}
        """The ioctls under way, by ``unique``."""
        self._connect = partial(Queue, address, os.urandom(GUEST_SIZE), deadline=deadline)
        self._queues: list[Queue] = []
        self._lock = threading.Lock()
        self._stopping = False
        self.ended = trio.Event()
        """Set when the node is gone, whoever took it away."""
        self._start_worker: Callable[[], None] = lambda: None
        self._start_watch: Callable[[], None] = lambda: None
        self._watching = False

    def connect(self) -> str:
        """Meet the back end; the name of its engine. BackendGone if it is not there."""
        queue = self._connect(number=0)
        try:
            queue.connect()
            return queue.engine
        finally:
            queue.close()

    async def run(self) -> None:
        """Serve until the end of the node."""
        limiter = trio.CapacityLimiter(self.limit)
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:

            def start() -> None:
                if len(self._queues) < self.limit and not self._stopping:
                    queue = self._connect(number=len(self._queues))
                    self._queues.append(queue)
                    run = Worker(self, queue).run
                    nursery.start_soon(partial(trio.to_thread.run_sync, run, limiter=limiter))

            def watch() -> None:
                if not self._watching:
                    self._watching = True
                    nursery.start_soon(self._watch)

            self._start_worker = partial(token.run_sync_soon, start)
            self._start_watch = partial(token.run_sync_soon, watch)
            for _ in range(min(FIRST_WORKERS, self.limit)):
                start()
        self.ended.set()

    async def stop(self) -> None:
        """Remove the node; what is under way may finish first, for a moment."""
        self._stopping = True
        with trio.move_on_after(DRAIN):
            while self.tickets:
                await trio.sleep(0.01)
        self.abandon()
        self.node.abort()
        for queue in self._queues:
            queue.shut()

    def abandon(self) -> None:
        """The connection to the kernel ends, and lets the callers go: their memory is theirs."""
        for ticket in list(self.tickets.values()):
            ticket.interrupted = True
            ticket.take()

    def taken(self) -> None:
        """A worker has taken a request; if it was the last that was idle, start one more."""
        with self._lock:
            self.idle -= 1
            busy = self.idle == 0
        if busy:
            self._start_worker()

    def ready(self) -> None:
        """A worker is about to wait for a request."""
        with self._lock:
            self.idle += 1

    def interrupt(self, unique: int) -> bool:
        """A signal for the caller of ``unique`` came; False if that request is not known (yet)."""
        ticket = self.tickets.get(unique)
        if ticket is None:
            return False
        ticket.signalled = ticket.signalled or time.monotonic()
        if not self._let_go(ticket):
            self._start_watch()
        return True

    def _let_go(self, ticket: Ticket) -> bool:
        """Answer with EINTR whoever dies, or has waited long after a signal, if it is not late."""
        dying = is_dying(ticket.thread)
        ticket.interrupted |= dying
        # The driver heeds no signal, and programs do not expect that.
        late = time.monotonic() - ticket.signalled > GRACE
        if (dying or late) and ticket.take():
            self.node.channel.reply(ticket.unique, errno.EINTR)
        return dying

    async def _watch(self) -> None:
        """Look again at those who were signalled: the kernel tells only of the first signal."""
        while signalled := [one for one in list(self.tickets.values()) if one.signalled]:
            for ticket in signalled:
                self._let_go(ticket)
            await trio.sleep(WATCH)
        self._watching = False
