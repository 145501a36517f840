"""Peers of a back end: those who say nothing, too much, or what another one would say."""

import contextlib
import errno
import fcntl
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuse_crypto.cli import revoking
from cuse_crypto.frontend.queue import BackendGone, Queue
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.messages import Crypt, Handle
from cuse_crypto.wire.tls import Credentials
from cuse_crypto_backend import guests
from cuse_crypto_backend.admission import Admission
from cuse_crypto_backend.engines.engine import Keys
from cuse_crypto_backend.engines.null import NullEngine
from cuse_crypto_backend.engines.openssl import OpensslEngine
from tests.attacks.peers import (
    CRYPT,
    HOST,
    MIB,
    Pki,
    Shared,
    Target,
    client_hello,
    crypt_head,
    doing,
    hello,
    is_ended,
    new_session,
    served,
    with_session,
)
from tests.conftest import eventually
from tests.test_front_and_back import Backend

SAME = b"s" * 16
"""A guest that two claim to be."""


@pytest.fixture(autouse=True)
def no_back_end_is_left() -> Iterator[None]:
    """Also where a test fails before it ends its own."""
    before = len(Target.started)
    yield
    for target in Target.started[before:]:
        target.service.stop()
    del Target.started[before:]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("peers") / "pki")


@pytest.fixture
def network(pki: Pki) -> Iterator[Target]:
    target = Target(f"tcp:{HOST}:0", "--pki", str(pki.issue("backend", "backend")))
    yield target
    assert target.service.stop() == 0


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Target]:
    target = Target(f"unix:{tmp_path}/s")
    yield target
    assert target.service.stop() == 0


@pytest.fixture
def kept() -> Iterator[list[socket.socket]]:
    """Sockets that stay open until the end of a test."""
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


Sources = dict[str, Callable[[int], str]]
SOURCES: Sources = {
    "one address": lambda number: "",
    "another address": lambda number: "127.0.0.2",
    "many addresses": lambda number: f"127.1.{number // 250}.{number % 250 + 1}",
}


@pytest.mark.parametrize("sources", SOURCES)
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01"])
def test_silent_strangers(
    network: Target, pki: Pki, kept: list[socket.socket], sources: str, said: bytes
) -> None:
    """As many as there are places, and more: they keep no peer out, and have no threads."""
    tls, before = pki.credentials("web"), network.usage
    for number in range(700):
        kept.append(network.stranger(SOURCES[sources](number)))
        with contextlib.suppress(OSError):
            kept[-1].send(said)
    assert served(network, tls) == 60
    after = network.usage
    assert after.threads < before.threads + 16
    assert after.descriptors < before.descriptors + 600
    assert after.resident < before.resident + 64 * MIB


@pytest.mark.parametrize("sources", ["one address", "many addresses"])
def test_a_flood_of_strangers(network: Target, pki: Pki, sources: str) -> None:
    """New ones all the time, faster than anybody is greeted."""
    tls, ended = pki.credentials("web"), threading.Event()

    def flood() -> None:
        number, mine = 0, []
        while not ended.is_set():
            number += 1
            with contextlib.suppress(OSError):
                mine.append(network.stranger(SOURCES[sources](number % 10000)))
            if len(mine) > 300:
                mine.pop(0).close()
        for sock in mine:
            sock.close()

    with doing(ended, threading.Thread(target=flood)):
        time.sleep(0.5)
        assert served(network, tls) == 60


def test_slow_handshakes(network: Target, pki: Pki, kept: list[socket.socket]) -> None:
    """A byte at a time: the deadline is for all that comes before HELLO."""
    tls, ended, said = pki.credentials("web"), threading.Event(), client_hello()
    kept += [network.stranger() for _ in range(100)]

    def trickle() -> None:
        for byte in said:
            for sock in kept:
                with contextlib.suppress(OSError):
                    sock.send(bytes([byte]))
            if ended.wait(0.5):
                break

    with doing(ended, threading.Thread(target=trickle)):
        assert served(network, tls) == 60
        began = time.monotonic()
        assert all(is_ended(sock, 10) for sock in kept)
        assert time.monotonic() - began < 8


def shaken(target: Target, tls: Credentials) -> ssl.SSLSocket:
    sock = tls.client(target.stranger(), HOST)
    sock.do_handshake()
    return sock


