"""The wire's codec: every row whole, cut, and changed; and against its specification."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuse_crypto.layout import Layout
from cuse_crypto.wire import messages
from cuse_crypto.wire.messages import HEADER, MESSAGES, Message, PeerError

ROWS = list(MESSAGES.values())
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def example(layout: Layout[Any]) -> Any:
    """A body in which every member differs."""
    values = [
        bytes([number] * field.size) if field.code.endswith("s") else number
        for number, field in enumerate(layout.fields, 1)
    ]
    return layout.record(*values)


def packed(row: Message) -> tuple[bytes, tuple[int, ...]]:
    """A request with segments of 1, 2, ... bytes; the capacities that it names."""
    readable = tuple(range(1, len(row.readable) + 1))
    writable = tuple(range(10, len(row.writable) + 10))
    buffer = memoryview(bytearray(4096))
    length = messages.pack_request(buffer, row, 7, example(row.request), readable, writable)
    for index in range(sum(readable)):
        buffer[row.payload_offset + index] = index
    return bytes(buffer[:length]), writable


def unpack(data: bytes) -> messages.Request:
    messages.read_length(data)
    return messages.unpack_request(memoryview(data))


@each_row
def test_request_there_and_back(row: Message) -> None:
    data, writable = packed(row)
    request = unpack(data)
    assert (request.message, request.tag, request.writable) == (row, 7, writable)
    assert request.body == example(row.request)
    assert [len(segment) for segment in request.readable] == list(range(1, len(row.readable) + 1))
    assert b"".join(request.readable) == bytes(range(sum(map(len, request.readable))))


@each_row
def test_reply_there_and_back(row: Message) -> None:
    lengths = tuple(range(3, len(row.writable) + 3))
    buffer = memoryview(bytearray(4096))
    length = messages.pack_reply(buffer, row, 9, example(row.reply), lengths)
    assert messages.read_length(buffer) == length
    reply = messages.unpack_reply(buffer[:length], row, 9, lengths)
    assert (reply.status, reply.body) == (0, example(row.reply))
    assert tuple(map(len, reply.segments)) == lengths


@each_row
def test_reply_of_an_error(row: Message) -> None:
    buffer = memoryview(bytearray(64))
    length = messages.pack_error(buffer, row, 9, 22)
    capacities = tuple(0 for _ in row.writable)
    reply = messages.unpack_reply(buffer[:length], row, 9, capacities)
    assert reply.status == 22


@each_row
def test_replies_that_are_none(row: Message) -> None:
    lengths = tuple(3 for _ in row.writable)
    buffer = memoryview(bytearray(4096))
    size = messages.pack_reply(buffer, row, 9, example(row.reply), lengths)
    header = HEADER.read(buffer)
    for wrong in (
        header._replace(type=row.type),
        header._replace(tag=8),
        header._replace(readable=header.readable + 1),
        header._replace(writable=1),
        header._replace(length=header.length + 1),
        header._replace(length=HEADER.size),
        header._replace(status=-1),
        header._replace(status=5),
    ):
        HEADER.pack_into(buffer, 0, *wrong)
        if wrong == header or (wrong.status == 5 and size == HEADER.size):
            continue  # That one is right.
        with pytest.raises(PeerError):
            messages.unpack_reply(buffer[:size], row, 9, lengths)
    HEADER.pack_into(buffer, 0, *header)
    if lengths:
        too_small = tuple(length - 1 for length in lengths)
        with pytest.raises(PeerError):
            messages.unpack_reply(buffer[:size], row, 9, too_small)


@each_row
def test_requests_that_are_none(row: Message) -> None:
    data, _ = packed(row)
    header = HEADER.read(data)
    for wrong in (
        header._replace(type=0),
        header._replace(type=row.type | messages.REPLY),
        header._replace(readable=header.readable + 1),
        header._replace(writable=header.writable + 1),
        header._replace(status=1),
        header._replace(length=header.length + 1),
        header._replace(length=0),
        header._replace(length=0xFFFFFFFF),
    ):
        with pytest.raises(PeerError):
            unpack(HEADER.bytes(wrong) + data[HEADER.size :])
    for size in range(HEADER.size, len(data)):
        short = HEADER.bytes(header._replace(length=size))
        with pytest.raises(PeerError):
            unpack(short + data[HEADER.size : size])


def test_capacities_are_bounded() -> None:
    row = messages.BY_NAME["CRYPT"]
    buffer = memoryview(bytearray(4096))
    sizes = (16, 0), (messages.MAX_PAYLOAD, 1, 0)
    length = messages.pack_request(buffer, row, 1, example(row.request), *sizes)
    with pytest.raises(PeerError):
        unpack(bytes(buffer[:length]))


@given(st.binary(min_size=HEADER.size, max_size=200))
def test_any_bytes_are_a_request_or_the_error(data: bytes) -> None:
    with contextlib.suppress(PeerError):
        unpack(data)


@given(st.sampled_from(ROWS), st.data())
def test_changed_bytes_are_a_request_or_the_error(row: Message, data: st.DataObject) -> None:
    valid = bytearray(packed(row)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        valid[data.draw(st.integers(0, len(valid) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PeerError):
        unpack(bytes(valid))


def documented() -> Iterator[str]:
    text = (Path(messages.__file__).parent / "PROTOCOL.md").read_text()
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        name = section.splitlines()[0]
        yield name
        for title, table in re.findall(
            r"^\| (request|reply) \|.*\n\|.*\n((?:\|.*\n)+)", section, re.M
        ):
            for line in table.splitlines():
                field, offset, size = (cell.strip() for cell in line.strip("|").split("|"))
                yield f"{name} {title} {field} {offset} {size}"
        for kind, names in re.findall(r"(Readable|Writable): ([a-z_, ]+)\.", section):
            yield f"{name} {kind.lower()} {names}"


def coded() -> Iterator[str]:
    for row in ROWS:
        name = f"{row.type} {row.name}"
        yield name
        for title, layout in (("request", row.request), ("reply", row.reply)):
            for field in layout.fields:
                yield f"{name} {title} {field.name} {field.offset} {field.size}"
        for kind in ("readable", "writable"):
            if getattr(row, kind):
                yield f"{name} {kind} {', '.join(getattr(row, kind))}"


def test_protocol_document() -> None:
    assert sorted(documented()) == sorted(coded())
    text = (Path(messages.__file__).parent / "PROTOCOL.md").read_text()
    assert f"{messages.MAX_PAYLOAD} bytes" in text
    assert f"{messages.MAGIC:#x}" in text
    assert f"The file has {messages.AREA_SIZE} bytes" in text
    assert f"in its middle, at {messages.AREA_REPLY}" in text
    for field in HEADER.fields:
        assert f"| {field.name} | {field.offset} | {field.size} |" in text
