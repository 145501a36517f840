"""A queue: one connection to the back end, one request under way at a time, like a virtqueue.

Connects when it is first used and again after a loss. Knows messages, not what they mean.
"""

import errno
import logging
import struct
from typing import Any

from cuse_crypto.wire import messages
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent
from cuse_crypto.wire.messages import BY_NAME, Hello, Message, PeerError, Reply

log = logging.getLogger(__name__)

_CONTROL_SIZE = 8192
CONNECT_TIMEOUT = 2.0


class BackendGone(OSError):
    """The back end cannot be reached or does not answer."""

    def __init__(self, reason: object) -> None:
        super().__init__(errno.EIO, f"no back end: {reason}")


class Queue:
    """Requests of one worker to the back end at ``address``, as queue ``number`` of ``guest``."""

    def __init__(self, address: Address, guest: bytes, number: int, deadline: float) -> None:
        """``guest``: 16 bytes that name the device; ``deadline``: seconds for one answer."""
        self.address = address
        self.engine = ""
        self.algorithms: frozenset[int] = frozenset()
        self._ended = False
        self.longest = 0
        """The length of the longest message since somebody set it to 0."""
        self._guest = guest
        self._number = number
        self._deadline = deadline
        self._connection: Connection | None = None
        self._tag = 0
        self._request = memoryview(bytearray(_CONTROL_SIZE))
        self._reply = memoryview(bytearray(_CONTROL_SIZE))

    def control(
        self, name: str, body: Any, *segments: bytes, writable: tuple[int, ...] = ()
    ) -> Reply:
        """Send a small message with these readable segments; BackendGone if it is not answered."""
        message = BY_NAME[name]
        at = message.payload_offset
        for segment in segments:
            self._request[at : at + len(segment)] = segment
            at += len(segment)
        lengths = tuple(map(len, segments))
        return self.exchange(self._request, self._reply, message, body, lengths, writable)

    def exchange(
        self,
        request: memoryview,
        reply: memoryview,
        message: Message,
        body: Any,
        readable: tuple[int, ...] = (),
        writable: tuple[int, ...] = (),
        repeatable: bool = True,
    ) -> Reply:
        """Send one request, whose readable bytes are in place in ``request``; give its reply.

        A lost connection is made again once, and a ``repeatable`` request repeated. BackendGone if
        that fails too, if the answer is late, or if it is no answer.
        """
        fresh = self._connection is None
        connection = self._connection or self._connect()
        while True:
            tag = self._tag = (self._tag + 1) & 0xFFFFFFFF
            length = messages.pack_request(request, message, tag, body, readable, writable)
            if length > self.longest:
                self.longest = length
            try:
                connection.send(request[:length])
                answer = connection.receive(reply)
                if answer is None:
                    raise ConnectionLost("the back end closed the connection")
                return messages.unpack_reply(answer, message, tag, writable)
            except (ConnectionLost, PeerSilent, PeerError) as error:
                self.close()
                if fresh or not repeatable or not isinstance(error, ConnectionLost):
                    log.error("%s: %s", self.address, error)
                    raise BackendGone(error) from error
                fresh, connection = True, self._connect()

    def _connect(self) -> Connection:
        if self._ended:
            raise BackendGone("the device is being removed")
        try:
            sock = self.address.connect(CONNECT_TIMEOUT)
        except OSError as error:
            raise BackendGone(f"{self.address}: {error.strerror or error}") from error
        # Where shut() finds it while the back end has not said anything yet.
        connection = self._connection = Connection(sock, self._deadline)
        try:
            self._hello(connection)
        except (ConnectionLost, PeerSilent, PeerError) as error:
            self.close()
            raise BackendGone(f"{self.address}: {error}") from error
        return connection

    def _hello(self, connection: Connection) -> None:
        # Buffers of its own: the request to be repeated stays in the others.
        request = memoryview(bytearray(_CONTROL_SIZE))
        reply = memoryview(bytearray(_CONTROL_SIZE))
        message = BY_NAME["HELLO"]
        body = Hello(
            messages.MAGIC, messages.VERSION, self._number, 0, messages.MAX_PAYLOAD, self._guest
        )
        writable = (_CONTROL_SIZE // 2,)
        length = messages.pack_request(request, message, 0, body, (), writable)
        connection.send(request[:length])
        received = connection.receive(reply)
        if received is None:
            raise PeerError("the back end refused this front end")
        answer = messages.unpack_reply(received, message, 0, writable)
        if answer.status:
            raise PeerError(f"the back end refused this front end (errno {answer.status})")
        if answer.body.version != messages.VERSION:
            raise PeerError(f"the back end speaks version {answer.body.version}")
        self.engine = answer.body.engine.rstrip(b"\0").decode("ascii", "replace")
        names = bytes(answer.segments[0])
        if len(names) % 4:
            raise PeerError("the list of algorithms is cut off")
        self.algorithms = frozenset(struct.unpack(f"<{len(names) // 4}I", names))

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
        connection, self._connection = self._connection, None
        if connection:
            connection.close()
