"""The server of one node: its workers, what they share, and the end of it all."""

import errno
import logging
import os
import time
from collections.abc import Callable
from functools import partial

import trio

from cuse_crypto.board import OPENS, Board, Seats
from cuse_crypto.frontend.apis import APIS
from cuse_crypto.frontend.counters import Counters
from cuse_crypto.frontend.crew import Crew
from cuse_crypto.frontend.crioget.broker import Broker
from cuse_crypto.frontend.crioget.process import NurseryProcess
from cuse_crypto.frontend.estate import Estate
from cuse_crypto.frontend.files import OpenFiles
from cuse_crypto.frontend.limits import Limits
from cuse_crypto.frontend.patrol import Patrol
from cuse_crypto.frontend.pulse import Pulse
from cuse_crypto.frontend.queue import Queue
from cuse_crypto.frontend.route import Route
from cuse_crypto.frontend.succession import Inherited, Succession
from cuse_crypto.frontend.tickets import Ticket, is_dying
from cuse_crypto.frontend.watch import DeferredWatch
from cuse_crypto.frontend.worker import DONE, Worker
from cuse_crypto.fuse.node import Node
from cuse_crypto.fuse.protocol import IN_HEADER
from cuse_crypto.wire.address import Address

log = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds that a caller waits for the back end after a signal that does not kill it. Much longer
than a part of an operation takes: a timer of the caller's must not keep it from getting anywhere.
"""
DRAIN = 1.0
"""Seconds that operations under way may still take when the node is removed."""
GUEST_SIZE = 16


class Server:
    """Serves ``node`` from the back ends of ``to``, until stopped or until the node goes."""

    def __init__(
        self,
        node: Node,
        to: Route | Address,
        *,
        workers: int,
        deadline: float,
        patience: float = 0.0,
        direct: bool = True,
        api: str = "cryptodev",
        limits: Limits | None = None,
        estate: Estate | None = None,
        predecessor: Inherited | None = None,
        board: Board | None = None,
        nursery: NurseryProcess | None = None,
    ) -> None:
        """``workers``: at most; ``deadline``: seconds for one answer of the back end;
        ``patience``: seconds to wait for a back end that is not there; ``direct``: touch caller
        memory ourselves where the kernel lets us; ``api``: a key of APIS; ``estate``: where
        what a successor needs is kept; ``board``: where it is shown what is done; ``nursery``:
        without it CRIOGET is off.
        """
        self.api = api
        self.node = node
        self.limits = limits or Limits(workers=workers)
        self.board = board or Board(workers + 2, traced=False)
        ledger = predecessor.ledger if predecessor else None
        self.files = OpenFiles(self.limits, ledger, Seats(self.board))
        self._estate = estate or Estate()
        self.succession = Succession(node.channel, self.files, self._estate)
        self.direct = direct
        self.tickets: dict[int, Ticket] = {}
        """The ioctls under way, by ``unique``."""
        self.short: dict[int, int] = {}
        """Those on the short way, and the callers' threads. Whoever pops one may answer it."""
        self._signalled: dict[int, float] = {}
        """When signals came for callers, by ``unique``, in seconds of time.monotonic()."""
        route = to if isinstance(to, Route) else Route([to])
        self._connect = partial(Queue, route, os.urandom(GUEST_SIZE), deadline=deadline)
        self._patience = patience
        self._queues: list[Queue] = []
        self.counters: list[Counters] = []
        """Of the workers."""
        self.crew = Crew(node.channel.fd, workers, self._new_worker)
        self.crioget = Broker(nursery, self.tickets, self._reply)
        self.deferred_watch = DeferredWatch(self.board, APIS[api][0])
        self.patrol = Patrol(self.crew, self._queues, deadline, self._look)
        self.pulse = Pulse(node.channel.fd, self.crew, self._queues, self._under_way)
        self.ended = trio.Event()
        """Set when the node is gone, whoever took it away."""
        for message in self.succession.begin(predecessor.again if predecessor else ()):
            header = IN_HEADER.read(message)
            self.tickets[header.unique] = Ticket(header.unique, header.pid)
            self.crew.pile.append(message)
        # Files that are taken over are open, too.
        self.board.region(0)[OPENS] += len(self.files)
        mine = node.attributes
        self.files.ledger.change(mode=mine.mode, uid=mine.uid, gid=mine.gid)
        try:
            self._estate.keep_node(node, self.files.ledger)
        except OSError as error:
            log.error("what is open would be lost with this process: %s", error.strerror)

    def _under_way(self) -> object:
        return list(self.tickets), list(self.short)

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
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.patrol.run)
            await self.crew.run()
            nursery.cancel_scope.cancel()
        self.ended.set()

    def _new_worker(self) -> Callable[[], None]:
        queue = self._connect(number=len(self._queues), patience=self._patience)
        queue.before_long = self.crew.ensure
        ledger = self.files.ledger
        try:
            self._estate.keep_arena(queue.arena, ledger.header.generation, queue.number)
        except OSError:
            # What nobody could take over must not be begun, unless it is that or nothing.
            if self._queues:
                raise
            log.error("what is under way would be lost with this process: nobody keeps it")
        self._queues.append(queue)
        return Worker(self, queue).run

    async def drain(self) -> None:
        """What is under way may finish, for a moment."""
        with trio.move_on_after(DRAIN):
            while self.tickets or self.short:
                await trio.sleep(0.01)

    async def stop(self) -> None:
        """Remove the node."""
        await self.drain()
        self.abandon()
        self.node.abort()
        self.crioget.close()
        for queue in self._queues:
            queue.shut()

    def _reply(self, unique: int, error: int) -> None:
        self.node.channel.reply(unique, error, b"" if error else DONE)

    def abandon(self) -> None:
        """The connection to the kernel ends, and lets the callers go: their memory is theirs."""
        self.short.clear()
        for ticket in list(self.tickets.values()):
            ticket.interrupted = True
            ticket.take()

    def interrupt(self, unique: int) -> bool:
        """A signal for the caller of ``unique`` came; False if that request is not known (yet)."""
        if unique not in self.tickets and unique not in self.short:
            return False
        self._signalled.setdefault(unique, time.monotonic())
        self._let_go(unique)
        return True

    def _let_go(self, unique: int) -> None:
        """Answer with EINTR whoever dies, or has waited long after a signal, if it is not late."""
        ticket = self.tickets.get(unique)
        thread = ticket.thread if ticket else self.short.get(unique)
        since = self._signalled.get(unique)
        if thread is None or since is None:
            self._signalled.pop(unique, None)
            return
        dying = is_dying(thread)
        # The driver heeds no signal, and programs do not expect that.
        late = time.monotonic() - since > GRACE
        if ticket:
            ticket.interrupted |= dying
            answer = (dying or late) and ticket.take()
        else:
            answer = (dying or late) and self.short.pop(unique, None) is not None
        if answer:
            self.node.channel.reply(unique, errno.EINTR)

    def _look(self) -> bool:
        """Look again at those who were signalled: the kernel tells only of the first signal.

        And show what has been counted.
        """
        for unique in list(self._signalled):
            self._let_go(unique)
        for counters in self.counters:
            counters.publish()
        return bool(self.tickets or self.short or self._signalled)
