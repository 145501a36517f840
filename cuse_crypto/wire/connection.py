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
from collections.abc import Sequence

from cuse_crypto.wire import messages
from cuse_crypto.wire.messages import PeerError, Received


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
    """Seconds that a peer may be silent in the middle of a message, where there is no deadline."""

    def __init__(self, sock: socket.socket, deadline: float = 0) -> None:
        """``deadline``: seconds that one send or one receive may take; 0 waits forever."""
        self.socket = sock
        sock.setblocking(True)
        self.set_deadline(deadline)

    def greet(self) -> None:
        """What comes before the first message, on the back end's side: nothing."""

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
        set_timeouts(self.socket, deadline)

    def send(self, message: Received, head: int = 0, descriptors: Sequence[int] = ()) -> None:
        """Send all of ``message``; ConnectionLost if the peer is gone, PeerSilent if stuck.

        ``head`` is what would be enough if the peer had the memory; here it has not.
        ``descriptors`` go with the first byte, over a Unix socket.
        """
        try:
            if descriptors:
                sent = socket.send_fds(self.socket, [message], descriptors, socket.MSG_NOSIGNAL)
            else:
                sent = self.socket.send(message, socket.MSG_NOSIGNAL)
            while sent < len(message):
                sent += self.socket.send(message[sent:], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise PeerSilent("the peer takes no more data") from None
        except OSError as error:
            raise ConnectionLost(error.strerror or error) from error

    def receive(self, buffer: memoryview) -> Received | None:
        """Wait for one message and put it at the start of ``buffer``.

        That part of it, or None when the peer closed between two messages. PeerError for a length
        that cannot be, or for bytes after the message; ConnectionLost for an end in its middle;
        PeerSilent after the deadline.
        """
        received = self._receive(buffer, 0)
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
        while received < messages.HEADER.size:
            received += self._more(buffer, received)
        length = messages.read_length(buffer)
        if length > len(buffer):
            raise PeerError(f"a message of {length} bytes, more than was agreed on")
        message = buffer[:length]
        if received < length and self.rest:
            self.set_deadline(self.rest)
        while received < length:
            received += self._more(message, received)
            if received == length and self.rest:
                self.set_deadline(0)
        if received > length:
            raise PeerError(f"{received - length} bytes follow the message")
        return message

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


def set_timeouts(sock: socket.socket, seconds: float) -> None:
    """Of one receive and one send; 0 for none. Then they fail with EAGAIN."""
    fraction, whole = math.modf(seconds)
    timeval = struct.pack("@ll", int(whole), int(fraction * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def close_all(descriptors: Sequence[int]) -> None:
    """Close them."""
    for fd in descriptors:
        os.close(fd)
