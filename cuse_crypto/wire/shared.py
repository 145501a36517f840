"""A connection within one host: segments in shared memory, heads through a pair of pipes.

A pipe hands over in 5 us what takes 9 us by a socket (there and back, bare C, one CPU), and what
is in shared memory need not be handed over. Each end makes the pipe that it reads, and gives the
writing end of it to the other; so the end of a process is the end of its pipes.
"""

import contextlib
import os
import select
import stat
import threading
from collections.abc import Sequence

from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent, close_all
from cuse_crypto.wire.messages import HEADER, PeerError, Received, read_length

SHORT = 256
"""Longer than any head. To read more than that takes a call of malloc(3), 0.7 us."""


class Pipe:
    """What one end reads from; its writing end is for the other."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC)

    def give(self) -> None:
        """The other end has the writing end by now."""
        os.close(self.writing)
        self.writing = -1

    def close(self) -> None:
        """Give back what is ours."""
        close_all([fd for fd in (self.reading, self.writing) if fd >= 0])
        self.reading = self.writing = -1


def check_pipe(fd: int) -> None:
    """PeerError for what is no pipe: writing to it might have effects, or block."""
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        raise PeerError("what it gave to write to is no pipe")


class SharedConnection(Connection):
    """Takes over from ``connection`` once both ends have what they need.

    The deadline is the user's to keep: a pipe has none.
    """

    def __init__(self, connection: Connection, pipe: Pipe, writing: int, area: memoryview) -> None:
        """``pipe`` is read; ``writing`` is that of the peer's; ``area``: where its segments are.

        The descriptors are this object's from now on, unless PeerError is raised: it is no pipe.
        """
        check_pipe(writing)
        # At most one message is under way: a full pipe is a peer that does not read.
        os.set_blocking(writing, False)
        self.area = area
        self.socket = connection.socket
        self._pipe = pipe
        self.reading = pipe.reading
        self.writing = writing
        self._shut = False
        self._closing = threading.Lock()

    def send(self, message: Received, head: int = 0, descriptors: Sequence[int] = ()) -> None:
        """Send ``head`` bytes, for the peer has the memory that the rest is in; 0 sends all."""
        if self._shut:
            raise ConnectionLost("ended here")
        part = message[:head] if head else message
        try:
            sent = os.write(self.writing, part)
        except BlockingIOError:
            raise PeerSilent("the peer takes no more data") from None
        except OSError as error:
            raise ConnectionLost(error.strerror or error) from error
        if sent != len(part):
            raise PeerSilent("the peer takes no more data")

    def receive(self, buffer: memoryview) -> Received | None:
        """Wait for one message: all of it, or its head. ``buffer`` is not needed.

        None when the peer closed; ConnectionLost after ``shut``.
        """
        return self.checked(os.read(self.reading, SHORT))

    def checked(self, received: bytes) -> bytes | None:
        """What ``receive`` makes of what a read of SHORT bytes gave."""
        if self._shut:
            raise ConnectionLost("ended here")
        if len(received) == SHORT and read_length(received) > SHORT:
            received += os.read(self.reading, select.PIPE_BUF)
        if received and len(received) < HEADER.size:
            raise PeerError(f"a message of {len(received)} bytes")
        return received or None

    def shut(self) -> None:
        """Wake whoever is blocked in this connection, from any thread."""
        self._shut = True
        with self._closing, contextlib.suppress(OSError):
            if self._pipe.reading >= 0:
                # The writing end that we gave away, once more.
                path = f"/proc/self/fd/{self._pipe.reading}"
                waker = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.write(waker, b"\0")
                os.close(waker)

    def close(self) -> None:
        """Give the pipes and the socket back."""
        with self._closing:
            if self.writing >= 0:
                os.close(self.writing)
                self._pipe.close()
            self.writing = -1
        super().close()
