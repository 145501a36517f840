"""What one user takes is not what another one lacks."""

import ctypes
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from cuse_crypto.abi.structs import crypt_op, session_op
from cuse_crypto.frontend import server as frontend_server
from cuse_crypto.frontend.limits import BUSY, BYTES, FILES, RATE, SESSIONS, Limits
from cuse_crypto.frontend.server import Server
from cuse_crypto.wire.address import Address
from cuse_crypto_backend import guests
from cuse_crypto_backend import server as backend_server
from cuse_crypto_backend.engines.engine import Algorithms, Keys
from cuse_crypto_backend.engines.null import NullEngine
from cuse_crypto_backend.engines.openssl import OpensslEngine, OpensslSession
from tests.conftest import StartDevice, eventually
from tests.test_backend_server import Peer
from tests.test_front_and_back import Backend
from tests.test_frontend_server import Buffers, FakeNode, Kernel

AES_CBC, SHA1, GREEDY, OTHER = 11, 14, 65531, 65533


def number_of(error: "pytest.ExceptionInfo[OSError]") -> int | None:
    return error.value.errno


def test_files_and_accounts() -> None:
    few = Limits({FILES: 2})
    one, again = few.open(5), few.open(5)
    assert one is again
    with pytest.raises(OSError) as refused:
        few.open(5)
    assert number_of(refused) == errno.EMFILE
    few.open(6)
    few.close(one)
    assert few.open(5) is one
    few.close(one)
    few.close(one)
    assert few.open(5) is not one, "an account without files is forgotten"
    assert few.met == {"max-files": 1}


def test_root_is_refused_nothing() -> None:
    none = Limits({FILES: 1, SESSIONS: 1, BYTES: 1, RATE: 1})
    for _ in range(5):
        account = none.open(0)
        account.take(SESSIONS)
        account.check(BYTES, 1 << 30)
        account.spend()
    assert not none.met


def test_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("cuse_crypto.frontend.limits.time.monotonic", lambda: now)
    account = Limits({RATE: 10}).open(5)
    for _ in range(10):
        account.spend()
    with pytest.raises(OSError) as refused:
        account.spend()
    assert number_of(refused) == errno.EAGAIN
    now += 0.5
    for _ in range(5):
        account.spend()
    with pytest.raises(OSError):
        account.spend()
    now += 1000
    for _ in range(10):
        account.spend()
    with pytest.raises(OSError):
        account.spend()


@pytest.mark.parametrize(("workers", "busy"), [(1, 1), (2, 1), (3, 1), (16, 14)])
def test_workers_are_left_to_others(workers: int, busy: int) -> None:
    assert Limits(workers=workers).values[BUSY] == busy
    assert Limits({BUSY: 7}, workers).values[BUSY] == 7


