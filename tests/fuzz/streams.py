"""Messages in whatever parts: a socket that gives as few bytes as it likes, and pipes."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cuse_crypto.wire import messages
from cuse_crypto.wire.area import Area
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent
from cuse_crypto.wire.messages import HEADER, PeerError
from cuse_crypto.wire.shared import Pipe, SharedConnection
from tests.fuzz.choices import Choices
from tests.fuzz.codecs import ROWS, check_request
from tests.fuzz.target import ALLOWED, Run

ROOM = 1024


class Dripping(socket.socket):
    """Gives at most ``parts[0]``, ``parts[1]``, ... bytes at a time, and then what there is."""

    def __init__(self, whole: socket.socket, parts: bytes) -> None:
        super().__init__(fileno=whole.detach())
        self._parts = iter(parts)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """At least one byte."""
        return super().recv_into(buffer, next(self._parts, 0) % (len(buffer) + 1), flags)


@contextmanager
def connection() -> Iterator[Run]:
    """``Connection.receive`` in any parts, or ``SharedConnection.receive``; then what it says."""
    area, buffer = Area(messages.AREA_REPLY).view, memoryview(bytearray(ROOM))

    def run(data: bytes) -> str:
        choices = Choices(data)
        if choices.chance(4):
            return _through_pipes(choices, area)
        return _through_socket(choices, buffer)

    yield run


def _stream(choices: Choices) -> bytes:
    """Some messages, the last one perhaps none or cut."""
    stream = bytearray()
    buffer = memoryview(bytearray(ROOM))
    for _ in range(choices.number() % 3):
        message = choices.pick(ROWS)
        sizes = tuple(choices.number() % 64 for _ in message.readable)
        body, tag = choices.record(message.request), choices.number(4)
        rooms = tuple(16 for _ in message.writable)
        stream += buffer[: messages.pack_request(buffer, message, tag, body, sizes, rooms)]
    choices.change(stream)
    end = len(stream) - (choices.number() if choices.chance(4) else 0)
    return bytes(stream[: max(end, 0)]) + (choices.rest() if choices.chance(4) else b"")


def _through_socket(choices: Choices, buffer: memoryview) -> str:
    parts, ends, stream = choices.take(choices.number() % 16), choices.chance(2), _stream(choices)
    ours, theirs = socket.socketpair()
    with theirs, Dripping(ours, parts) as dripping:
        receiving = Connection(dripping)
        dripping.setblocking(False)
        theirs.send(stream)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        for count in range(2 + len(stream) // HEADER.size):
            wanted = _expected(stream, ends)
            try:
                received = receiving.receive(buffer)
            except ALLOWED as error:
                if type(error) not in wanted:
                    raise AssertionError(f"{error!r} instead of {wanted}") from error
                raise
            if received is None:
                assert None in wanted
                return f"{count} messages"
            assert received == stream[: len(received)]
            stream = stream[len(received) :]
    raise AssertionError("messages without end")


def _expected(stream: bytes, ends: bool) -> set[Any]:
    """What may come of receiving from ``stream``, other than a message."""
    lacks = ConnectionLost if ends else PeerSilent
    if len(stream) < HEADER.size:
        return {lacks} if stream or not ends else {None}
    length = int.from_bytes(stream[:4], "little")
    if not HEADER.size <= length <= ROOM or length < len(stream):
        return {PeerError}
    return {lacks} if length > len(stream) else set()


def _through_pipes(choices: Choices, area: memoryview) -> str:
    """The head of a message by a pipe, then its end; the segments are in ``area``."""
    pipe, back = Pipe(), Pipe()
    ours, theirs = socket.socketpair()
    receiving = SharedConnection(Connection(ours), pipe, os.dup(back.writing), area)
    try:
        stream = _stream(choices)
        message = stream[: choices.pick([len(stream), 16, 40, 56, 256])]
        os.write(pipe.writing, message)
        pipe.give()
        received = receiving.receive(area)
        if received is None:
            assert not message
            return "nothing"
        assert received == message[: len(received)]
        length = messages.read_length(received)
        request = messages.unpack_request(received, receiving.area)
        check_request(request, bytes(received), length)
        return "head" if len(received) < length else "whole"
    finally:
        theirs.close()
        receiving.close()
        back.close()
