"""Heads through pipes, segments in memory that both ends have."""

import fcntl
import mmap
import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from cuse_crypto.wire import messages
from cuse_crypto.wire.area import Area, check_file, new_file
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent, close_all
from cuse_crypto.wire.messages import BY_NAME, Crypt, PeerError
from cuse_crypto.wire.shared import SHORT, Pipe, SharedConnection

CRYPT = BY_NAME["CRYPT"]
SIZE = 1 << 16


class Ends(NamedTuple):
    """Two connected ends, and the memory of the first as the second has it."""

    ours: SharedConnection
    theirs: SharedConnection
    area: memoryview


def connect() -> Ends:
    fd = new_file(SIZE)
    mine, other = Area(SIZE, fd), Area(SIZE, fd)
    os.close(fd)
    pipes = Pipe(), Pipe()
    ends = [
        SharedConnection(Connection(sock), pipe, os.dup(peer.writing), area.view)
        for sock, pipe, peer, area in zip(
            socket.socketpair(), pipes, reversed(pipes), (mine, other), strict=True
        )
    ]
    for pipe in pipes:
        pipe.give()
    return Ends(ends[0], ends[1], mine.view)


@pytest.fixture
def ends() -> Iterator[Ends]:
    connected = connect()
    yield connected
    for end in connected[:2]:
        end.close()


def request(buffer: memoryview, src: bytes) -> memoryview:
    length = messages.pack_request(
        buffer, CRYPT, 7, Crypt(1, 2, 0, 0), (16, len(src)), (len(src), 0, 0)
    )
    buffer[CRYPT.payload_offset : length] = bytes(16) + src
    return buffer[:length]


def test_a_head_and_its_segments(ends: Ends) -> None:
    ends.ours.send(request(ends.area, b"in the memory"), CRYPT.payload_offset)
    received = ends.theirs.receive(memoryview(b""))
    assert received is not None
    assert len(received) == CRYPT.payload_offset
    got = messages.unpack_request(received, ends.theirs.area)
    assert [bytes(segment) for segment in got.readable] == [bytes(16), b"in the memory"]


def test_a_message_that_comes_along(ends: Ends) -> None:
    ends.ours.send(request(memoryview(bytearray(256)), b"in the message"))
    received = ends.theirs.receive(memoryview(b""))
    assert received is not None
    got = messages.unpack_request(received, ends.theirs.area)
    assert bytes(got.readable[1]) == b"in the message"


@pytest.mark.parametrize("size", [SHORT - 1, SHORT, SHORT + 1, select.PIPE_BUF])
def test_any_length_up_to_a_pipe_s(ends: Ends, size: int) -> None:
    buffer = memoryview(bytearray(select.PIPE_BUF))
    message = request(buffer, bytes(size - CRYPT.payload_offset - 16))
    assert len(message) == size
    ends.ours.send(message)
    assert ends.theirs.receive(memoryview(b"")) == message


def test_a_head_of_another_length_is_none(ends: Ends) -> None:
    message = request(ends.area, b"data")
    ends.ours.send(message, CRYPT.payload_offset + 1)
    received = ends.theirs.receive(memoryview(b""))
    assert received is not None
    with pytest.raises(PeerError):
        messages.unpack_request(received, ends.theirs.area)
    with pytest.raises(PeerError):
        messages.unpack_request(received[: CRYPT.payload_offset])


def test_a_segment_beyond_the_memory_is_none(ends: Ends) -> None:
    head = memoryview(bytearray(256))
    messages.pack_request(head, CRYPT, 7, Crypt(1, 2, 0, 0), (16, messages.MAX_LENGTH), (16, 0, 0))
    ends.ours.send(head, CRYPT.payload_offset)
    received = ends.theirs.receive(memoryview(b""))
    assert received is not None
    with pytest.raises(PeerError):
        messages.unpack_request(received, ends.theirs.area)


def test_an_end_is_seen(ends: Ends) -> None:
    ends.ours.close()
    assert ends.theirs.receive(memoryview(b"")) is None
    with pytest.raises(ConnectionLost):
        ends.theirs.send(request(ends.area, b"data"))
    ends.ours.close = lambda: None  # type: ignore[method-assign]


def test_shut_wakes_a_reader(ends: Ends) -> None:
    raised: list[BaseException] = []

    def receive() -> None:
        try:
            ends.ours.receive(memoryview(b""))
        except ConnectionLost as error:
            raised.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    ends.ours.shut()
    thread.join(5)
    assert not thread.is_alive()
    assert raised
    with pytest.raises(ConnectionLost):
        ends.ours.send(request(ends.area, b"data"))


def test_a_peer_that_does_not_read(ends: Ends) -> None:
    def fill() -> None:
        while True:
            ends.ours.send(memoryview(bytes(select.PIPE_BUF)))

    with pytest.raises(PeerSilent):
        fill()


def test_what_is_no_head(ends: Ends) -> None:
    ends.ours.send(memoryview(b"short"))
    with pytest.raises(PeerError, match="5 bytes"):
        ends.theirs.receive(memoryview(b""))


def test_only_a_pipe_is_written_to() -> None:
    pipe = Pipe()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(PeerError, match="no pipe"):
        SharedConnection(Connection(ours), pipe, theirs.fileno(), memoryview(b""))
    pipe.close()


def file(seals: int, size: int = SIZE, flags: int = 0) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def test_memory_that_may_be_mapped() -> None:
    fd = new_file(SIZE)
    check_file(fd, SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


@pytest.mark.parametrize("what", ["can shrink", "can grow", "other size", "huge pages", "a pipe"])
def test_memory_that_may_not_be_mapped(what: str) -> None:
    both = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    fds = []
    if what == "a pipe":
        fds = [*os.pipe()]
    elif what == "huge pages":
        fds = [file(both, 2 << 20, os.MFD_HUGETLB)]
    else:
        missing = {"can shrink": fcntl.F_SEAL_SHRINK, "can grow": fcntl.F_SEAL_GROW}
        fds = [file(both & ~missing.get(what, 0), SIZE - (what == "other size"))]
    with pytest.raises(PeerError):
        check_file(fds[0], os.fstat(fds[0]).st_size if what == "huge pages" else SIZE)
    close_all(fds)


def test_memory_is_given_back() -> None:
    area = Area(8 << 20)
    area.view[:] = b"x" * len(area.view)
    area.trim()
    assert bytes(area.view[: mmap.PAGESIZE]) == bytes(mmap.PAGESIZE)
