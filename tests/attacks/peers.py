"""Hostile and legitimate peers of a back end that is a process of its own, and what it takes."""

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from cuse_crypto.cli import authority
from cuse_crypto.frontend.queue import BackendGone, Queue
from cuse_crypto.wire import messages
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.area import new_file
from cuse_crypto.wire.messages import BY_NAME, Crypt, Handle, Hello, NewSession
from cuse_crypto.wire.tls import Credentials
from tests.conftest import Service, start

HOST = "127.0.0.1"
MIB = 1 << 20
HELLO, CRYPT = BY_NAME["HELLO"], BY_NAME["CRYPT"]


class Usage(NamedTuple):
    """Of a process: bytes in memory, threads, descriptors."""

    resident: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "Usage":
        """Now."""
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        resident = int(fields["VmRSS"].split()[0]) * 1024
        return cls(resident, int(fields["Threads"]), len(os.listdir(f"/proc/{pid}/fd")))


class Pki:
    """An authority, and what it issues."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority.found(folder)

    def issue(self, name: str, role: str = "device") -> Path:
        """The folder for a --pki."""
        return authority.issue(self.folder, name, role, [HOST], 90)

    def credentials(self, name: str) -> Credentials:
        """Of a front end."""
        return Credentials.in_folder(self.issue(name))


class Target:
    """A back end under attack."""

    started: ClassVar[list["Target"]] = []
    """All that have been started, to be ended."""

    def __init__(self, listen: str, *words: str) -> None:
        self.service: Service = start("backend", "--listen", listen, "--engine", "openssl", *words)
        self.address = Address.parse(self.service.ready.split()[1])
        self.pid = self.service.process.pid
        self.started.append(self)

    @property
    def usage(self) -> Usage:
        """What it takes now."""
        return Usage.of(self.pid)

    @property
    def port(self) -> int:
        """Of TCP."""
        return int(self.address.rest.rpartition(":")[2])

    def stranger(self, source: str = "") -> socket.socket:
        """A connection that says nothing, from any address of this machine."""
        return socket.create_connection((HOST, self.port), 5, (source, 0) if source else None)

    def queue(self, tls: Credentials | None = None, guest: bytes = b"") -> Queue:
        """One of a legitimate front end."""
        to = self.address.secured(tls)
        return Queue(to, guest or os.urandom(16), 0, 5, patience=2, shared=False)


def served(target: Target, tls: Credentials | None, count: int = 60) -> int:
    """How many of ``count`` front ends are served within 2 s, one after the other."""
    good = 0
    for _ in range(count):
        began, queue = time.monotonic(), target.queue(tls)
        with contextlib.suppress(BackendGone):
            queue.connect()
            good += queue.control("OPEN", Handle(1)).status == 0 and time.monotonic() - began < 2
        queue.close()
    return good


@contextlib.contextmanager
def doing(work: threading.Event, *actions: threading.Thread) -> Iterator[None]:
    """``actions`` go on meanwhile, until ``work`` is set."""
    for action in actions:
        action.start()
    try:
        yield
    finally:
        work.set()
        for action in actions:
            action.join()


def is_ended(sock: socket.socket, seconds: float) -> bool:
    """The peer ends the connection within ``seconds``."""
    sock.settimeout(seconds)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def hello(guest: bytes, length: int = 0, features: int = 0) -> bytes:
    """A HELLO; ``length``: what it says of itself, if that is not so."""
    buffer = memoryview(bytearray(256))
    body = Hello(messages.MAGIC, messages.VERSION, 0, features, messages.MAX_PAYLOAD, guest)
    size = messages.pack_request(buffer, HELLO, 1, body, (), (4096,))
    message = bytearray(buffer[:size])
    if length:
        message[:4] = length.to_bytes(4, "little")
    return bytes(message)


def crypt_head(size: int) -> bytes:
    """What comes before ``size`` bytes that are to be encrypted in session 1 of file 1."""
    buffer = memoryview(bytearray(256))
    messages.pack_request(buffer, CRYPT, 1, Crypt(1, 1, 0, 0), (16, size), (size, 0, 0))
    return bytes(buffer[: CRYPT.payload_offset]) + bytes(16)


def with_session(queue: Queue) -> socket.socket:
    """The socket of ``queue``, with a session of AES-CBC."""
    queue.connect()
    assert queue.control("OPEN", Handle(1)).status == 0
    assert new_session(queue) == 0
    assert queue._connection
    return queue._connection.socket


def new_session(queue: Queue, number: int = 1) -> int:
    """Make session ``number`` of file 1; the status."""
    keys = bytearray(16), bytearray()
    return queue.control("NEW_SESSION", NewSession(1, number, 11, 0), *keys).status


def client_hello() -> bytes:
    """The first flight of a handshake."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="x").do_handshake()
    return outgoing.read()


class Shared:
    """A front end that has memory in common with a back end, and keeps what it should give away."""

    def __init__(self, address: Address) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(address.rest)
        self.memory = new_file(messages.AREA_SIZE)
        self.reading, self.theirs = os.pipe()
        message = hello(os.urandom(16), features=1)
        socket.send_fds(self.sock, [message], [self.memory, self.theirs])
        answer, (self.writing,), _, _ = socket.recv_fds(self.sock, 4096, 1)
        assert answer
        self.ask("OPEN", Handle(1))
        self.ask("NEW_SESSION", NewSession(1, 1, 11, 0), bytes(16), b"")

    def ask(self, name: str, body: object, *segments: bytes) -> None:
        """Something that is answered by yes."""
        buffer, row = memoryview(bytearray(256)), BY_NAME[name]
        messages.pack_request(buffer, row, 1, body, tuple(map(len, segments)))
        os.write(self.writing, bytes(buffer[: row.payload_offset]) + b"".join(segments))
        assert len(os.read(self.reading, 256)) == row.reply_offset

    def crypt(self, size: int) -> None:
        """Have ``size`` bytes of the memory encrypted; the answer is not waited for."""
        os.write(self.writing, crypt_head(size)[: CRYPT.payload_offset])

    def close(self) -> None:
        """End it."""
        self.sock.close()
        for fd in (self.memory, self.reading, self.theirs, self.writing):
            os.close(fd)
