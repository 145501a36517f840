"""One stream socket that carries messages, a request at a time, with blocking calls.

Both ends use it from a thread of their own. Buffers belong to the caller and are used in place.
"""

import array
import contextlib
import math
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

from cuse_crypto.wire import messages
from cuse_crypto.wire.messages import PeerError, Received

RATE = 1 << 20
"""Bytes per second that a peer has to keep up with, in the middle of a message."""
_PIECE = 256 << 10
"""Bytes given to the kernel at once: it looks at no clock but between two waits."""


class ConnectionLost(OSError):
    """The peer is gone."""


class PeerSilent(OSError):
    """The peer is there, and let the deadline pass."""


class Connection:
    """Owner of a connected socket."""

    area: memoryview | None = None
    """Where the peer puts segments that do not come with their message."""
    outlives = False
    """What it goes through was there before, and may hold what others have left."""
    rest = 0.0
    """Seconds that a peer may be behind RATE in the middle of a message, or of a reply; 0 where the
    deadline is all."""
    first = 0
    """Bytes that may be received before it is known how long the message is; 0 for any number."""
    reserve: Callable[[int], None] = staticmethod(lambda length: None)
    """Is called with the length of a message that has not come yet as a whole, and may wait."""

    def __init__(self, sock: socket.socket, deadline: float = 0) -> None:
        """``deadline``: seconds that one send or one receive may take; 0 waits forever."""
        self.socket = sock
        sock.setblocking(True)
        self.set_deadline(deadline)

    @property
    def carries_descriptors(self) -> bool:
        """Descriptors can go along with a message."""
        return self.socket.family == socket.AF_UNIX

    def is_up(self) -> bool:
        """The peer has not gone, as far as the kernel knows."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return not poll.poll(0)

    def set_deadline(self, deadline: float) -> None:
        """Kept by the kernel: a timeout of Python's own costs a poll(2) in every call."""
        self.set_timeouts(deadline, deadline)

    def set_timeouts(self, receiving: float, sending: float) -> None:
        """Seconds of one call; 0 for none."""
        set_timeouts(self.socket, receiving, sending)

    def wait_for_requests(self, rest: float) -> None:
        """The peer may be silent from now on, but in the middle of a message only for ``rest``."""
        self.rest = rest
        self.set_timeouts(0, rest)

    def send(self, message: Received, head: int = 0, descriptors: Sequence[int] = ()) -> None:
        """Send all of ``message``; ConnectionLost if the peer is gone, PeerSilent if stuck.

        ``head`` is what would be enough if the peer had the memory; here it has not.
        ``descriptors`` go with the first byte, over a Unix socket.
        """
        try:
            if descriptors:
                sent = socket.send_fds(self.socket, [message], descriptors, socket.MSG_NOSIGNAL)
            elif len(message) <= _PIECE:
                sent = self.socket.send(message, socket.MSG_NOSIGNAL)
            else:
                sent = 0
            if sent < len(message):
                self._send_rest(message, sent)
        except BlockingIOError:
            raise PeerSilent("the peer takes no more data") from None
        except PeerSilent:
            raise
        except OSError as error:
            raise ConnectionLost(error.strerror or error) from error

    def _send_rest(self, message: Received, sent: int) -> None:
        began = time.monotonic()
        while sent < len(message):
            sent += self.socket.send(message[sent : sent + _PIECE], socket.MSG_NOSIGNAL)
            self._keep_up(began, sent)

    def _keep_up(self, began: float, done: int) -> None:
        """PeerSilent if the peer is too slow in what began then, with ``done`` bytes done."""
        if self.rest and time.monotonic() - began > self.rest + done / RATE:
            raise PeerSilent(f"the peer is slower than {RATE >> 20} MiB/s")

    def receive(self, buffer: memoryview) -> Received | None:
        """Wait for one message and put it at the start of ``buffer``.

        That part of it, or None when the peer closed between two messages. PeerError for a length
        that cannot be, or for bytes after the message; ConnectionLost for an end in its middle;
        PeerSilent after the deadline.
        """
        received = self._receive(buffer[: self.first] if self.first else buffer, 0)
        return self._whole(buffer, received) if received else None

    def receive_first(self, buffer: memoryview, most: int) -> tuple[Received | None, list[int]]:
        """As receive; with it the descriptors that came along, ``most`` of them at most.

        They are the caller's to close.
        """
        room = socket.CMSG_SPACE(most * array.array("i").itemsize)
        try:
            flags = socket.MSG_CMSG_CLOEXEC
            received, ancillary, _, _ = self.socket.recvmsg_into([buffer], room, flags)
        except BlockingIOError:
            raise PeerSilent("no answer within the deadline") from None
        except OSError as error:
            raise ConnectionLost(error.strerror or error) from error
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        try:
            return self._whole(buffer, received) if received else None, list(descriptors)
        except BaseException:
            close_all(descriptors)
            raise

    def _whole(self, buffer: memoryview, received: int) -> memoryview:
        """The message whose first bytes are in ``buffer``, with the rest of it."""
        if received < messages.HEADER.size or received < messages.read_length(buffer):
            received = self._receive_rest(buffer, received)
        length = messages.read_length(buffer)
        if received > length:
            raise PeerError(f"{received - length} bytes follow the message")
        return buffer[:length]

    def _receive_rest(self, buffer: memoryview, received: int) -> int:
        """All of a message; its length."""
        if self.rest:
            self.set_timeouts(self.rest, self.rest)
        head = buffer[: self.first] if self.first else buffer
        received = self._receive_until(messages.HEADER.size, head, received)
        length = messages.read_length(buffer)
        if length > len(buffer):
            raise PeerError(f"a message of {length} bytes, more than was agreed on")
        self.reserve(length)
        received = self._receive_until(length, buffer[:length], received)
        if self.rest:
            self.set_timeouts(0, self.rest)
        return received

    def _receive_until(self, wanted: int, buffer: memoryview, received: int) -> int:
        began, before = time.monotonic(), received
        while received < wanted:
            received += self._more(buffer, received)
            self._keep_up(began, received - before)
        return received

    def _more(self, buffer: memoryview, received: int) -> int:
        count = self._receive(buffer, received)
        if not count:
            raise ConnectionLost("the peer closed in the middle of a message")
        return count

    def _receive(self, buffer: memoryview, start: int) -> int:
        try:
            return self.socket.recv_into(buffer[start:] if start else buffer)
        except BlockingIOError:
            raise PeerSilent("no answer within the deadline") from None
        except OSError as error:
            raise ConnectionLost(error.strerror or error) from error

    def shut(self) -> None:
        """Wake whoever is blocked in this connection, from any thread."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()


def set_timeouts(sock: socket.socket, receiving: float, sending: float) -> None:
    """Of one receive and one send, in seconds; 0 for none. Then they fail with EAGAIN."""
    for option, seconds in ((socket.SO_RCVTIMEO, receiving), (socket.SO_SNDTIMEO, sending)):
        fraction, whole = math.modf(seconds)
        timeval = struct.pack("@ll", int(whole), int(fraction * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, option, timeval)


def close_all(descriptors: Sequence[int]) -> None:
    """Close them."""
    for fd in descriptors:
        os.close(fd)
