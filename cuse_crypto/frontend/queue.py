"""A queue: one connection to the back end, one request under way at a time, like a virtqueue.

Connects when it is first used and again after a loss. Knows messages, not what they mean.
"""

import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

from cuse_crypto.frontend.arena import Arena
from cuse_crypto.wire import messages
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent, close_all
from cuse_crypto.wire.messages import BY_NAME, Feature, Hello, Message, PeerError, Reply
from cuse_crypto.wire.shared import Pipe, SharedConnection

log = logging.getLogger(__name__)

_CONTROL_SIZE = 8192
CONNECT_TIMEOUT = 2.0
LONG = 2 << 20
"""Bytes of a message that takes the back end so long that others should not wait for it."""


class BackendGone(OSError):
    """The back end cannot be reached or does not answer."""

    def __init__(self, reason: object) -> None:
        super().__init__(errno.EIO, f"no back end: {reason}")


class Queue:
    """Requests of one worker to the back end at ``address``, as queue ``number`` of ``guest``."""

    def __init__(
        self,
        address: Address,
        guest: bytes,
        number: int,
        deadline: float,
        *,
        shared: bool = True,
    ) -> None:
        """``guest``: 16 bytes that name the device; ``deadline``: seconds for one answer.

        ``shared``: whether the back end gets the arena's memory, where it can.
        """
        self.address = address
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
        self.shared: SharedConnection | None = None
        """The connection, if it is one through shared memory."""
        self._ended = False
        self._late = False
        self._shared = shared
        self._guest = guest
        self._number = number
        self._deadline = deadline
        self._connection: Connection | None = None
        self._request = memoryview(bytearray(_CONTROL_SIZE))
        self._reply = memoryview(bytearray(_CONTROL_SIZE))

    def control(
        self, name: str, body: Any, *segments: bytearray, writable: tuple[int, ...] = ()
    ) -> Reply:
        """Send a small message with these readable segments; BackendGone if it is not answered.

        They may be keys, and are wiped here.
        """
        message = BY_NAME[name]
        start = at = message.payload_offset
        for segment in segments:
            self._request[at : at + len(segment)] = segment
            at += len(segment)
        lengths = tuple(map(len, segments))
        try:
            return self._exchange(self._request, self._reply, 0, message, body, lengths, writable)
        finally:
            self._request[start:at] = bytes(at - start)

    def exchange(
        self,
        message: Message,
        body: Any,
        readable: tuple[int, ...],
        writable: tuple[int, ...],
        repeatable: bool = True,
    ) -> Reply:
        """Send one request, whose readable bytes are in place in the arena; give its reply.

        A lost connection is made again once, and a ``repeatable`` request repeated. BackendGone if
        that fails too, if the answer is late, or if it is no answer.
        """
        arena, head = self.arena, message.payload_offset
        parts = message, body, readable, writable
        return self._exchange(arena.request, arena.reply, head, *parts, repeatable)

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
    ) -> Reply:
        fresh = self._connection is None
        connection = self._connection or self._connect()
        while True:
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
                return messages.unpack_reply(received, message, tag, writable, connection.area)
            except (ConnectionLost, PeerSilent, PeerError) as error:
                self._lost(error, again=repeatable and not fresh)
                fresh, connection = True, self._connect()
            finally:
                self.waiting = False

    def _lost(self, error: Exception, again: bool) -> None:
        """Drop the connection; BackendGone unless ``again`` may help."""
        self.close()
        if not again or self._late or not isinstance(error, ConnectionLost):
            reason = "no answer within the deadline" if self._late else error
            log.error("%s: %s", self.address, reason)
            raise BackendGone(reason) from error

    def _connect(self) -> Connection:
        if self._ended:
            raise BackendGone("the device is being removed")
        try:
            sock = self.address.connect(CONNECT_TIMEOUT)
        except OSError as error:
            raise BackendGone(f"{self.address}: {error.strerror or error}") from error
        # Where shut() finds it while the back end has not said anything yet.
        self._connection = Connection(sock, self._deadline)
        self._late = False
        try:
            self._connection = self._meet(self._connection)
        except (OSError, PeerError) as error:
            self.close()
            raise BackendGone(f"{self.address}: {error}") from error
        if isinstance(self._connection, SharedConnection):
            self.shared = self._connection
        if self._ended:
            self.shut()
        return self._connection

    def _meet(self, connection: Connection) -> Connection:
        """Say HELLO; the connection that both ends agree on."""
        if not self._shared or connection.socket.family != socket.AF_UNIX:
            self._hello(connection, 0, ())
            return connection
        with contextlib.ExitStack() as undo:
            pipe = Pipe()
            undo.callback(pipe.close)
            offered = self.arena.fd, pipe.writing
            given = self._hello(connection, Feature.SHARED, offered)
            undo.callback(close_all, given)
            pipe.give()
            if given:
                shared = SharedConnection(connection, pipe, given[0], self.arena.reply)
                undo.pop_all()
                return shared
        return connection

    def _hello(self, connection: Connection, features: int, offered: tuple[int, ...]) -> list[int]:
        """What the back end gives for what is ``offered``: descriptors, if it takes that."""
        # Buffers of its own: the request to be repeated stays in the others.
        request = memoryview(bytearray(_CONTROL_SIZE))
        reply = memoryview(bytearray(_CONTROL_SIZE))
        message = BY_NAME["HELLO"]
        said = messages.MAGIC, messages.VERSION, self._number, features, messages.MAX_PAYLOAD
        writable = (_CONTROL_SIZE // 2,)
        length = messages.pack_request(request, message, 0, Hello(*said, self._guest), (), writable)
        connection.send(request[:length], descriptors=offered)
        received, descriptors = connection.receive_first(reply, 1)
        try:
            if received is None:
                raise PeerError("the back end refused this front end")
            answer = messages.unpack_reply(received, message, 0, writable)
            self._welcome(answer)
            if bool(descriptors) != bool(answer.body.features & features):
                raise PeerError("the back end agrees to something else than was offered")
            return descriptors
        except BaseException:
            close_all(descriptors)
            raise

    def _welcome(self, answer: Reply) -> None:
        if answer.status:
            raise PeerError(f"the back end refused this front end (errno {answer.status})")
        if answer.body.version != messages.VERSION:
            raise PeerError(f"the back end speaks version {answer.body.version}")
        self.engine = answer.body.engine.rstrip(b"\0").decode("ascii", "replace")
        names = bytes(answer.segments[0])
        if len(names) % 4:
            raise PeerError("the list of algorithms is cut off")
        self.algorithms = frozenset(struct.unpack(f"<{len(names) // 4}I", names))

    def give_up(self, request: int) -> None:
        """End ``request`` as one that is not answered, if it still is, from any thread."""
        connection = self._connection
        if connection and self.waiting and self.requests == request:
            self._late = True
            connection.shut()

    def shut(self) -> None:
        """End it for good, and wake whoever waits for an answer, from any thread."""
        self._ended = True
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
        if connection:
            connection.close()
