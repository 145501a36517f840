"""Several back ends for one device: its queues stay together, and no digest is ever wrong."""

import contextlib
import hashlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuse_crypto.abi.structs import cphash_op
from cuse_crypto.cli.device import number_of
from cuse_crypto.frontend.queue import BackendGone, Queue
from cuse_crypto.frontend.route import Route
from cuse_crypto.wire.address import Address
from tests.conftest import eventually
from tests.test_front_and_back import FINAL, RESET, UPDATE, Backend, Caller, hash_op, hash_session

SHA256 = 104
GUEST = b"g" * 16


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[list[Backend]]:
    made = [Backend(Address.parse(f"unix:{tmp_path}/{name}")) for name in "ab"]
    yield made
    for backend in made:
        backend.stop()


@pytest.fixture
def route(backends: list[Backend]) -> Route:
    return Route([backend.address for backend in backends])


def cut_off(queue: Queue) -> None:
    """As a network does it."""
    assert queue._connection
    queue._connection.shut()


def test_devices_begin_with_different_back_ends(backends: list[Backend]) -> None:
    addresses = [backend.address for backend in backends]
    for number in range(4):
        queue = Queue(Route(addresses, number), GUEST, 0, deadline=5)
        queue.connect()
        assert queue.place == backends[number % 2].server.guests.place
        queue.close()
    assert [number_of(name) for name in ("cryptodev0", "cryptodev12", "crypto")] == [0, 12, 0]


def test_all_move_when_one_goes(backends: list[Backend], route: Route) -> None:
    one, two = (Caller(route, guest=GUEST) for _ in range(2))
    files = [caller.open() for caller in (one, two)]
    assert one.queue.place == two.queue.place == backends[0].server.guests.place
    backends[0].stop()
    sessions = [hash_session(one, files[0], SHA256), hash_session(two, files[1], SHA256)]
    assert one.queue.place == two.queue.place == backends[1].server.guests.place
    backends[0] = Backend(backends[0].address)
    for caller, file, ses in zip((one, two), files, sessions, strict=True):
        assert hash_op(caller, file, ses, b"abc", 0)[:32] == hashlib.sha256(b"abc").digest()
        # It stays there when the first one is back.
        caller.queue.close()
        caller.queue.connect()
        assert caller.queue.place == backends[1].server.guests.place
    for caller in (one, two):
        caller.queue.close()


def test_nobody_is_left(tmp_path: Path) -> None:
    addresses = [Address.parse(f"unix:{tmp_path}/{name}") for name in "ab"]
    with pytest.raises(BackendGone, match="No such file"):
        Queue(Route(addresses), GUEST, 0, deadline=5).connect()


def test_one_that_does_not_answer_is_left(tmp_path: Path, backends: list[Backend]) -> None:
    silent = Address.parse(f"unix:{tmp_path}/silent")
    with silent.listen():
        route = Route([silent, backends[0].address])
        queue = Queue(route, GUEST, 0, deadline=0.2)
        queue.connect()
        assert route.address == backends[0].address
        queue.close()


