"""Messages over a real socket, in whatever parts they come."""

import socket
import threading
from collections.abc import Iterator

import pytest

from cuse_crypto.wire import messages
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent
from cuse_crypto.wire.messages import BY_NAME, Crypt, PeerError

MESSAGE = memoryview(bytearray(256))
LENGTH = messages.pack_request(
    MESSAGE, BY_NAME["CRYPT"], 1, Crypt(1, 2, 0, 0), (16, 32), (32, 0, 0)
)
WHOLE = MESSAGE[:LENGTH]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Connection]]:
    ours, theirs = socket.socketpair()
    yield theirs, Connection(ours, deadline=0.2)
    ours.close()
    theirs.close()


@pytest.fixture
def buffer() -> memoryview:
    return memoryview(bytearray(1024))


def test_whole(ends: tuple[socket.socket, Connection], buffer: memoryview) -> None:
    ends[0].send(WHOLE)
    assert ends[1].receive(buffer) == WHOLE


def test_byte_by_byte(ends: tuple[socket.socket, Connection], buffer: memoryview) -> None:
    def feed() -> None:
        for number in WHOLE:
            ends[0].send(bytes([number]))

    thread = threading.Thread(target=feed)
    thread.start()
    message = ends[1].receive(buffer)
    thread.join()
    assert message == WHOLE


def test_orderly_end(ends: tuple[socket.socket, Connection], buffer: memoryview) -> None:
    ends[0].shutdown(socket.SHUT_WR)
    assert ends[1].receive(buffer) is None


@pytest.mark.parametrize("size", [1, 15, 16, 17, LENGTH - 1])
def test_cut(ends: tuple[socket.socket, Connection], buffer: memoryview, size: int) -> None:
    ends[0].send(WHOLE[:size])
    ends[0].shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionLost):
        ends[1].receive(buffer)


def test_more_than_one(ends: tuple[socket.socket, Connection], buffer: memoryview) -> None:
    ends[0].send(bytes(WHOLE) + b"x")
    with pytest.raises(PeerError, match="1 bytes follow"):
        ends[1].receive(buffer)


def test_longer_than_the_buffer(ends: tuple[socket.socket, Connection]) -> None:
    ends[0].send(WHOLE)
    with pytest.raises(PeerError, match="more than was agreed on"):
        ends[1].receive(memoryview(bytearray(64)))


def test_silence(ends: tuple[socket.socket, Connection], buffer: memoryview) -> None:
    with pytest.raises(PeerSilent, match="deadline"):
        ends[1].receive(buffer)
    ends[0].send(WHOLE[:20])
    with pytest.raises(PeerSilent, match="deadline"):
        ends[1].receive(buffer)


def test_a_peer_that_takes_nothing(ends: tuple[socket.socket, Connection]) -> None:
    with pytest.raises(PeerSilent, match="takes no more"):
        ends[1].send(memoryview(bytearray(4 << 20)))


def test_a_peer_that_is_gone(ends: tuple[socket.socket, Connection]) -> None:
    ends[0].close()
    with pytest.raises(ConnectionLost):
        ends[1].send(MESSAGE[:LENGTH])


def test_long_message_in_parts(ends: tuple[socket.socket, Connection]) -> None:
    size = messages.MAX_LENGTH
    big = memoryview(bytearray(size))
    sizes = (16, messages.MAX_PAYLOAD - 16), (0, 0, 0)
    length = messages.pack_request(big, BY_NAME["CRYPT"], 1, Crypt(1, 2, 0, 0), *sizes)
    ends[0].setblocking(True)
    sending = threading.Thread(target=Connection(ends[0]).send, args=[big[:length]])
    sending.start()
    received = memoryview(bytearray(size))
    message = ends[1].receive(received)
    sending.join()
    assert message == big[:length]


def test_shut_wakes_a_reader(ends: tuple[socket.socket, Connection], buffer: memoryview) -> None:
    ends[1].set_deadline(0)
    thread = threading.Thread(target=ends[1].receive, args=[buffer])
    thread.start()
    ends[1].shut()
    thread.join(timeout=5)
    assert not thread.is_alive()
