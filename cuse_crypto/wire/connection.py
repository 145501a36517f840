"""One stream socket that carries messages, a request at a time, with blocking calls.

Both ends use it from a thread of their own. Buffers belong to the caller and are used in place.
"""

import contextlib
import math
import socket
import struct

from cuse_crypto.wire import messages
from cuse_crypto.wire.messages import PeerError


class ConnectionLost(OSError):
    """The peer is gone."""


class PeerSilent(OSError):
    """The peer is there, and let the deadline pass."""


class Connection:
    """Owner of a connected socket."""

    def __init__(self, sock: socket.socket, deadline: float = 0) -> None:
        """``deadline``: seconds that one send or one receive may take; 0 waits forever."""
        self.socket = sock
        sock.setblocking(True)
        self.set_deadline(deadline)

    def set_deadline(self, deadline: float) -> None:
        """Kept by the kernel: a timeout of Python's own costs a poll(2) in every call."""
        fraction, seconds = math.modf(deadline)
        timeval = struct.pack("@ll", int(seconds), int(fraction * 1e6))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    def send(self, message: memoryview) -> None:
        """Send all of ``message``; ConnectionLost if the peer is gone, PeerSilent if stuck."""
        try:
            sent = self.socket.send(message, socket.MSG_NOSIGNAL)
            while sent < len(message):
                sent += self.socket.send(message[sent:], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise PeerSilent("the peer takes no more data") from None
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def receive(self, buffer: memoryview) -> memoryview | None:
        """Wait for one message and put it at the start of ``buffer``.

        That part of it, or None when the peer closed between two messages. PeerError for a length
        that cannot be, or for bytes after the message; ConnectionLost for an end in its middle;
        PeerSilent after the deadline.
        """
        received = self._receive(buffer, 0)
        if not received:
            return None
        while received < messages.HEADER.size:
            received += self._more(buffer, received)
        length = messages.read_length(buffer)
        if length > len(buffer):
            raise PeerError(f"a message of {length} bytes, more than was agreed on")
        message = buffer[:length]
        while received < length:
            received += self._more(message, received)
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
            raise ConnectionLost(str(error)) from error

    def shut(self) -> None:
        """Wake whoever is blocked in this connection, from any thread."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()
