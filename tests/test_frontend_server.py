"""The server of a node before a kernel that is a socket: one answer to each request, always."""

import ctypes
import errno
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.structs import crypt_op, session_op
from cuse_crypto.frontend import server as frontend_server
from cuse_crypto.frontend.server import Server
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.channel import Channel
from cuse_crypto.fuse.node import Attributes, Kind
from cuse_crypto.fuse.protocol import BY_NAME, IN_HEADER, OUT_HEADER
from cuse_crypto.wire.address import Address
from cuse_crypto_backend.engines.engine import Algorithms, Keys
from cuse_crypto_backend.engines.openssl import OpensslEngine, OpensslSession
from tests.conftest import eventually
from tests.test_front_and_back import Backend

ROWS = {row.name: row for row in ioctls.IOCTLS}


class SlowEngine(OpensslEngine):
    """Computes only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.asked = threading.Event()

    def session(self, algorithms: Algorithms, keys: Keys) -> OpensslSession:
        session = OpensslSession(algorithms, keys)
        session.crypt = self._slow(session.crypt)  # type: ignore[method-assign]
        session._short = self._slow(session.short)
        return session

    def _slow(self, compute: Any) -> Any:
        def slow(*arguments: Any) -> Any:
            self.asked.set()
            assert self.may_go_on.wait(20)
            return compute(*arguments)

        return slow


class FakeNode:
    """A node whose kernel is the other end of a socket that keeps messages apart."""

    kind: Kind = "mounted"
    path = Path("/dev/null")
    lock = -1

    def __init__(self) -> None:
        ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(ours.detach())
        self.attributes = Attributes()
        self.kernel.settimeout(10)

    def waiting(self) -> int:
        return 0

    def abort(self) -> None:
        self.kernel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.channel.close()
        self.kernel.close()


class Kernel:
    """Sends requests of this process, or of another one, and takes replies."""

    def __init__(self, node: FakeNode) -> None:
        self._socket = node.kernel
        self._unique = 0

    def send(
        self, name: str, body: bytes = b"", *, pid: int = 0, opcode: int = 0, uid: int = 0
    ) -> int:
        """Its ``unique``."""
        self._unique += 2
        number = opcode or BY_NAME[name].number
        size = IN_HEADER.size + len(body)
        header = protocol.fuse_in_header(size, number, self._unique, 1, uid, 0, pid, 0, 0)
        self._socket.send(IN_HEADER.bytes(header) + body)
        return self._unique

    def receive(self) -> tuple[int, int, bytes]:
        """``unique``, errno and body of a reply."""
        data = self._socket.recv(1 << 20)
        header = OUT_HEADER.read(data)
        assert header.len == len(data)
        return header.unique, -header.error, data[OUT_HEADER.size :]

    def ask(self, name: str, body: bytes = b"", **options: int) -> tuple[int, bytes]:
        """Errno and body of the reply to this request."""
        unique = self.send(name, body, **options)
        answered, number, reply = self.receive()
        assert answered == unique
        return number, reply

    def is_silent(self) -> bool:
        """Nothing more has come."""
        return not select.select([self._socket], [], [], 0.2)[0]

    def open(self, uid: int = 0) -> int:
        """The handle of a new open file of this user."""
        request = protocol.layouts("FUSE_OPEN")[0].bytes(protocol.fuse_open_in(os.O_RDWR, 0))
        number, reply = self.ask("FUSE_OPEN", request, pid=os.getpid(), uid=uid)
        assert number == 0
        handle: int = protocol.layouts("FUSE_OPEN")[1].read(reply).fh
        return handle

    def ioctl(
        self, handle: int, name: str, op: Any, where: int = 0, pid: int = 0, uid: int = 0
    ) -> int:
        """Send an ioctl, with its structure at ``where``; its ``unique``."""
        row = ROWS[name]
        data = ioctls.layout_of(row, 64).bytes(op)
        request = protocol.fuse_ioctl_in(handle, 0, row.number(64), where, len(data), len(data))
        body = protocol.layouts("FUSE_IOCTL")[0].bytes(request)
        return self.send("FUSE_IOCTL", body + data, pid=pid or os.getpid(), uid=uid)

    def interrupt(self, unique: int) -> int:
        """A signal came for the caller of ``unique``."""
        body = protocol.fuse_interrupt_in(unique)
        row = BY_NAME["FUSE_INTERRUPT"].request
        assert row
        return self.send("FUSE_INTERRUPT", row.bytes(body))


@pytest.fixture
def engine() -> Iterator[SlowEngine]:
    slow = SlowEngine()
    yield slow
    slow.may_go_on.set()


@pytest.fixture
def serving(tmp_path: Path, engine: SlowEngine) -> Iterator[Server]:
    backend = Backend(Address.parse(f"unix:{tmp_path}/s"), engine)
    server = Server(FakeNode(), backend.address, workers=4, deadline=20)
    thread = threading.Thread(target=trio.run, args=[server.run], daemon=True)
    thread.start()
    yield server
    engine.may_go_on.set()
    server.node.abort()
    thread.join(10)
    assert not thread.is_alive()
    assert not len(server.inflight)
    server.node.close()
    backend.stop()


@pytest.fixture
def kernel(serving: Server) -> Kernel:
    assert isinstance(serving.node, FakeNode)
    return Kernel(serving.node)


class Buffers:
    """Memory for one AES-CBC operation of this process."""

    def __init__(self) -> None:
        self.key, self.iv = (ctypes.create_string_buffer(16) for _ in range(2))
        self.src, self.dst = (ctypes.create_string_buffer(64) for _ in range(2))
        self.op = ctypes.create_string_buffer(48)

    def session(self) -> session_op:
        return session_op(cipher=11, keylen=16, key=ctypes.addressof(self.key))

    def crypt(self, ses: int) -> crypt_op:
        src, dst, iv = map(ctypes.addressof, (self.src, self.dst, self.iv))
        return crypt_op(ses=ses, len=64, src=src, dst=dst, iv=iv)


@pytest.fixture
def buffers() -> Buffers:
    return Buffers()


def new_session(kernel: Kernel, handle: int, buffers: Buffers) -> int:
    where = ctypes.addressof(buffers.op)
    unique = kernel.ioctl(handle, "CIOCGSESSION", buffers.session(), where)
    assert kernel.receive()[:2] == (unique, 0)
    ses: int = ioctls.layout_of(ROWS["CIOCGSESSION"], 64).read(buffers.op.raw).ses
    return ses


def test_requests_that_nothing_handles(kernel: Kernel) -> None:
    assert kernel.ask("", opcode=999) == (errno.ENOSYS, b"")
    assert kernel.ask("FUSE_READ", bytes(40)) == (errno.EINVAL, b"")
    assert kernel.ask("FUSE_LSEEK", bytes(24)) == (errno.ESPIPE, b"")
    kernel.send("FUSE_FORGET", bytes(8))
    assert kernel.is_silent()


def test_what_is_no_request_is_passed_over(kernel: Kernel) -> None:
    kernel._socket.send(b"nonsense")
    kernel._socket.send(IN_HEADER.bytes(protocol.fuse_in_header(99, 39, 1, 1, 0, 0, 1, 0, 0)))
    assert kernel.ask("", opcode=999)[0] == errno.ENOSYS


def test_an_operation(kernel: Kernel, buffers: Buffers) -> None:
    handle = kernel.open()
    ses = new_session(kernel, handle, buffers)
    where = ctypes.addressof(buffers.op)
    unique = kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), where)
    assert kernel.receive()[:2] == (unique, 0)
    assert buffers.dst.raw != bytes(64)
    assert kernel.is_silent()


def test_an_unknown_file_and_a_hidden_caller(kernel: Kernel, buffers: Buffers) -> None:
    unique = kernel.ioctl(77, "CIOCCRYPT", buffers.crypt(1))
    assert kernel.receive()[:2] == (unique, errno.EBADF)
    row = ROWS["CIOCFSESSION"]
    request = protocol.fuse_ioctl_in(kernel.open(), 0, row.number(64), 0, 4, 0)
    body = protocol.layouts("FUSE_IOCTL")[0].bytes(request) + bytes(4)
    assert kernel.ask("FUSE_IOCTL", body, pid=0)[0] == errno.EFAULT


def test_interrupt_before_its_request_is_asked_for_again(kernel: Kernel) -> None:
    unique = kernel.interrupt(4711)
    assert kernel.receive()[:2] == (unique, errno.EAGAIN)


def test_a_signal_waits_for_a_back_end_that_answers(
    kernel: Kernel, buffers: Buffers, engine: SlowEngine
) -> None:
    handle = kernel.open()
    ses = new_session(kernel, handle, buffers)
    engine.may_go_on.clear()
    unique = kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), ctypes.addressof(buffers.op))
    assert engine.asked.wait(10)
    kernel.interrupt(unique)
    assert kernel.is_silent()
    engine.may_go_on.set()
    assert kernel.receive()[:2] == (unique, 0)
    assert kernel.is_silent()


def test_a_signal_ends_waiting_for_a_back_end_only_where_there_is_none(
    kernel: Kernel,
    buffers: Buffers,
    engine: SlowEngine,
    serving: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frontend_server, "GRACE", 0.05)
    handle = kernel.open()
    ses = new_session(kernel, handle, buffers)
    engine.may_go_on.clear()
    unique = kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), ctypes.addressof(buffers.op))
    assert engine.asked.wait(10)
    kernel.interrupt(unique)
    assert kernel.is_silent(), "a back end that is slow will answer"
    monkeypatch.setattr(serving, "_has_back_end", lambda: False)
    assert kernel.receive()[:2] == (unique, errno.EINTR)
    monkeypatch.undo()
    engine.may_go_on.set()
    # What is done too late is neither answered nor written to memory that may be gone.
    assert kernel.is_silent()
    assert buffers.dst.raw == bytes(64)
    unique = kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), ctypes.addressof(buffers.op))
    assert kernel.receive()[:2] == (unique, 0)


def test_who_is_killed_is_let_go_at_once(
    kernel: Kernel, buffers: Buffers, engine: SlowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontend_server, "GRACE", 1000.0)
    monkeypatch.setattr(frontend_server, "is_dying", lambda thread: True)
    handle = kernel.open()
    ses = new_session(kernel, handle, buffers)
    engine.may_go_on.clear()
    unique = kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), ctypes.addressof(buffers.op))
    assert engine.asked.wait(10)
    kernel.interrupt(unique)
    assert kernel.receive()[:2] == (unique, errno.EINTR)
    engine.may_go_on.set()
    assert kernel.is_silent()
    assert buffers.dst.raw == bytes(64)


def test_everybody_is_let_go_while_all_workers_are_stuck(
    kernel: Kernel,
    buffers: Buffers,
    engine: SlowEngine,
    serving: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frontend_server, "is_dying", lambda thread: True)
    handle, other = kernel.open(), kernel.open()
    sessions = [new_session(kernel, handle, buffers) for _ in range(12)]
    engine.may_go_on.clear()
    where = ctypes.addressof(buffers.op)
    waiting = [kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), where) for ses in sessions]
    eventually(lambda: set(serving.inflight.waiting) == set(waiting))
    for unique in waiting:
        kernel.interrupt(unique)
    answered = {kernel.receive()[:2] for _ in waiting}
    assert answered == {(unique, errno.EINTR) for unique in waiting}
    # The end of an open file is answered too.
    row = BY_NAME["FUSE_RELEASE"].request
    assert row
    assert kernel.ask("FUSE_RELEASE", row.bytes(protocol.fuse_release_in(other, 0, 0, 0)))[0] == 0
    engine.may_go_on.set()
    assert kernel.is_silent()
    unique = kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(sessions[0]), where)
    assert kernel.receive()[:2] == (unique, 0)


def test_a_back_end_that_is_silent_for_too_long(
    kernel: Kernel, buffers: Buffers, engine: SlowEngine, serving: Server
) -> None:
    handle = kernel.open()
    ses = new_session(kernel, handle, buffers)
    serving.patrol.deadline = 0.1
    engine.may_go_on.clear()
    unique = kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), ctypes.addressof(buffers.op))
    assert kernel.receive()[:2] == (unique, errno.EIO)
    engine.may_go_on.set()
    assert kernel.is_silent()
    assert buffers.dst.raw == bytes(64)
    serving.patrol.deadline = 20.0
    unique = kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), ctypes.addressof(buffers.op))
    assert kernel.receive()[:2] == (unique, 0)


def test_more_callers_than_workers(kernel: Kernel, buffers: Buffers, engine: SlowEngine) -> None:
    """Nobody is forgotten, and everybody is answered once."""
    handle = kernel.open()
    sessions = [new_session(kernel, handle, buffers) for _ in range(8)]
    engine.may_go_on.clear()
    where = ctypes.addressof(buffers.op)
    waiting = {kernel.ioctl(handle, "CIOCCRYPT", buffers.crypt(ses), where) for ses in sessions}
    engine.may_go_on.set()
    answered = [kernel.receive() for _ in waiting]
    assert {unique for unique, number, _ in answered if not number} == waiting
    assert kernel.is_silent()