def test_no_hello_after_the_handshake(network: Target, pki: Pki, kept: list[socket.socket]) -> None:
    """Nor half of one, a byte at a time."""
    tls = pki.credentials("web")
    silent = [shaken(network, tls) for _ in range(20)]
    kept += silent
    ended = threading.Event()

    def trickle() -> None:
        for byte in hello(SAME):
            for sock in silent[:10]:
                with contextlib.suppress(OSError):
                    sock.send(bytes([byte]))
            if ended.wait(0.5):
                break

    with doing(ended, threading.Thread(target=trickle)):
        assert served(network, tls) == 60
        assert all(is_ended(sock, 10) for sock in silent)


@pytest.mark.parametrize("length", [5000, 60 * MIB])
def test_a_hello_without_end(local: Target, kept: list[socket.socket], length: int) -> None:
    """What is not even a front end needs no memory."""
    before = local.usage
    for _ in range(8):
        sock = socket.socket(socket.AF_UNIX)
        kept.append(sock)
        sock.connect(local.address.rest)
        sock.settimeout(5)
        sock.send(hello(SAME, length))
        with contextlib.suppress(OSError):
            sock.sendall(bytes(length))
    assert all(is_ended(sock, 2) for sock in kept)
    assert local.usage.resident < before.resident + 64 * MIB
    assert served(local, None) == 60


def test_a_hello_that_takes_long(local: Target, kept: list[socket.socket]) -> None:
    kept += [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for sock in kept:
        sock.connect(local.address.rest)
    ended = threading.Event()

    def trickle() -> None:
        for byte in hello(SAME):
            for sock in kept:
                with contextlib.suppress(OSError):
                    sock.send(bytes([byte]))
            if ended.wait(0.5):
                break

    with doing(ended, threading.Thread(target=trickle)):
        assert all(is_ended(sock, 10) for sock in kept)


def test_another_authority_again_and_again(network: Target, pki: Pki, tmp_path: Path) -> None:
    """They keep no peer out, and do not fill the log."""
    foreign = Pki(tmp_path / "theirs")
    made = foreign.issue("web")
    (made / "ca.crt").write_bytes((pki.folder / "ca.crt").read_bytes())
    tls, theirs, ended = pki.credentials("web"), Credentials.in_folder(made), threading.Event()
    tries = []

    def repeat() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError), shaken(network, theirs) as sock:
                tries.append(sock.recv(1))

    with doing(ended, *(threading.Thread(target=repeat) for _ in range(2))):
        assert served(network, tls) == 60
    network.service.stop()
    assert len(network.service.said().splitlines()) < 10