class StuckEngine(OpensslEngine):
    """Hashes only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.stuck = 0

    def session(self, algorithms: Algorithms, keys: Keys) -> OpensslSession:
        session = OpensslSession(algorithms, keys)
        if algorithms.mac:
            compute = session.crypt

            def crypt(op: int, iv: bytes, src: memoryview, dst: memoryview, how: int) -> bytes:
                self.stuck += 1
                assert self.may_go_on.wait(20)
                return compute(op, iv, src, dst, how)

            session.crypt = crypt  # type: ignore[method-assign, assignment]
        return session


@contextmanager
def kernel_of(engine: StuckEngine, path: Path, **values: int) -> Iterator[tuple[Kernel, Server]]:
    backend = Backend(Address.parse(f"unix:{path}/s"), engine)
    node = FakeNode()
    given = {row: values[row.name.removeprefix("max-")] for row in (BUSY, FILES)}
    serving = Server(node, backend.address, workers=4, deadline=20, limits=Limits(given, 4))
    thread = threading.Thread(target=trio.run, args=[serving.run], daemon=True)
    thread.start()
    try:
        yield Kernel(node), serving
    finally:
        engine.may_go_on.set()
        node.abort()
        thread.join(10)
        node.close()
        backend.stop()
    assert not thread.is_alive()
    assert not len(serving.inflight)


def new_hash(kernel: Kernel, handle: int, buffers: Buffers) -> int:
    where = ctypes.addressof(buffers.op)
    kernel.ioctl(handle, "CIOCGSESSION", session_op(mac=SHA1), where)
    assert kernel.receive()[1] == 0
    return int.from_bytes(buffers.op.raw[40:44], sys.byteorder)


def test_who_waits_occupies_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six operations of one user, of which two may be done at once; another user's goes on."""
    monkeypatch.setattr(frontend_server, "is_dying", lambda thread: True)
    engine, buffers = StuckEngine(), Buffers()
    with kernel_of(engine, tmp_path, busy=2, files=1) as (kernel, serving):
        handle, other = kernel.open(uid=GREEDY), kernel.open(uid=OTHER)
        assert kernel.ask("FUSE_OPEN", bytes(8), uid=GREEDY)[0] == errno.EMFILE
        eventually(lambda: not len(serving.inflight))
        where = ctypes.addressof(buffers.op)
        sessions = [new_hash(kernel, handle, buffers) for _ in range(6)]
        assert kernel.ioctl(other, "CIOCGSESSION", buffers.session(), where)
        assert kernel.receive()[1] == 0
        ses = int.from_bytes(buffers.op.raw[40:44], sys.byteorder)
        src = ctypes.addressof(buffers.src)
        jobs = [crypt_op(ses=one, len=64, src=src, mac=src) for one in sessions]
        waiting = [kernel.ioctl(handle, "CIOCCRYPT", job, where, uid=GREEDY) for job in jobs]
        eventually(lambda: serving.limits.met["max-busy"] == 4)
        unique = kernel.ioctl(other, "CIOCCRYPT", buffers.crypt(ses), where)
        assert kernel.receive()[:2] == (unique, 0)
        eventually(lambda: engine.stuck == 2)
        # One that has not begun is let go, and is not done later.
        given_up = waiting.pop()
        kernel.interrupt(given_up)
        assert kernel.receive()[:2] == (given_up, errno.EINTR)
        engine.may_go_on.set()
        answered = [kernel.receive() for _ in waiting]
        assert {unique for unique, number, _ in answered if not number} == set(waiting)
        assert kernel.is_silent()
        assert engine.stuck == 5
        # Nothing is left of it: the next one is done at once.
        unique = kernel.ioctl(handle, "CIOCCRYPT", jobs[0], where)
        assert kernel.receive()[:2] == (unique, 0)
        assert serving.limits.met["max-busy"] == 4


def test_guests_of_the_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "MAX_FILES", 2)
    monkeypatch.setattr(guests, "MAX_SESSIONS", 3)
    guest, keys = guests.Guest(NullEngine()), Keys(bytes(16), b"")
    for handle in (1, 2, 1):
        guest.open(handle)
    with pytest.raises(OSError) as refused:
        guest.open(3)
    assert number_of(refused) == errno.EMFILE
    for handle, ses in ((1, 1), (1, 1), (1, 2), (2, 1)):
        guest.new_session(handle, ses, (AES_CBC, 0), keys)
    with pytest.raises(OSError) as refused:
        guest.new_session(2, 2, (AES_CBC, 0), keys)
    assert number_of(refused) == errno.ENOSPC
    guest.end_session(1, 1)
    guest.end_session(1, 1)
    guest.new_session(2, 2, (AES_CBC, 0), keys)
    guest.release(2)
    guest.new_session(1, 3, (AES_CBC, 0), keys)
    guest.new_session(1, 4, (AES_CBC, 0), keys)
    with pytest.raises(OSError):
        guest.new_session(1, 5, (AES_CBC, 0), keys)


def test_connections_of_one_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_server, "MAX_OF_ONE_PEER", 2)
    backend = Backend(Address.parse(f"unix:{tmp_path}/s"))
    peers = [Peer(backend.address), Peer(backend.address)]
    refused = Peer(backend.address, hello=None)
    assert refused.is_dropped()
    refused.connection.close()
    peers.pop().connection.close()
    eventually(lambda: backend.server._peers["pid", os.getpid()] == 1)
    peers.append(Peer(backend.address))
    for peer in peers:
        peer.connection.close()
    eventually(lambda: not backend.server._peers)
    backend.stop()


