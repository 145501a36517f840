"""The server of one node: its workers, what they share, and the end of it all."""

import errno
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import partial

import trio

from cuse_crypto.board import OPENS, Board, Seats
from cuse_crypto.frontend.apis import APIS
from cuse_crypto.frontend.crew import Crew
from cuse_crypto.frontend.crioget.broker import Broker
from cuse_crypto.frontend.crioget.process import NurseryProcess
from cuse_crypto.frontend.estate import Estate
from cuse_crypto.frontend.files import OpenFiles
from cuse_crypto.frontend.hung_workers import Caller, HungWorkers
from cuse_crypto.frontend.inflight import InflightRequests
from cuse_crypto.frontend.limits import BUSY, Limits
from cuse_crypto.frontend.patrol import Patrol
from cuse_crypto.frontend.pulse import Pulse
from cuse_crypto.frontend.queue import Queue
from cuse_crypto.frontend.route import Route
from cuse_crypto.frontend.succession import Inherited, Succession
from cuse_crypto.frontend.turns import MOST_HUNG, Turns
from cuse_crypto.frontend.watch import DeferredWatch
from cuse_crypto.frontend.worker import DONE, Worker
from cuse_crypto.fuse.node import Node
from cuse_crypto.fuse.protocol import IN_HEADER, unique_of
from cuse_crypto.linux.proc import is_dying
from cuse_crypto.wire.address import Address

log = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds that a caller waits for a back end that is not there after a signal that does not kill
it."""
DRAIN = 1.0
"""Seconds that operations under way may still take when the node is removed."""
GUEST_SIZE = 16
MOST_WORKERS = 290
"""Those that hang among them: a back end lets in 300 connections of one process."""
MOST_NAMED = 8
"""Processes that a line names."""


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
        self.board = board or Board(workers + 2, traced=False, more=MOST_HUNG)
        ledger = predecessor.ledger if predecessor else None
        self.files = OpenFiles(self.limits, ledger, Seats(self.board))
        self._estate = estate or Estate()
        crashed = bool(predecessor and predecessor.crashed)
        self.succession = Succession(node.channel, self.files, self._estate, crashed)
        self.direct = direct
        self.inflight = InflightRequests()
        self.turns = Turns(
            self.limits.values[BUSY], max(1, workers // 2), partial(self.limits.meet, BUSY)
        )
        self._signalled: dict[int, float] = {}
        """When signals came for callers, by ``unique``, in seconds of time.monotonic()."""
        route = to if isinstance(to, Route) else Route([to])
        self._connect = partial(Queue, route, os.urandom(GUEST_SIZE), deadline=deadline)
        self._patience = patience
        self._queues: list[Queue] = []
        self._numbers = itertools.count()
        self._most_hung = min(MOST_HUNG, MOST_WORKERS - workers)
        self._workers: list[Worker] = []
        self._hung_workers = HungWorkers(self._workers, self.files, max(2, workers // 2))
        self.hung: dict[int, Caller] = {}
        """In whose memory workers hang, by ``unique``. Some of these requests are gone."""
        self.crew = Crew(node.channel.fd, workers, self._new_worker)
        self.crioget = Broker(nursery, self.inflight, self._reply)
        self.deferred_watch = DeferredWatch(self.board, APIS[api][0])
        self.patrol = Patrol(self.crew, self._queues, deadline, self._look)
        self.pulse = Pulse(node.channel.fd, self.crew, self._queues, self._under_way)
        self.ended = trio.Event()
        """Set when the node is gone, whoever took it away."""
        for message in self.succession.begin(predecessor.again if predecessor else ()):
            header = IN_HEADER.read(message)
            self.inflight.add(header.unique, header.pid)
            self.crew.carry(partial(Worker.serve_later, message=message, in_turn=False))
        # Files that are taken over are open, too.
        self.board.region(0)[OPENS] += len(self.files)
        mine = node.attributes
        self.files.ledger.change(mode=mine.mode, uid=mine.uid, gid=mine.gid)
        try:
            self._estate.keep_node(node, self.files.ledger)
        except OSError as error:
            log.error("what is open would be lost with this process: %s", error.strerror)

    def _under_way(self) -> object:
        return list(self.inflight.waiting), list(self.inflight.claimed)

    def is_healthy(self) -> bool:
        """Requests are taken, and the watchdog looks."""
        return self.pulse.beats() and self.patrol.is_healthy

    def connect(self) -> str:
        """Meet the back end; the name of its engine. BackendGone if it is not there."""
        queue = self._connect(number=0)
        try:
            queue.connect()
            return queue.engine
        finally:
            queue.close()

    async def run(self) -> None:
        """Serve until the end of the node. What fails here ends the process: another takes over."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_over)
                await self.crew.run()
                nursery.cancel_scope.cancel()
        finally:
            self.ended.set()

    async def _watch_over(self) -> None:
        try:
            await self.patrol.run()
        except Exception:
            log.critical("a bug ends this front end", exc_info=True)
            os.abort()

    def _new_worker(self) -> Callable[[], None]:
        number = next(self._numbers)
        queue = self._connect(number=number, patience=self._patience)
        queue.before_long = self.crew.ensure
        try:
            self._estate.keep_arena(queue.arena, self.files.ledger.header.generation, number)
        except OSError:
            # What nobody could take over must not be begun, unless it is that or nothing.
            if self._queues:
                raise
            log.error("what is under way would be lost with this process: nobody keeps it")
        worker = Worker(self, queue)
        self._queues.append(queue)
        self._workers.append(worker)
        return worker.run

    def leave(self, worker: Worker) -> None:
        """A worker has ended; from its thread."""
        self._workers.remove(worker)
        self._queues.remove(worker.queue)
        worker.leave_board(self.board)
        self._estate.drop_arena(self.files.ledger.header.generation, worker.queue.number)

    async def drain(self) -> None:
        """What is under way and does not hang may finish, for a moment."""
        with trio.move_on_after(DRAIN):
            while self._moves((*self.inflight.waiting, *self.inflight.claimed, *self._served())):
                await trio.sleep(0.01)

    def _served(self) -> list[int]:
        """What workers do, also for callers that are dead and have no request any more."""
        workers = list(self._workers)
        return [unique_of(worker.request) for worker in workers if worker.serving]

    def _moves(self, requests: Iterable[int]) -> bool:
        """Whether any of them does not hang."""
        return any(unique not in self.hung for unique in requests)

    async def stop(self) -> None:
        """Remove the node; within two times DRAIN, whatever hangs.

        No memory is written once the kernel has let its caller go: what is claimed ends before the
        node does. A write that hangs in a page is the exception. It holds the address space of that
        process and can reach no other; what it writes when the page comes is the result that the
        caller has asked for, at the address that it has given.
        """
        await self.drain()
        self.inflight.close()
        with trio.move_on_after(DRAIN):
            while self._moves(list(self.inflight.claimed)):
                await trio.sleep(0.001)
        if self.hung:
            log.error("%s; they end when it comes", self.hanging)
        self.node.abort()
        self.crioget.close()
        for queue in list(self._queues):
            queue.shut()

    @property
    def hanging(self) -> str:
        """Whose memory holds how many threads of this process."""
        threads, uids = ({*one} for one in zip(*self.hung.values(), strict=True))
        users = ", ".join(f"uid {uid}" for uid in sorted(uids))
        pids = ", ".join(map(str, sorted(threads)[:MOST_NAMED]))
        return f"threads wait for memory of {users} that does not come (processes {pids})"

    def _reply(self, unique: int, error: int) -> None:
        self.node.channel.reply(unique, error, b"" if error else DONE)

    def abandon(self) -> None:
        """The connection to the kernel ends, and lets the callers go: their memory is theirs."""
        self.inflight.close()

    def interrupt(self, unique: int) -> bool:
        """A signal for the caller of ``unique`` came; False if that request is not known (yet)."""
        if unique not in self.inflight:
            return False
        self._signalled.setdefault(unique, time.monotonic())
        return True

    def _let_go(self, unique: int) -> None:
        """EINTR for a caller that dies, or that waits after a signal for a missing back end.

        The driver heeds no signal, and programs do not expect EINTR.
        """
        thread = self.inflight.thread(unique)
        if thread is None:
            del self._signalled[unique]
            # Its worker may have ended it before this was noted.
            self.inflight.dying.discard(unique)
        elif is_dying(thread):
            self.inflight.dying.add(unique)
            self._interrupt(unique)
        elif time.monotonic() - self._signalled[unique] > GRACE and not self._has_back_end():
            self._interrupt(unique)

    def _interrupt(self, unique: int) -> None:
        if self.inflight.take(unique):
            self.inflight.dying.discard(unique)
            self.turns.forget(unique)
            self.node.channel.reply(unique, errno.EINTR)

    def _has_back_end(self) -> bool:
        return any(queue.is_up() for queue in list(self._queues))

    def _look(self) -> bool:
        """Look again at those who were signalled: the kernel tells only of the first signal.

        And at workers that hang, and show what has been counted. Whether there is more to look at.
        """
        for unique in list(self._signalled):
            self._let_go(unique)
        busy = self._look_for_hung()
        for worker in list(self._workers):
            worker.counters.publish()
        return bool(busy or len(self.inflight) or self._signalled)

    def _look_for_hung(self) -> bool:
        found, turns = self._hung_workers.look(), self.turns
        for uid in found.by_user.keys() - turns.restricted.keys():
            log.warning("uid %d: memory that does not come holds a worker", uid, extra={"uid": uid})
        self.hung = found.callers
        idle = found.by_user.total() + found.waits.total()
        self.crew.replace(min(idle, self._most_hung))
        seen = found.by_user, found.in_turn, found.slow, found.waits
        for message in turns.update(*seen, time.monotonic()):
            self.crew.carry(partial(Worker.serve_later, message=message, in_turn=True))
        return bool(turns.restricted) or any(worker.serving for worker in self._workers)
