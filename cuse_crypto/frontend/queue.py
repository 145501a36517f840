"""A queue: one connection to the back end, one request under way at a time, like a virtqueue.

Connects when it is first used, and again after a loss. Knows messages, not what they mean.
"""

import errno
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from cuse_crypto.errors import Failure
from cuse_crypto.frontend.arena import Arena
from cuse_crypto.frontend.meeting import Met, meet
from cuse_crypto.frontend.route import TRIES, Route
from cuse_crypto.wire import messages
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent
from cuse_crypto.wire.messages import BY_NAME, Message, PeerError, Reply
from cuse_crypto.wire.shared import SharedConnection

log = logging.getLogger(__name__)

Sizes = tuple[int, ...]
_CONTROL_SIZE = 8192
CONNECT_TIMEOUT = 2.0
LONG = 2 << 20
"""Bytes of a message that takes the back end so long that others should not wait for it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two attempts to connect, the first and the last."""
ATTEMPTS = 10
"""So often may a back end be lost with one request, before that request is taken for the reason."""


class BackendGone(OSError):
    """The back end cannot be reached or does not answer."""

    def __init__(self, reason: object) -> None:
        super().__init__(errno.EIO, f"no back end: {reason}")


class NotRepeated(BackendGone):
    """The back end was lost with a request that must not be made twice."""


