"""The back end before front ends that break the rules: they are dropped, and nobody else is."""

import contextlib
import errno
import fcntl
import gc
import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cuse_crypto.wire import messages
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.connection import Connection, ConnectionLost, close_all
from cuse_crypto.wire.messages import (
    BY_NAME,
    HEADER,
    Crypt,
    Handle,
    Hello,
    NewSession,
    Reply,
    Session,
)
from cuse_crypto_backend.engines.engine import Keys
from cuse_crypto_backend.engines.openssl import OpensslEngine
from cuse_crypto_backend.guests import Guest
from tests.conftest import eventually
from tests.test_front_and_back import Backend

GUEST = b"g" * 16
HELLO = Hello(messages.MAGIC, messages.VERSION, 0, 0, messages.MAX_PAYLOAD, GUEST)


class Peer:
    """A front end that may say anything."""

    def __init__(self, address: Address, hello: Hello | None = HELLO) -> None:
        self.connection = address.connect(2, deadline=5)
        self.buffer = memoryview(bytearray(1 << 21))
        if hello:
            self.welcome = self.ask("HELLO", hello, (), (1024,))

    def ask(
        self, name: str, body: object, segments: tuple[bytes, ...], writable: tuple[int, ...] = ()
    ) -> Reply:
        row = BY_NAME[name]
        lengths = tuple(map(len, segments))
        length = messages.pack_request(self.buffer, row, 5, body, lengths, writable)
        payload = b"".join(segments)
        self.buffer[row.payload_offset : row.payload_offset + len(payload)] = payload
        self.connection.send(self.buffer[:length])
        message = self.connection.receive(self.buffer)
        if message is None:
            raise ConnectionLost("dropped")
        return messages.unpack_reply(message, row, 5, writable)

    def is_dropped(self) -> bool:
        try:
            return self.connection.receive(self.buffer) is None
        except ConnectionLost:
            return True


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    running = Backend(Address.parse(f"unix:{tmp_path}/s"))
    yield running
    running.stop()


@pytest.fixture
def peer(backend: Backend) -> Iterator[Peer]:
    one = Peer(backend.address)
    yield one
    # Whatever happened to others: this one is served to the end.
    assert one.ask("OPEN", Handle(99), ()).status == 0
    one.connection.close()


def test_welcome(peer: Peer, backend: Backend) -> None:
    assert peer.welcome.body.version == messages.VERSION
    assert peer.welcome.body.engine.rstrip(b"\0") == b"openssl"


@pytest.mark.parametrize(
    "hello", [HELLO._replace(magic=1), HELLO._replace(version=1), HELLO._replace(version=0)]
)
def test_strange_hello(backend: Backend, peer: Peer, hello: Hello) -> None:
    stranger = Peer(backend.address, None)
    with contextlib.suppress(ConnectionLost):
        assert stranger.ask("HELLO", hello, (), (1024,)).status == errno.EPROTONOSUPPORT
    assert stranger.is_dropped()
    stranger.connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(16),
        b"\xff" * 64,
        HEADER.bytes(messages.Header(16, 2, 0, 0, 1, 0)),
        HEADER.bytes(messages.Header(24, 2, 0, 0, 1, 0)) + bytes(8),
    ],
)
@pytest.mark.parametrize("greeted", [False, True])
def test_nonsense(backend: Backend, peer: Peer, data: bytes, greeted: bool) -> None:
    stranger = Peer(backend.address, HELLO if greeted else None)
    stranger.connection.send(memoryview(data))
    if data[4:6] == b"\x02\x00" and len(data) == 24 and greeted:
        stranger.connection.close()
        return
    assert stranger.is_dropped()
    stranger.connection.close()


def offer(backend: Backend, what: str) -> tuple[Connection, memoryview]:
    """A HELLO that comes with descriptors; where the answer to it goes."""
    connection = backend.address.connect(2, deadline=5)
    buffer = memoryview(bytearray(8192))
    hello = HELLO._replace(features=messages.Feature.SHARED)
    length = messages.pack_request(buffer, BY_NAME["HELLO"], 5, hello, (), (1024,))
    memory, pipe = os.memfd_create("test", os.MFD_ALLOW_SEALING), os.pipe()
    size = messages.AREA_SIZE - (4096 if what == "too small" else 0)
    os.ftruncate(memory, size)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    if what == "read only":
        seals |= fcntl.F_SEAL_WRITE
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, 0 if what == "not sealed" else seals)
    given = {
        "one descriptor": [memory],
        "no pipe": [memory, memory],
        "the wrong way round": [pipe[1], memory],
        "many": [memory, pipe[1], *[pipe[0]] * 50],
    }.get(what, [memory, pipe[1]])
    connection.send(buffer[:length], descriptors=given)
    close_all([memory, *pipe])
    return connection, buffer


