"""What every transport has to do, whatever is below; then what is of one of them."""

import contextlib
import errno
import itertools
import logging
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cuse_crypto.cli import authority
from cuse_crypto.errors import Failure
from cuse_crypto.frontend.queue import BackendGone, Queue
from cuse_crypto.wire import messages
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.connection import PeerSilent
from cuse_crypto.wire.messages import BY_NAME, Crypt, Handle, NewSession
from cuse_crypto.wire.tls import Credentials
from cuse_crypto.wire.transports import virtio, vsock
from cuse_crypto_backend.admission import Admission
from cuse_crypto_backend.engines.null import NullEngine
from tests.conftest import eventually
from tests.ports import Port
from tests.test_front_and_back import Backend

HOST = "127.0.0.1"
GUEST = b"g" * 16
LARGE = 8 << 20
CRYPT = BY_NAME["CRYPT"]
_ports = itertools.count(40000 + os.getpid() % 10000)


@dataclass
class Place:
    """Where a back end listens, and how front ends reach it."""

    listening: Address
    connecting: Address
    tls: Credentials | None = None
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    refusing: Admission | None = None
    """Lets the front ends of this test in no more."""

    def backend(self, refuse: bool = False) -> Backend:
        """One that copies."""
        admission = Admission(frozenset({os.geteuid()}), tls=self.tls)
        if refuse:
            assert self.refusing
            admission = self.refusing
        backend = Backend(self.listening, NullEngine(), admission)
        if self.listening.scheme == "tcp":
            # Port 0 was any: its successors are to be found at the same.
            self.listening = backend.address
            self.connecting = self.connecting._replace(rest=backend.address.rest)
        return backend

    def queue(self, deadline: float = 5, patience: float = 5, number: int = 0) -> Queue:
        return Queue(self.connecting, GUEST, number, deadline, patience=patience, shared=False)


