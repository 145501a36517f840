"""What decodes: the wire's messages and the kernel's requests. What is taken is as it was said."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.protocol import IN_HEADER, OPCODES, fuse_in_header
from cuse_crypto.wire import messages
from cuse_crypto.wire.area import Area
from cuse_crypto.wire.messages import HEADER, Message
from tests.fuzz.choices import Choices
from tests.fuzz.target import Run

ROWS = list(messages.MESSAGES.values())
MOST = 4096
"""Bytes of the longest message here; what is longer lies in shared memory."""


@contextmanager
def wire_request() -> Iterator[Run]:
    """What a back end reads, inline and with its segments in shared memory."""
    area, buffer = Area(messages.AREA_REPLY).view, memoryview(bytearray(MOST))

    def run(data: bytes) -> str:
        choices = Choices(data)
        shared = choices.chance(2)
        received = _request(choices, buffer, shared) if choices.number() % 4 else choices.rest()
        received = received.ljust(HEADER.size, b"\0")
        length = messages.read_length(received)
        request = messages.unpack_request(received, area if shared else None)
        check_request(request, received, length)
        return request.message.name

    yield run


def _request(choices: Choices, buffer: memoryview, shared: bool) -> bytes:
    message = choices.pick(ROWS)
    readable = tuple(choices.size() for _ in message.readable)
    writable = tuple(choices.size() for _ in message.writable)
    if message.payload_offset + sum(readable) > 0xFFFFFFFF:
        readable = tuple(0 for _ in readable)
    body = choices.record(message.request)
    length = messages.pack_request(buffer, message, choices.number(4), body, readable, writable)
    end = message.payload_offset if shared else min(length, MOST)
    return _damaged(choices, bytearray(buffer[:end]))


def _damaged(choices: Choices, whole: bytearray) -> bytes:
    """Once in four times with other bytes, once in 16 times too short or too long."""
    if choices.chance(2):
        choices.change(whole)
    if choices.chance(16):
        return bytes(whole[: choices.number()]) + choices.take(choices.number() % 40)
    return bytes(whole)


def check_request(request: messages.Request, received: bytes, length: int) -> None:
    """Packed again it is what was received."""
    message, sizes = request.message, tuple(map(len, request.readable))
    head = memoryview(bytearray(message.payload_offset))
    packed = messages.pack_request(
        head, message, request.tag, request.body, sizes, request.writable
    )
    assert (packed, bytes(head)) == (length, received[: len(head)])
    assert sum(request.writable) <= messages.MAX_PAYLOAD


@contextmanager
def wire_reply() -> Iterator[Run]:
    """What a front end reads, in answer to any request."""
    area, buffer = Area(messages.AREA_REPLY).view, memoryview(bytearray(MOST))

    def run(data: bytes) -> str:
        choices = Choices(data)
        message, tag, shared = choices.pick(ROWS), choices.number(4), choices.chance(2)
        rooms = tuple(choices.size() % messages.MAX_PAYLOAD for _ in message.writable)
        if choices.number() % 4:
            received = _reply(choices, buffer, shared, message, tag, rooms)
        else:
            received = choices.rest()
        received = received.ljust(HEADER.size, b"\0")
        # Who reads from a pipe does not look at the length first.
        length = HEADER.read(received).length if shared else messages.read_length(received)
        reply = messages.unpack_reply(received, message, tag, rooms, area if shared else None)
        _check_reply(reply, message, tag, rooms, received, length)
        return f"{message.name} {reply.status}" if reply.status in (0, 22) else "error"

    yield run


def _reply(
    choices: Choices,
    buffer: memoryview,
    shared: bool,
    message: Message,
    tag: int,
    rooms: tuple[int, ...],
) -> bytes:
    if choices.chance(4):
        status = choices.number(2) if choices.chance(2) else 22
        return _damaged(
            choices, bytearray(buffer[: messages.pack_error(buffer, message, tag, status)])
        )
    sizes = tuple(choices.size() % (room + 2) for room in rooms)
    body = choices.record(message.reply)
    length = messages.pack_reply(buffer, message, tag, body, sizes)
    end = message.reply_offset if shared else min(length, MOST)
    return _damaged(choices, bytearray(buffer[:end]))


def _check_reply(
    reply: messages.Reply,
    message: Message,
    tag: int,
    rooms: tuple[int, ...],
    received: bytes,
    length: int,
) -> None:
    head = memoryview(bytearray(message.reply_offset))
    if reply.status:
        assert 0 < reply.status < 512
        packed = messages.pack_error(head, message, tag, reply.status)
        # How many segments an error has not is not looked at.
        assert (packed, bytes(head[8:packed])) == (length, received[8:])
        return
    sizes = tuple(map(len, reply.segments))
    assert all(size <= room for size, room in zip(sizes, rooms, strict=True))
    packed = messages.pack_reply(head, message, tag, reply.body, sizes)
    assert (packed, bytes(head)) == (length, received[: len(head)])


@contextmanager
def fuse() -> Iterator[Run]:
    """What the kernel says."""
    rows = list(OPCODES.values())

    def run(data: bytes) -> str:
        choices = Choices(data)
        message = _kernel(choices, rows) if choices.number() % 4 else choices.rest()
        request = protocol.decode(memoryview(message))
        assert protocol.unique_of(memoryview(message)) == request.header.unique
        body = request.opcode.request.size if request.opcode.request else 0
        assert len(request.payload) == len(message) - IN_HEADER.size - body
        if request.opcode.name == "FUSE_INIT":
            protocol.init_reply(request.body)
        elif request.opcode.name == "CUSE_INIT":
            protocol.cuse_init_reply(request.body, "cryptodev0")
        return request.opcode.name if request.opcode in rows else "unknown"

    yield run


def _kernel(choices: Choices, rows: list[Any]) -> bytes:
    row = choices.pick(rows)
    size = row.request.size if row.request else 0
    size = max(size - choices.chance(16), 0) + (choices.number() if choices.chance(4) else 0)
    number = choices.number(4) if choices.chance(16) else row.number
    header = choices.record(IN_HEADER)
    header = header._replace(len=IN_HEADER.size + size, opcode=number)
    body = bytearray(IN_HEADER.bytes(fuse_in_header(*header)) + choices.take(size))
    if row.name.endswith("_INIT") and choices.chance(2):
        body[IN_HEADER.size] = protocol.FUSE_KERNEL_VERSION
        body[IN_HEADER.size + 1 : IN_HEADER.size + 4] = bytes(3)
    return _damaged(choices, body)