PRELUDE = """
import errno, os, sys, threading
from cuse_crypto import CryptoDevice
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
path = sys.argv[1]

def until_refused(have, most=1000):
    kept = []
    while len(kept) < most:
        try:
            kept.append(have())
        except OSError as error:
            return f"{len(kept)} {errno.errorcode[error.errno]}"
    return str(most)

"""


def as_user(uid: int, path: Path, program: str) -> "subprocess.Popen[str]":
    """A Python program of this user, which has its lines on standard output read."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program, str(path), str(uid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def lines_of(uid: int, path: Path, program: str) -> list[str]:
    return as_user(uid, path, program).communicate(timeout=60)[0].splitlines()


WORKS = """
with CryptoDevice(path) as device:
    print(device.hash("sha256", b"abc").hexdigest()[:8])
"""
REAL = [
    pytest.mark.node,
    pytest.mark.skipif(os.geteuid() != 0, reason="two users take root"),
]


class TestReal:
    """On a real node, with two users."""

    pytestmark = REAL

    def test_who_opens_until_refused(self, start_up: StartDevice) -> None:
        few = ["--max-files", "5", "--max-sessions", "20", "--max-bytes", "1000"]
        service = start_up("--engine", "openssl", "--mode", "0666", *few)
        program = """
device = CryptoDevice(path)
print(until_refused(lambda: device.cipher("aes-cbc", bytes(16))))
print(until_refused(lambda: CryptoDevice(path)))
device.close()
with CryptoDevice(path) as device:
    session = device.cipher("aes-cbc", bytes(16))
    print(len(session.encrypt(bytes(992), iv=bytes(16))))
    print(until_refused(lambda: session.encrypt(bytes(1008), iv=bytes(16))))
    print(until_refused(lambda: device.hash("sha1", bytes(1008)).digest()))
    print(flush=True)
    sys.stdin.read()
"""
        greedy = as_user(GREEDY, service.path, program)
        assert greedy.stdout
        said = [greedy.stdout.readline().strip() for _ in range(6)]
        assert said == ["20 ENOSPC", "4 EMFILE", "992", "0 EMSGSIZE", "0 EMSGSIZE", ""]
        assert lines_of(OTHER, service.path, WORKS) == ["ba7816bf"]
        greedy.communicate(timeout=30)
        assert lines_of(GREEDY, service.path, WORKS) == ["ba7816bf"]
        assert service.stop() == 0
        assert f"uid {GREEDY} is refused: more than 20 sessions (--max-sessions)" in service.said()
        assert "--max-bytes was met 2 times" in service.said()

    def test_rate(self, start_up: StartDevice) -> None:
        service = start_up("--engine", "null", "--mode", "0666", "--max-rate", "2")
        program = """
with CryptoDevice(path) as device:
    session = device.cipher("aes-cbc", bytes(16))
    print(until_refused(lambda: session.encrypt(bytes(16), iv=bytes(16))))
"""
        (said,) = lines_of(GREEDY, service.path, program)
        assert said.endswith("EAGAIN"), said
        assert lines_of(0, service.path, program.replace("16))))", "16)), 30))")) == ["30"]
        assert service.stop() == 0

    def test_many_long_operations(self, start_up: StartDevice) -> None:
        """They occupy less than all workers, whatever their number."""
        service = start_up("--engine", "openssl", "--mode", "0666", "--workers", "4")
        program = """
def work():
    with CryptoDevice(path) as device:
        session = device.cipher("aes-cbc", bytes(16))
        data = bytearray(16 << 20)
        ready.wait()
        while True:
            session.encrypt_into(data, data, iv=bytes(16))
ready = threading.Barrier(9)
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
ready.wait()
print(flush=True)
sys.stdin.read()
os._exit(0)
"""
        greedy = as_user(GREEDY, service.path, program)
        assert greedy.stdout
        greedy.stdout.readline()
        assert lines_of(OTHER, service.path, WORKS) == ["ba7816bf"]
        assert greedy.poll() is None, "the other one has to have been at it"
        greedy.communicate(timeout=60)
        assert service.stop() == 0
        assert f"uid {GREEDY} waits: more than 2 ioctls at once (--max-busy)" in service.said()