class Pki:
    """Two authorities, and what they issue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("ours", "theirs"):
            authority.found(folder / name)

    def issue(self, role: str, of: str = "ours", days: int = 90, host: str = HOST) -> Path:
        name = f"{role}-{days}-{host}"
        return authority.issue(self.folder / of, name, role, [host], days)

    def credentials(self, role: str, of: str = "ours") -> Credentials:
        return Credentials.in_folder(self.issue(role, of))

    def unchecked(self, role: str, of: str = "ours", days: int = 90) -> Credentials:
        """With a certificate that its owner would refuse to use, and our authority."""
        made = self.issue(role, of, days)
        (made / "ca.crt").write_bytes((self.folder / "ours" / "ca.crt").read_bytes())
        credentials = Credentials.in_folder(self.issue(role))
        for context in (credentials._server, credentials._client):
            context.load_cert_chain(made / "tls.crt", made / "tls.key")
        return credentials


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def unix(folder: Path) -> Place:
    address = Address.parse(f"unix:{folder}/s")
    return Place(address, address, refusing=Admission(frozenset({os.geteuid() + 1})))


def inherited(folder: Path) -> Place:
    """As systemd does it: the socket is there before the back end, and after it."""
    address = Address.parse(f"unix:{folder}/s")
    listener = address.listen()
    number = os.dup(listener.fileno())
    place = Place(Address.parse(f"fd:{number}"), address)
    place.refusing = Admission(frozenset({os.geteuid() + 1}))
    place.held.callback(listener.close)

    def backend(refuse: bool = False) -> Backend:
        # Each closes its own.
        place.listening = Address.parse(f"fd:{os.dup(listener.fileno())}")
        return Place.backend(place, refuse)

    os.close(number)
    place.backend = backend  # type: ignore[method-assign]
    return place


def loopback(folder: Path) -> Place:
    address = Address.parse(f"tcp:{HOST}:0")
    return Place(address, address)


def tls(folder: Path, pki: Pki) -> Place:
    address, ours = Address.parse(f"tcp:{HOST}:0"), pki.credentials("backend")
    client = pki.credentials("device")
    place = Place(address.secured(ours), address.secured(client), ours)
    place.refusing = Admission(frozenset(), tls=pki.credentials("backend", "theirs"))
    return place


def port(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    address = Address.parse(f"unix:{folder}/s")
    name = f"test-{os.getpid()}-{folder.name}"
    joined = Port(folder / "s")
    monkeypatch.setattr(virtio, "device", lambda name: joined.path)
    place = Place(address, Address.parse(f"virtio:{name}"))
    place.refusing = Admission(frozenset({os.geteuid() + 1}))
    place.held.callback(joined.close)
    return place


def machine(folder: Path) -> Place:
    address = Address.parse(f"vsock:local:{next(_ports)}")
    try:
        address.listen().close()
    except Failure as failure:
        pytest.skip(str(failure))
    return Place(address, address, refusing=Admission(frozenset(), frozenset({77})))


KINDS = ["unix", "fd", "tcp", "tls", "virtio", "vsock"]


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    kind = request.param
    if kind == "virtio":
        made = port(tmp_path, monkeypatch)
    elif kind == "tls":
        made = tls(tmp_path, pki)
    else:
        made = {"unix": unix, "fd": inherited, "tcp": loopback, "vsock": machine}[kind](tmp_path)
    with made.held:
        yield made


def open_session(queue: Queue, handle: int = 1, ses: int = 1) -> None:
    assert queue.control("OPEN", Handle(handle)).status == 0
    keys = bytearray(16), bytearray()
    assert queue.control("NEW_SESSION", NewSession(handle, ses, 11, 0), *keys).status == 0


def copy(queue: Queue, data: bytes, handle: int = 1, ses: int = 1) -> int:
    """Have ``data`` copied by the back end; the status."""
    at = CRYPT.payload_offset + 16
    queue.arena.request[at : at + len(data)] = data
    lengths = (16, len(data)), (len(data), 0, 0)
    reply = queue.exchange(CRYPT, Crypt(handle, ses, 0, 0), *lengths)
    if not reply.status:
        assert reply.segments[0] == data
    return reply.status


def test_small_and_large(place: Place) -> None:
    backend, queue = place.backend(), place.queue()
    open_session(queue)
    assert queue.engine == "null"
    for size in (16, 4096, 65536, LARGE, 32):
        assert copy(queue, os.urandom(size)) == 0
    queue.close()
    backend.stop()


def test_two_queues_of_a_guest(place: Place) -> None:
    backend, one, two = place.backend(), place.queue(), place.queue(number=1)
    open_session(one)
    wrong: list[object] = []

    def work(queue: Queue) -> None:
        try:
            for _ in range(20):
                assert copy(queue, os.urandom(4096)) == 0
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=[queue]) for queue in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for queue in (one, two):
        queue.close()
    backend.stop()


def test_the_back_end_comes_back(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    backend, queue = place.backend(), place.queue()
    open_session(queue)
    for _ in range(2):
        backend.stop()
        later: list[Backend] = []
        starting = threading.Thread(target=lambda later=later: later.append(place.backend()))
        starting.start()
        # What it knew is gone; what is asked for is repeated until somebody answers.
        assert copy(queue, bytes(4096)) == errno.ESTALE
        starting.join()
        backend = later[0]
        open_session(queue)
        assert copy(queue, os.urandom(65536)) == 0
    queue.close()
    backend.stop()


def test_nobody_is_there(place: Place) -> None:
    place.backend().stop()
    queue = place.queue(deadline=1, patience=0.1)
    with pytest.raises(BackendGone) as caught:
        queue.connect()
    assert "no back end" in str(caught.value)


def test_who_is_refused_hears_so_and_is_logged_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    if place.refusing is None:
        pytest.skip("nobody is refused")
    backend, queue = place.backend(refuse=True), place.queue(patience=0.5)
    with pytest.raises(BackendGone):
        queue.connect()
    queue.close()
    backend.stop()
    logged = [record.message for record in caplog.records if "admission" in record.name]
    assert len(logged) == 1
    assert logged[0].startswith("refused ")


def test_a_silent_peer(place: Place) -> None:
    """It takes connections, and says nothing."""
    listener = place.backend()
    listener.stop()
    with place.listening.listen() if place.listening.scheme != "fd" else contextlib.nullcontext():
        queue = place.queue(deadline=0.3, patience=0)
        began = time.monotonic()
        with pytest.raises(BackendGone):
            queue.connect()
        # To connect may take two seconds, and a handshake two more.
        assert time.monotonic() - began < 6
    queue.close()
    place.listening.clean()


def test_shut_wakes(place: Place) -> None:
    """A device that is removed waits for nobody."""
    backend, queue = place.backend(), place.queue(deadline=60, patience=60)
    queue.connect()
    backend.stop()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            open_session(queue)
        except BackendGone as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    queue.shut()
    thread.join(10)
    assert not thread.is_alive()
    assert failed
    queue.close()


@pytest.fixture(params=["tcp", "tls"])
def network(request: pytest.FixtureRequest, tmp_path: Path, pki: Pki) -> Place:
    return loopback(tmp_path) if request.param == "tcp" else tls(tmp_path, pki)


def raw(place: Place) -> socket.socket:
    _, _, number = place.listening.rest.rpartition(":")
    return socket.create_connection((HOST, int(number)))


def test_a_port_scan_disturbs_nobody(network: Place, caplog: pytest.LogCaptureFixture) -> None:
    backend, queue = network.backend(), network.queue()
    open_session(queue)
    # Half of a handshake, or nothing at all, and then silence.
    silent = [raw(network) for _ in range(20)]
    for sock in silent[:10]:
        sock.sendall(b"\x16\x03\x01")
    for index in range(60):
        with raw(network) as sock, contextlib.suppress(OSError):
            if index % 3 == 1:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            elif index % 3 == 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    began = time.monotonic()
    other = network.queue(number=1)
    other.connect()
    assert time.monotonic() - began < 4
    assert copy(queue, bytes(65536)) == 0
    assert copy(other, bytes(65536)) == 0
    warnings = [record for record in caplog.records if record.levelno > logging.INFO]
    assert len([record for record in warnings if "admission" in record.name]) <= 3
    for sock in silent:
        sock.close()
    eventually(lambda: not backend.server._strangers)
    for one in (queue, other):
        one.close()
    eventually(lambda: not backend.server._peers)
    backend.stop()


def test_strangers_are_few(network: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuse_crypto_backend.server.MAX_STRANGERS", 4)
    backend, queue = network.backend(), network.queue(patience=10)
    silent = [raw(network) for _ in range(8)]
    eventually(lambda: len(backend.server._strangers) == 4)
    for sock in silent:
        sock.close()
    queue.connect()
    queue.close()
    backend.stop()


def reason(place: Place, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """What the front end is told, and what the back end logs, once."""
    backend, queue = place.backend(), place.queue(patience=0.2)
    with pytest.raises(BackendGone) as caught:
        open_session(queue)
    queue.close()
    backend.stop()
    logged = [record.message for record in caplog.records if "admission" in record.name]
    assert len(logged) <= 1
    return str(caught.value.strerror), "".join(logged)


@pytest.mark.parametrize(
    ("role", "of", "days", "told", "logged"),
    [
        ("device", "theirs", 90, "another authority", "certificate is refused"),
        ("device", "ours", -1, "which has expired", "certificate has expired"),
        ("backend", "ours", 90, "not for this side", "certificate purpose"),
    ],
)
def test_certificates_that_are_refused(
    pki: Pki,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    role: str,
    of: str,
    days: int,
    told: str,
    logged: str,
) -> None:
    place = tls(tmp_path, pki)
    place.connecting = place.connecting.secured(pki.unchecked(role, of, days))
    answers = reason(place, caplog)
    assert told in answers[0]
    assert logged in answers[1]
    assert answers[1].startswith(f"refused {HOST}: ")


@pytest.mark.parametrize(
    ("role", "of", "days", "told"),
    [
        ("backend", "theirs", 90, "certificate is refused"),
        ("backend", "ours", -1, "certificate has expired"),
        ("device", "ours", 90, "certificate purpose"),
    ],
)
def test_back_ends_that_are_refused(
    pki: Pki,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    role: str,
    of: str,
    days: int,
    told: str,
) -> None:
    place = tls(tmp_path, pki)
    place.tls = pki.unchecked(role, of, days)
    assert told in reason(place, caplog)[0]


def test_another_host(pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tls(tmp_path, pki)
    place.tls = Credentials.in_folder(pki.issue("backend", host="crypto.example.org"))
    assert "IP address mismatch" in reason(place, caplog)[0]


def test_no_certificate(pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tls(tmp_path, pki)
    backend = place.backend()
    context = ssl.create_default_context(cafile=pki.folder / "ours" / "ca.crt")
    for _ in range(3):
        with (
            context.wrap_socket(raw(place), server_hostname=HOST) as sock,
            pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
        ):
            sock.recv(1)
    backend.stop()
    logged = [record.message for record in caplog.records if "admission" in record.name]
    assert logged == [f"refused {HOST}: it shows no certificate"]


def test_old_tls(pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tls(tmp_path, pki)
    backend = place.backend()
    context = ssl.create_default_context(cafile=pki.folder / "ours" / "ca.crt")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError), context.wrap_socket(raw(place), server_hostname=HOST):
        pass
    backend.stop()


def test_one_side_without_tls(pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tls(tmp_path, pki)
    place.connecting = place.connecting.secured(None)
    assert reason(place, caplog)[1].endswith("it does not speak TLS")
    place = loopback(tmp_path)
    place.connecting = place.connecting.secured(pki.credentials("device"))
    assert "no back end" in reason(place, caplog)[0]


@pytest.mark.parametrize("text", ["tcp:0.0.0.0:0", "tcp:[::]:0"])
def test_tcp_takes_tls(text: str, pki: Pki) -> None:
    with pytest.raises(Failure, match="give --pki"):
        Address.parse(text).listen()
    with (
        contextlib.suppress(Failure),
        Address.parse(text).secured(pki.credentials("backend")).listen(),
    ):
        pass
    with pytest.raises(Failure, match="give --pki"):
        Address.parse("tcp:192.0.2.1:5000").connect(1)
    with (
        socket.create_server(("0.0.0.0", 0)) as open_to_all,
        pytest.raises(Failure, match="give --pki"),
    ):
        Address.parse(f"fd:{open_to_all.fileno()}").listen()


@pytest.mark.parametrize(
    "text",
    ["tcp:5000", "tcp:host", "tcp:host:70000", "tcp:::1:80", "vsock:2", "vsock:x:1", "fd:x", "fd:"],
)
def test_no_address(text: str) -> None:
    with pytest.raises(Failure, match="write "):
        Address.parse(text)


def test_keys_that_others_can_read(pki: Pki) -> None:
    made = pki.issue("device", days=91)
    for mode in (0o604, 0o620, 0o644):
        (made / "tls.key").chmod(mode)
        with pytest.raises(Failure, match="chmod 0600"):
            Credentials.in_folder(made)
    (made / "tls.key").chmod(0o640)
    Credentials.in_folder(made)


def test_certificates_that_end(pki: Pki) -> None:
    with pytest.raises(Failure, match="expired on"):
        Credentials.in_folder(pki.issue("device", days=-1))
    assert "expires in 9 days" in Credentials.in_folder(pki.issue("device", days=10)).remark()
    assert not Credentials.in_folder(pki.issue("device", days=90)).remark()


@pytest.mark.parametrize("spoiled", ["tls.key", "tls.crt", "ca.crt"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_files_that_are_none(pki: Pki, spoiled: str, content: bytes | None) -> None:
    made = pki.issue("device", days=92)
    (made / spoiled).unlink()
    if content is not None:
        (made / spoiled).write_bytes(content)
        (made / spoiled).chmod(0o600)
    with pytest.raises(Failure, match=r"tls\.|ca\."):
        Credentials.in_folder(made)


def test_a_connection_that_was_passed_on(tmp_path: Path) -> None:
    """Several queues share it; once it is lost, it is lost for good."""
    place = unix(tmp_path)
    backend = place.backend()
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(place.listening.rest)
    place.connecting = Address.parse(f"fd:{sock.detach()}")
    first = place.queue()
    first.connect()
    first.close()
    one, two = place.queue(patience=0.1), place.queue(patience=0.1, number=1)
    open_session(one)
    assert copy(two, os.urandom(65536)) == 0
    assert copy(one, os.urandom(65536)) == 0
    backend.stop()
    for queue in (one, two):
        with pytest.raises(BackendGone, match="start anew"):
            copy(queue, bytes(16))
        queue.close()


def test_what_a_killed_front_end_leaves_in_a_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a request, and a reply that nobody has read: the next front end is not confused."""
    monkeypatch.setattr("cuse_crypto_backend.channel.REST_DEADLINE", 0.2)
    place = port(tmp_path, monkeypatch)
    backend = place.backend()
    with place.held:
        for size in (1 << 20, 65536):
            killed = place.queue()
            open_session(killed)
            lengths = (16, size), (size, 0, 0)
            request = killed.arena.request
            length = messages.pack_request(request, CRYPT, 9, Crypt(1, 1, 0, 0), *lengths)
            connection = killed._connection
            assert connection
            connection.send(request[: length if size == 65536 else length // 2])
            eventually(lambda: backend.server.guests._guests != {})
            # As the kernel closes what a killed process had open.
            connection._stream.drop()  # type: ignore[attr-defined]
            connection._stream.holder = None  # type: ignore[attr-defined]
            queue = Queue(place.connecting, b"h" * 16, 0, 5.0, shared=False)
            queue.connect()
            open_session(queue)
            assert copy(queue, os.urandom(4096)) == 0
            queue.close()
            killed.close()
    backend.stop()


def test_no_such_port() -> None:
    with pytest.raises(OSError, match="no virtio-serial port is named") as caught:
        virtio.device("no-such-port")
    assert caught.value.errno == errno.ENODEV


def test_the_deadline_of_a_vsock() -> None:
    """Which Python cannot set on such a socket: here it only takes a Unix one for one."""
    ours, theirs = socket.socketpair()
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM, 0, fileno=ours.detach())
    connection = vsock.VsockConnection(sock, 0.1)
    with pytest.raises(PeerSilent):
        connection.receive(memoryview(bytearray(64)))
    connection.close()
    theirs.close()


def test_own_cids() -> None:
    assert 1 in vsock.own_cids()
    assert socket.VMADDR_CID_ANY not in vsock.own_cids()