def open_files() -> int:
    """Without those of objects that only wait to be collected."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "what",
    ["not sealed", "too small", "read only", "no pipe", "the wrong way round"],
)
def test_memory_that_is_a_trap(backend: Backend, peer: Peer, what: str) -> None:
    files = open_files()
    connection, buffer = offer(backend, what)
    with contextlib.suppress(ConnectionLost):
        assert connection.receive_first(buffer, 1) == (None, [])
    connection.close()
    assert peer.ask("OPEN", Handle(1), ()).status == 0
    eventually(lambda: open_files() == files)


@pytest.mark.parametrize("what", ["one descriptor", "many", ""])
def test_memory_that_is_taken_or_not(backend: Backend, what: str) -> None:
    files = open_files()
    connection, buffer = offer(backend, what)
    message, given = connection.receive_first(buffer, 1)
    assert message is not None
    welcome = messages.unpack_reply(message, BY_NAME["HELLO"], 5, (1024,))
    assert welcome.status == 0
    assert bool(welcome.body.features) == bool(given) == (what != "one descriptor")
    close_all(given)
    connection.close()
    eventually(lambda: open_files() == files)


def test_hello_twice(backend: Backend, peer: Peer) -> None:
    """As the same guest nothing changes; as another one it begins anew."""
    stranger = Peer(backend.address, HELLO._replace(guest=b"h" * 16))
    stranger.ask("OPEN", Handle(7), ())
    new_session = NewSession(7, 1, 11, 0), (bytes(16), b"")
    for guest, status in ((b"h", 0), (b"i", errno.ESTALE), (b"h", errno.ESTALE)):
        reply = stranger.ask("HELLO", HELLO._replace(guest=guest * 16), (), (1024,))
        assert reply.body.place == peer.welcome.body.place
        assert stranger.ask("NEW_SESSION", *new_session).status == status
    with contextlib.suppress(ConnectionLost):
        stranger.ask("HELLO", HELLO._replace(magic=1), (), (1024,))
    assert stranger.is_dropped()
    stranger.connection.close()


def test_hello_twice_with_shared_memory(backend: Backend) -> None:
    connection, buffer = offer(backend, "")
    message, (writing,) = connection.receive_first(buffer, 1)
    assert message is not None
    length = messages.pack_request(buffer, BY_NAME["HELLO"], 6, HELLO, (), (1024,))
    os.write(writing, buffer[:length])
    assert connection.receive(buffer) is None
    os.close(writing)
    connection.close()


def test_operations_that_cannot_be(peer: Peer) -> None:
    assert peer.ask("NEW_SESSION", NewSession(1, 1, 11, 0), (bytes(16), b"")).status == errno.ESTALE
    assert peer.ask("OPEN", Handle(1), ()).status == 0
    for cipher, key in ((11, 15), (11, 0), (99, 16), (0, 0), (2, 16), (11, 4096)):
        body = NewSession(1, 1, cipher, 0)
        assert peer.ask("NEW_SESSION", body, (bytes(key), b"")).status == errno.EINVAL
    assert peer.ask("NEW_SESSION", NewSession(1, 1, 11, 0), (bytes(16), b"")).status == 0

    def crypt(body: Crypt, iv: int, src: int, room: int) -> int:
        return peer.ask("CRYPT", body, (bytes(iv), bytes(src)), (room, 0, 0)).status

    assert crypt(Crypt(1, 1, 0, 0), 16, 32, 32) == 0
    assert crypt(Crypt(1, 1, 2, 0), 16, 32, 32) == errno.EINVAL
    assert crypt(Crypt(1, 1, 0, 0), 15, 32, 32) == errno.EINVAL
    assert crypt(Crypt(1, 1, 0, 0), 16, 31, 32) == errno.EINVAL
    assert crypt(Crypt(1, 1, 0, 0), 16, 32, 31) == errno.EINVAL
    assert crypt(Crypt(1, 2, 0, 0), 16, 32, 32) == errno.ESTALE
    assert crypt(Crypt(2, 1, 0, 0), 16, 32, 32) == errno.ESTALE
    assert crypt(Crypt(1, 1, 0, 0), 16, 1 << 20, 1 << 20) == 0


def test_only_ofb_tells_where_it_goes_on_and_only_where_there_is_room(peer: Peer) -> None:
    peer.ask("OPEN", Handle(1), ())
    for ses, cipher in ((1, 25), (2, 21)):
        peer.ask("NEW_SESSION", NewSession(1, ses, cipher, 14), (bytes(16), b""))
    iv, src = bytes(16), bytes(5)
    ofb = peer.ask("CRYPT", Crypt(1, 1, 0, 3), (iv, src), (5, 20, 16))
    assert [len(part) for part in ofb.segments] == [5, 20, 16]
    assert bytes(ofb.segments[2]).startswith(bytes(ofb.segments[0]))
    without = peer.ask("CRYPT", Crypt(1, 1, 0, 3), (iv, src), (5, 20, 0))
    assert [len(part) for part in without.segments] == [5, 20, 0]
    ctr = peer.ask("CRYPT", Crypt(1, 2, 0, 3), (iv, src), (5, 20, 16))
    assert [len(part) for part in ctr.segments] == [5, 20, 0]


def test_guests_do_not_see_each_other(backend: Backend, peer: Peer) -> None:
    peer.ask("OPEN", Handle(1), ())
    peer.ask("NEW_SESSION", NewSession(1, 7, 11, 0), (bytes(16), b""))
    stranger = Peer(backend.address, HELLO._replace(guest=b"h" * 16))
    body = Crypt(1, 7, 0, 0)
    segments = (bytes(16), bytes(16))
    assert stranger.ask("CRYPT", body, segments, (16, 0, 0)).status == errno.ESTALE
    assert stranger.ask("END_SESSION", Session(1, 7), ()).status == errno.ESTALE
    assert stranger.ask("RELEASE", Handle(1), ()).status == 0
    stranger.connection.close()
    assert peer.ask("CRYPT", body, segments, (16, 0, 0)).status == 0


def test_queues_of_a_guest_share(backend: Backend, peer: Peer) -> None:
    peer.ask("OPEN", Handle(1), ())
    peer.ask("NEW_SESSION", NewSession(1, 7, 11, 0), (bytes(16), b""))
    second = Peer(backend.address)
    reply = second.ask("CRYPT", Crypt(1, 7, 0, 0), (bytes(16), bytes(16)), (16, 0, 0))
    assert reply.status == 0
    second.connection.close()


def test_other_users_are_refused(tmp_path: Path) -> None:
    backend = Backend(Address.parse(f"unix:{tmp_path}/s"))
    backend.server.admission.uids = frozenset({os.geteuid() + 1})
    try:
        stranger = Peer(backend.address, None)
        with pytest.raises(ConnectionLost):
            stranger.ask("HELLO", HELLO, (), (1024,))
        stranger.connection.close()
    finally:
        backend.stop()


def test_half_a_message_and_gone(backend: Backend, peer: Peer) -> None:
    stranger = Peer(backend.address)
    stranger.connection.send(memoryview(bytes(HEADER.bytes(messages.Header(1000, 6, 2, 2, 1, 0)))))
    stranger.connection.socket.shutdown(socket.SHUT_RDWR)
    stranger.connection.close()


@pytest.mark.parametrize("end", ["session", "file"])
def test_a_session_ends_when_its_operation_is_done(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another queue of the guest ends it: what the engine closes is not used any more."""
    guest, closed = Guest(OpensslEngine()), threading.Event()
    guest.open(1)
    guest.new_session(1, 1, (11, 0), Keys(bytes(16), b""))
    session = guest.session(1, 1)
    monkeypatch.setattr(session.engine, "close", closed.set)
    ending = {"session": partial(guest.end_session, 1, 1), "file": partial(guest.release, 1)}[end]
    thread = threading.Thread(target=ending)
    with session:
        thread.start()
        assert not closed.wait(0.2)
    thread.join(10)
    assert closed.is_set()
    with pytest.raises(OSError, match="no such session") as refused, session:
        pass
    assert refused.value.errno == messages.NO_SUCH_HANDLE