class Queue:
    """Requests of one worker to a back end, as queue ``number`` of ``guest``."""

    def __init__(
        self,
        to: Route | Address,
        guest: bytes,
        number: int,
        deadline: float,
        *,
        patience: float = 0.0,
        shared: bool = True,
    ) -> None:
        """``to``: the back ends that all queues of ``guest`` have in common; ``guest``: 16 bytes
        that name the device; ``deadline``: seconds for one answer; ``patience``: seconds to wait
        for a back end that is not there.

        ``shared``: whether the back end gets the arena's memory, where it can.
        """
        self.route = to if isinstance(to, Route) else Route([to])
        self.place = b""
        """Of the back end that this is connected to."""
        self.engine = ""
        self.algorithms: frozenset[int] = frozenset()
        self.arena = Arena()
        self.longest = 0
        """The length of the longest message since somebody set it to 0."""
        self.requests = 0
        """So many requests have been made."""
        self.waiting = False
        """The last one has not been answered."""
        self.before_long: Callable[[], None] = lambda: None
        """To be called before what others should not wait for; a LONG message is that."""
        self.pointless: Callable[[], bool] = lambda: False
        """Whether nobody waits for the request under way any more."""
        self.watch: Callable[[Message, Sizes, Sizes, Reply], None] | None = None
        """Is told of what the back end has answered."""
        self.shared: SharedConnection | None = None
        """The connection, if it is one through shared memory."""
        self._connection: Connection | None = None
        self._ended = threading.Event()
        self._late = False
        self._offered = self.arena if shared else None
        self._guest = guest
        self.number = number
        self._deadline = deadline
        self._patience = patience
        self._request = memoryview(bytearray(_CONTROL_SIZE))
        self._reply = memoryview(bytearray(_CONTROL_SIZE))
        self._address = self.route.address
        self.route.join(self)

    def control(
        self,
        name: str,
        body: Any,
        *segments: bytearray,
        writable: tuple[int, ...] = (),
        patient: bool = True,
        place: bytes = b"",
    ) -> Reply:
        """Send a small message with these readable segments; BackendGone if it is not answered.

        They may be keys, and are wiped here. ``patient``: whether to wait for a back end that is
        not there, and to say it again to the next one; ``place`` as in exchange.
        """
        if not patient and self._connection is None:
            self._connect(patience=0)
        message = BY_NAME[name]
        start = at = message.payload_offset
        for segment in segments:
            self._request[at : at + len(segment)] = segment
            at += len(segment)
        lengths = tuple(map(len, segments))
        try:
            parts = message, body, lengths, writable
            return self._exchange(self._request, self._reply, 0, *parts, patient, place)
        finally:
            self._request[start:at] = bytes(at - start)

    def exchange(
        self,
        message: Message,
        body: Any,
        readable: tuple[int, ...],
        writable: tuple[int, ...],
        repeatable: bool = True,
        place: bytes = b"",
    ) -> Reply:
        """Send one request, whose readable bytes are in place in the arena; give its reply.

        A lost connection is made again, and a ``repeatable`` request repeated, for as long as
        ``patience`` lasts. BackendGone if that fails, if the answer is late, or if it is no answer;
        NotRepeated if it might be right another time, from the start. ``place``: where it has to be
        done, if that matters; NotRepeated where that is not any more.
        """
        arena, head = self.arena, message.payload_offset
        parts = message, body, readable, writable
        return self._exchange(arena.request, arena.reply, head, *parts, repeatable, place)

    def _exchange(
        self,
        request: memoryview,
        reply: memoryview,
        head: int,
        message: Message,
        body: Any,
        readable: tuple[int, ...],
        writable: tuple[int, ...],
        repeatable: bool = True,
        place: bytes = b"",
    ) -> Reply:
        attempt = 0
        while True:
            if self.place != self.route.place:
                self.close()
            connection = self._connection or self._connect()
            if place and place != self.place:
                raise NotRepeated("another one has taken its place")
            attempt += 1
            tag = self.requests = (self.requests + 1) & 0xFFFFFFFF
            length = messages.pack_request(request, message, tag, body, readable, writable)
            if length > self.longest:
                self.longest = length
            if length > LONG:
                self.before_long()
            self.waiting = True
            try:
                connection.send(request[:length], head)
                received = connection.receive(reply)
                if received is None:
                    raise ConnectionLost("the back end closed the connection")
                answer = messages.unpack_reply(received, message, tag, writable, connection.area)
                if self.watch:
                    self.watch(message, readable, writable, answer)
                return answer
            except (ConnectionLost, PeerSilent, PeerError) as error:
                self.close()
                reason = "no answer within the deadline" if self._late else error
                lost = isinstance(error, ConnectionLost) and not self._late
                if not lost:
                    self.route.leave(self._address)
                if lost and not repeatable:
                    raise NotRepeated(reason) from error
                if not lost or attempt == ATTEMPTS:
                    log.error("%s: %s", self._address, reason)
                    raise BackendGone(reason) from error
            finally:
                self.waiting = False

    def _connect(self, patience: float | None = None) -> Connection:
        """Connect, and try again while ``patience`` lasts; BackendGone if all is in vain."""
        patience = self._patience if patience is None else patience
        end = time.monotonic() + patience
        pause = FIRST_PAUSE
        while True:
            try:
                connection = self._try_to_connect()
            except (OSError, PeerError) as error:
                self.close()
                reason = getattr(error, "strerror", None) or error
                left = end - time.monotonic()
                if pause == FIRST_PAUSE and left > 0:
                    log.warning("%s: %s; trying for %g s", self._address, reason, patience)
                if left <= 0 or self._ended.wait(min(pause, left)) or self.pointless():
                    raise BackendGone(f"{self._address}: {reason}") from error
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if pause > FIRST_PAUSE:
                    log.warning("%s: connected again", self._address)
                return connection

    def _try_to_connect(self) -> Connection:
        """To any of the back ends; the error is that of the last one."""
        error: Exception | None = None
        for address in self.route.in_order():
            self._address = address
            try:
                return self._find()
            except (OSError, PeerError) as failure:
                self.close()
                error = failure
        assert error
        raise error

    def _find(self) -> Connection:
        """The back end of the other queues at this address, if it is there; else any."""
        for tries in range(1, TRIES + 1):
            met = self._meet()
            last = tries == TRIES
            if self.route.agrees(self._address, met.place, self, last):
                break
            self.close()
        self.engine, self.algorithms, self.place = met.engine, met.algorithms, met.place
        if isinstance(met.connection, SharedConnection):
            self.shared = met.connection
        if self._ended.is_set():
            self.shut()
        return met.connection

    def _meet(self) -> Met:
        """Connect, and say HELLO."""
        try:
            return self._meet_once()
        except (ConnectionLost, PeerError):
            if not (self._connection and self._connection.outlives):
                raise
            # What another one had left in the stream is gone with that connection.
            self.close()
            return self._meet_once()

    def _meet_once(self) -> Met:
        if self._ended.is_set():
            raise ConnectionLost("the device is being removed")
        try:
            connection = self._address.connect(CONNECT_TIMEOUT, self._patience_for_hello)
        except Failure as failure:
            raise ConnectionLost(str(failure)) from failure
        # Where shut() finds it while the back end has not said anything yet.
        self._connection = connection
        self._late = False
        met = meet(connection, self._guest, self.number, self._offered)
        self._connection = met.connection
        met.connection.set_deadline(self._deadline)
        return met

    @property
    def _patience_for_hello(self) -> float:
        """Seconds: one that listens and says nothing must not keep this queue from the next one."""
        return min(CONNECT_TIMEOUT, self._deadline) if self.route.has_others else self._deadline

    def is_up(self) -> bool:
        """It is connected, and the back end has not gone."""
        connection = self._connection
        try:
            return connection is not None and connection.is_up()
        except (OSError, ValueError):
            # Closed meanwhile, by its own thread.
            return False

    def give_up(self, request: int) -> None:
        """End ``request`` as one that is not answered, if it still is, from any thread."""
        connection = self._connection
        if connection and self.waiting and self.requests == request:
            self._late = True
            connection.shut()

    def shut(self) -> None:
        """End it for good, and wake whoever waits for an answer, from any thread."""
        self._ended.set()
        connection = self._connection
        if connection:
            connection.shut()

    def connect(self) -> None:
        """Connect now, so that the engine is known; BackendGone if it cannot be."""
        if self._connection is None:
            self._connect()

    def close(self) -> None:
        """Drop the connection; the next request makes a new one."""
        connection, self._connection, self.shared = self._connection, None, None
        self.place = b""
        if connection:
            connection.close()
