"""One stream of bytes for several queues: they take turns, an exchange each.

Such a stream may outlive the process at either end (a port of a virtual machine does), so that old
words may still be on their way when a new front end begins. What it says first is a HELLO with a
number of its own choice, and what comes before the reply to that number is passed over.
"""

import contextlib
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Sequence

from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent
from cuse_crypto.wire.messages import HEADER, REPLY, Received

_WRITE = 32 * 1024
"""The kernel takes so much of one write to a port, and all of that or nothing."""
_TYPE, _TAG = HEADER.field("type").offset, HEADER.field("tag").offset
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT | select.POLLHUP | select.POLLERR


class Stream:
    """What ``opening`` gives, opened when it is needed and again when it is lost."""

    def __init__(self, opening: Callable[[float], int], lasting: bool = False) -> None:
        """``opening``: a descriptor within so many seconds, or OSError; ``lasting``: it can be had
        only once, and is kept while nobody uses it.
        """
        self.fd = -1
        self.generation = 0
        """So often it has been opened."""
        self.turn = threading.Condition()
        self.holder: StreamConnection | None = None
        """Whose turn it is."""
        self._opening = opening
        self._lasting = lasting
        self._users = 0

    def join(self, timeout: float) -> int:
        """One more user; the generation that it uses."""
        with self.turn:
            if self.fd < 0:
                self.fd = self._opening(timeout)
                os.set_blocking(self.fd, False)
                self.generation += 1
            self._users += 1
            return self.generation

    def leave(self) -> None:
        """One user less; the last one closes it."""
        with self.turn:
            self._users -= 1
            if not (self._users or self._lasting):
                self.drop()

    def drop(self) -> None:
        """It is lost, or nobody knows what comes next; with ``turn`` held."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class StreamConnection(Connection):
    """A queue's part in a stream: to send takes the turn, to receive gives it back."""

    outlives = True

    def __init__(self, stream: Stream, timeout: float, deadline: float) -> None:
        """OSError if the stream cannot be opened within ``timeout`` seconds."""
        self._stream = stream
        self._shut = self._closed = False
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._awaited = b""
        """Type and tag of the reply that is waited for."""
        self.set_deadline(deadline)
        try:
            self._generation = stream.join(timeout)
        except BaseException:
            os.close(self._waker)
            raise

    @property
    def carries_descriptors(self) -> bool:
        """It does not."""
        return False

    def is_up(self) -> bool:
        """The stream is the one that this began with."""
        return self._stream.fd >= 0 and self._stream.generation == self._generation

    def set_deadline(self, deadline: float) -> None:
        """Ours to keep: a character device has none."""
        self._deadline = deadline

    def send(self, message: Received, head: int = 0, descriptors: Sequence[int] = ()) -> None:
        """Wait for the turn, and send all of ``message``."""
        self._take_turn()
        kind, tag = message[_TYPE : _TYPE + 2], bytes(message[_TAG : _TAG + 4])
        self._awaited = struct.pack("<H", struct.unpack("<H", kind)[0] | REPLY) + tag
        try:
            sent = 0
            while sent < len(message):
                sent += self._write(message[sent : sent + _WRITE])
        except BaseException:
            self._give_turn(lost=True)
            raise

    def _take_turn(self) -> None:
        stream = self._stream
        with stream.turn:
            stream.turn.wait_for(lambda: stream.holder is None or self._shut)
            if self._shut or not self.is_up():
                raise ConnectionLost("the stream was lost")
            stream.holder = self

    def _give_turn(self, lost: bool = False) -> None:
        stream = self._stream
        with stream.turn:
            if stream.holder is self:
                stream.holder = None
                if lost:
                    stream.drop()
                stream.turn.notify_all()

    def _write(self, part: Received) -> int:
        while True:
            with contextlib.suppress(BlockingIOError):
                try:
                    return os.write(self._stream.fd, part)
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        raise
                    raise ConnectionLost(error.strerror or error) from error
            if self._wait(_WRITABLE, "the peer takes no more data") & select.POLLHUP:
                raise ConnectionLost("nobody is at the other end any more")

    def receive(self, buffer: memoryview) -> Received | None:
        """As in Connection; the turn is the next one's."""
        lost = True
        try:
            received = super().receive(buffer)
            lost = received is None
            return received
        finally:
            self._give_turn(lost)

    def receive_first(self, buffer: memoryview, most: int) -> tuple[Received | None, list[int]]:
        """The reply to what was sent, without what was still on its way before it."""
        lost = True
        end = time.monotonic() + self._deadline if self._deadline else 0
        try:
            seen = bytearray()
            while (start := self._beginning(seen)) < 0:
                # So much may be the beginning of a header.
                del seen[: max(len(seen) - HEADER.size + 1, 0)]
                count = self._receive(buffer, 0)
                if not count:
                    return None, []
                seen += buffer[:count]
                if end and time.monotonic() > end:
                    raise PeerSilent("no answer within the deadline")
            rest = seen[start:]
            buffer[: len(rest)] = rest
            message = self._whole(buffer, len(rest))
            lost = False
            return message, []
        finally:
            self._give_turn(lost)

    def _beginning(self, seen: bytearray) -> int:
        """Where in ``seen`` the header of the awaited reply is, or -1."""
        kind, tag = self._awaited[:2], self._awaited[2:]
        at = seen.find(tag, _TAG)
        while at >= 0:
            start = at - _TAG
            if seen[start + _TYPE : start + _TYPE + 2] == kind and len(seen) - start >= HEADER.size:
                return start
            at = seen.find(tag, at + 1)
        return -1

    def _receive(self, buffer: memoryview, start: int) -> int:
        while True:
            self._wait(_READABLE, "no answer within the deadline")
            try:
                return os.readv(self._stream.fd, [buffer[start:]])
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(error.strerror or error) from error

    def _wait(self, events: int, silent: str) -> int:
        """Until the stream can be used; what it can. PeerSilent with ``silent`` after a while."""
        poll = select.poll()
        poll.register(self._stream.fd, events)
        poll.register(self._waker, select.POLLIN)
        found = dict(poll.poll(self._deadline * 1000 if self._deadline else None))
        if self._waker in found:
            raise ConnectionLost("ended here")
        if not found:
            raise PeerSilent(silent)
        return found[self._stream.fd]

    def shut(self) -> None:
        """Wake whoever is blocked in this connection, from any thread."""
        with self._stream.turn:
            self._shut = True
            if not self._closed:
                os.eventfd_write(self._waker, 1)
            self._stream.turn.notify_all()

    def close(self) -> None:
        """Leave the stream to the others; it is lost if this one's turn was not over."""
        if self._closed:
            return
        self._give_turn(lost=True)
        with self._stream.turn:
            self._closed = True
            os.close(self._waker)
        self._stream.leave()