def unfinished(target: Target, tls: Credentials | None, size: int) -> tuple[Queue, socket.socket]:
    """A connection that has begun a message of ``size`` and sent what is taken of it."""
    queue = target.queue(tls)
    sock = with_session(queue)
    sock.settimeout(1)
    with contextlib.suppress(OSError):
        sock.sendall(crypt_head(size))
        for _ in range(size // MIB - 1):
            sock.sendall(bytes(MIB))
    return queue, sock


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_unfinished_messages(request: pytest.FixtureRequest, pki: Pki, kind: str) -> None:
    """They take a share of the memory, and no more; others have theirs."""
    target: Target = request.getfixturevalue("network" if kind == "tcp" else "local")
    tls = pki.credentials("greedy") if kind == "tcp" else None
    before = target.usage
    begun = [unfinished(target, tls, 64 * MIB) for _ in range(16)]
    assert target.usage.resident < before.resident + 600 * MIB
    assert served(target, pki.credentials("modest") if tls else None) == 60
    for queue, _ in begun:
        queue.close()
    eventually(lambda: target.usage.resident < before.resident + 64 * MIB)


def test_long_messages_of_another_owner(network: Target, pki: Pki) -> None:
    """A share is left for them, whatever the first one does."""
    greedy = pki.credentials("greedy")
    begun = [unfinished(network, greedy, 64 * MIB) for _ in range(8)]
    queue = network.queue(pki.credentials("modest"))
    with_session(queue)
    size = 32 * MIB
    reply = queue.exchange(CRYPT, Crypt(1, 1, 0, 0), (16, size), (size, 0, 0))
    assert reply.status == 0
    for one, _ in [(queue, None), *begun]:
        one.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr("cuse_crypto_backend.channel.REST_DEADLINE", 0.3)
    monkeypatch.setattr("cuse_crypto.wire.connection.RATE", 1 << 30, raising=False)


@pytest.fixture(params=["unix", "tcp", "tls"])
def inside(request: pytest.FixtureRequest, tmp_path: Path, pki: Pki) -> Iterator[Backend]:
    """A back end in this process."""
    address = Address.parse(f"tcp:{HOST}:0")
    if request.param == "unix":
        address = Address.parse(f"unix:{tmp_path}/s")
    if request.param == "tls":
        address = address.secured(Credentials.in_folder(pki.issue("backend", "backend")))
    admission = Admission(frozenset({os.geteuid()}), tls=address.tls)
    backend = Backend(address, OpensslEngine(), admission)
    if address.tls:
        backend.address = backend.address.secured(pki.credentials("web"))
    yield backend
    backend.stop()


def queue_to(backend: Backend, guest: bytes = b"", shared: bool = False) -> Queue:
    return Queue(backend.address, guest or os.urandom(16), 0, 5, patience=2, shared=shared)


def test_a_message_that_takes_too_long(hasty: None, inside: Backend) -> None:
    """Never silent for long, and never done."""
    queue = queue_to(inside)
    sock = with_session(queue)
    sock.settimeout(5)
    sock.sendall(crypt_head(8 * MIB))
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(OSError):
                sock.send(bytes(100))

    with doing(ended, threading.Thread(target=trickle)):
        eventually(lambda: not inside.server._peers, 5)
    queue.close()


def test_a_header_that_takes_too_long(hasty: None, inside: Backend) -> None:
    queue = queue_to(inside)
    sock = with_session(queue)
    sock.sendall(crypt_head(16)[:5])
    eventually(lambda: not inside.server._peers, 5)
    queue.close()


@pytest.mark.parametrize("reading", [0, 1000])
def test_a_reply_that_is_not_read(hasty: None, inside: Backend, reading: int) -> None:
    """Or not faster than some bytes at a time."""
    queue = queue_to(inside)
    sock = with_session(queue)
    sock.settimeout(5)
    size = 32 * MIB
    sock.sendall(crypt_head(size) + bytes(size))
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(OSError):
                sock.recv(reading)

    with doing(ended, *[threading.Thread(target=trickle)] * bool(reading)):
        eventually(lambda: not inside.server._peers, 10)
    queue.close()


def test_sessions_and_files_of_all_guests_of_an_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another guest, by another name, has no more of them."""
    monkeypatch.setattr(guests, "ALL_SESSIONS", 10)
    monkeypatch.setattr(guests, "ALL_FILES", 10)
    backend = Backend(Address.parse(f"unix:{tmp_path}/s"))
    queues = [queue_to(backend) for _ in range(8)]
    answers = []
    for queue in queues:
        answers.append(queue.control("OPEN", Handle(1)).status)
        answers.append(new_session(queue))
    assert answers == [0] * 10 + [errno.EMFILE, errno.ESTALE] * 3
    for queue in queues:
        queue.close()
    eventually(lambda: not backend.server.guests._guests)
    queue = queue_to(backend)
    with_session(queue)
    queue.close()
    backend.stop()


def test_sessions_are_not_lost_in_a_race() -> None:
    """Made in a file that is being released: they count as long as they are there."""
    guest, keys = guests.Guest(NullEngine()), Keys(bytes(16), b"")
    ended = threading.Event()

    def release() -> None:
        while not ended.is_set():
            guest.release(1)
            guest.open(1)

    with doing(ended, *(threading.Thread(target=release) for _ in range(2))):
        for number in range(20000):
            with contextlib.suppress(OSError):
                guest.new_session(1, number, (11, 0), keys)
    guest.release(1)
    assert guest._sessions == 0


def test_two_certificates_and_one_guest(network: Target, pki: Pki) -> None:
    """Whose name it is follows from the certificate."""
    tls = pki.credentials("one")
    one = network.queue(tls, SAME)
    with_session(one)
    other = network.queue(pki.credentials("two"), SAME)
    other.connect()
    assert other.control("RELEASE", Handle(1)).status == 0
    assert new_session(other, 2) == errno.ESTALE
    again = network.queue(tls, SAME)
    assert new_session(again, 3) == 0
    for queue in (one, other, again):
        queue.close()


def test_two_processes_and_one_guest(local: Target) -> None:
    """Of one user, as the virtual machines of one QEMU user are."""
    one = local.queue(guest=SAME)
    with_session(one)
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            status = new_session(local.queue(guest=SAME), 2)
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.ESTALE
    one.close()


def revoke(pki: Pki, name: str, *machines: Path) -> None:
    made = revoking.revoke(pki.folder, name)
    for machine in machines:
        (machine / "ca.crl.new").write_bytes(made.read_bytes())
        os.replace(machine / "ca.crl.new", machine / "ca.crl")


def test_a_certificate_is_revoked(tmp_path: Path) -> None:
    """While the back end runs, sandboxed: what is connected ends, and comes back no more."""
    pki = Pki(tmp_path / "pki")
    machine = pki.issue("backend", "backend")
    target = Target(f"tcp:{HOST}:0", "--pki", str(machine))
    bad, good = pki.credentials("stolen"), pki.credentials("good")
    thief, honest = target.queue(bad), target.queue(good)
    socks = [with_session(thief), with_session(honest)]
    revoke(pki, "stolen", machine)
    assert is_ended(socks[0], 5)
    assert served(target, bad, 3) == 0
    assert honest.control("OPEN", Handle(2)).status == 0
    # A list that is none, or of another authority, changes nothing.
    other = Pki(tmp_path / "other")
    other.issue("stolen")
    for content in (b"", b"nonsense", None):
        if content is None:
            revoke(other, "stolen", machine)
        else:
            (machine / "ca.crl").write_bytes(content)
        time.sleep(1.2)
        assert served(target, bad, 1) == 0
    revoke(pki, "good", machine)
    assert is_ended(socks[1], 5)
    assert served(target, pki.credentials("stolen"), 3) == 3
    assert target.service.stop() == 0
    assert "not signed by the authority" in target.service.said()
    for queue in (thief, honest):
        queue.close()


def test_a_back_end_is_revoked(tmp_path: Path) -> None:
    """Its front ends find out when they connect."""
    pki = Pki(tmp_path / "pki")
    target = Target(f"tcp:{HOST}:0", "--pki", str(pki.issue("backend", "backend")))
    tls = pki.credentials("web")
    assert served(target, tls, 1) == 1
    revoke(pki, "backend", pki.folder / "web")
    queue = target.queue(tls)
    with pytest.raises(BackendGone, match="revoked"):
        queue.connect()
    queue.close()
    target.service.stop()


def test_a_pipe_that_blocks(local: Target) -> None:
    """The peer has it block, and reads nothing: the back end ends nevertheless."""
    peers = [Shared(local.address) for _ in range(3)]
    for peer in peers:
        fcntl.fcntl(peer.theirs, fcntl.F_SETPIPE_SZ, 4096)
        fcntl.fcntl(peer.theirs, fcntl.F_SETFL, 0)
        os.write(peer.theirs, bytes(4096))
        peer.crypt(16)
    assert served(local, None, 10) == 10
    began = time.monotonic()
    assert local.service.stop() == 0
    assert time.monotonic() - began < 5
    for peer in peers:
        peer.close()


def test_half_a_header_in_a_pipe(local: Target) -> None:
    peer = Shared(local.address)
    os.write(peer.writing, bytes(7))
    assert is_ended(peer.sock, 5)
    assert served(local, None, 10) == 10
    peer.close()


def test_long_messages_in_shared_memory(local: Target) -> None:
    """Of many connections, whose memory the peers do not give back; and then of honest ones."""
    before = local.usage
    peers = [Shared(local.address) for _ in range(8)]
    for peer in peers:
        peer.crypt(64 * MIB)
    eventually(lambda: local.usage.resident > before.resident + 64 * MIB)
    for _ in range(30):
        assert local.usage.resident < before.resident + 600 * MIB
        time.sleep(0.1)
    for peer in peers:
        peer.close()
    honest = [Queue(local.address, os.urandom(16), 0, 30, patience=2) for _ in range(8)]
    for queue in honest:
        with_session(queue)
        reply = queue.exchange(CRYPT, Crypt(1, 1, 0, 0), (16, 32 * MIB), (32 * MIB, 0, 0))
        assert reply.status == 0
        # As a worker does after a long message.
        queue.arena.trim()
    for queue in honest:
        queue.close()