def test_one_that_says_nothing_is_left_long_before_the_deadline(
    tmp_path: Path, backends: list[Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It listens, as a process does that is stopped or has no processor."""
    monkeypatch.setattr("cuse_crypto.frontend.queue.CONNECT_TIMEOUT", 0.2)
    silent = Address.parse(f"unix:{tmp_path}/silent")
    with silent.listen():
        queue = Queue(Route([silent, backends[0].address]), GUEST, 0, deadline=60)
        began = time.monotonic()
        queue.connect()
        assert time.monotonic() - began < 10
        assert queue._connection
        timeout = queue._connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
        assert timeout == struct.pack("@ll", 60, 0), "an answer may take as long as before"
        queue.close()
    (tmp_path / "silent").unlink()


def test_a_hash_goes_on_only_where_it_began(backends: list[Backend], route: Route) -> None:
    """There and back again: what the first back end still remembers is not gone on with."""
    caller, idle = (Caller(route, guest=GUEST) for _ in range(2))
    file = caller.open()
    ses = hash_session(caller, file, SHA256)
    idle.open()
    hash_op(caller, file, ses, b"first", UPDATE)
    # The first back end keeps all this, for a queue of the guest stays connected.
    route._move(backends[1].address, b"")
    with pytest.raises(OSError, match="lost"):
        hash_op(caller, file, ses, b" lost", UPDATE)
    hash_op(caller, file, ses, b"second", UPDATE)
    assert caller.queue.place == backends[1].server.guests.place
    assert idle.queue.is_up()
    route._move(backends[0].address, b"")
    with pytest.raises(OSError, match="lost"):
        hash_op(caller, file, ses, b" wrong", FINAL)
    assert hash_op(caller, file, ses, b"x", RESET)[:32] == hashlib.sha256(b"x").digest()
    for one in (caller, idle):
        one.queue.close()


def test_a_copy_to_a_session_that_the_next_back_end_does_not_know(
    backends: list[Backend], route: Route
) -> None:
    caller = Caller(route, guest=GUEST)
    file = caller.open()
    one, two = (hash_session(caller, file, SHA256) for _ in range(2))
    backends[0].stop()
    hash_op(caller, file, one, b"common", UPDATE)
    caller.ioctl(file, "CIOCCPHASH", cphash_op(dst_ses=two, src_ses=one))
    digest = hash_op(caller, file, two, b" two", FINAL)[:32]
    assert digest == hashlib.sha256(b"common two").digest()
    backends[0] = Backend(backends[0].address)
    caller.queue.close()


class InTurn:
    """A balancer that gives each connection to the next back end."""

    def __init__(self, path: Path, backends: list[Backend]) -> None:
        self.address = Address.parse(f"unix:{path}")
        self.accepted = 0
        self._listener = self.address.listen()
        self._backends = backends
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            target = self._backends[self.accepted % len(self._backends)]
            self.accepted += 1
            back = socket.socket(socket.AF_UNIX)
            back.connect(target.address.rest)
            self._threads.append(threading.Thread(target=self._pump, args=[front, back]))
            self._threads[-1].start()

    @staticmethod
    def _pump(front: socket.socket, back: socket.socket) -> None:
        with front, back, contextlib.suppress(OSError):
            while True:
                readable, _, _ = select.select([front, back], [], [])
                for source in readable:
                    part = source.recv(65536)
                    if not part:
                        return
                    (back if source is front else front).sendall(part)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()


def test_queues_find_each_other_behind_one_address(tmp_path: Path, backends: list[Backend]) -> None:
    balancer = InTurn(tmp_path / "balancer", backends)
    route = Route([balancer.address])
    callers = [Caller(route, shared=False, guest=GUEST) for _ in range(5)]
    for caller in callers:
        caller.queue.connect()
    assert {caller.queue.place for caller in callers} == {backends[0].server.guests.place}
    assert balancer.accepted > len(callers)
    file = callers[0].open()
    ses = hash_session(callers[0], file, SHA256)
    data = [os.urandom(1000) for _ in callers]
    for caller, part in zip(callers, data, strict=True):
        hash_op(caller, file, ses, part, UPDATE)
    digest = hash_op(callers[0], file, ses, b"", FINAL)[:32]
    assert digest == hashlib.sha256(b"".join(data)).digest()
    # One that is cut off comes back to the others; when they are gone, it need not.
    cut_off(callers[0].queue)
    assert hash_op(callers[0], file, ses, b"abc", 0)[:32] == hashlib.sha256(b"abc").digest()
    assert callers[0].queue.place == callers[1].queue.place
    for caller in callers:
        caller.queue.close()
    eventually(lambda: not backends[0].server.guests._guests)
    callers[0].queue.connect()
    callers[0].queue.close()
    balancer.close()
