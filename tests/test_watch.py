"""What a worker writes down of an ioctl, in the three ways in which it gets at memory."""

import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from cuse_crypto.abi.ioctls import layout_of
from cuse_crypto.board import DATA, KEYS, LINES, TRACE, Board, RingReader
from cuse_crypto.frontend.server import Server
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.protocol import IOVEC, IoctlFlag
from cuse_crypto.status.events import Event, event_of, load
from cuse_crypto.status.reading import read
from cuse_crypto.wire.address import Address
from cuse_crypto_backend.engines.openssl import OpensslEngine
from tests.conftest import eventually
from tests.test_front_and_back import Backend
from tests.test_frontend_server import ROWS, Buffers, FakeNode, Kernel

KEY, DATA_BYTES = b"key that nobody ", b"plaintext of one" * 4
_OUT = protocol.layouts("FUSE_IOCTL")[1]


class Machine:
    """A kernel of one of three kinds: it copies the structure (``restricted``), or nothing
    (``direct``), or what it is asked for (``retry``)."""

    def __init__(self, kind: str, kernel: Kernel) -> None:
        self.kind, self.kernel = kind, kernel
        self.buffers = Buffers()
        self.buffers.key.raw, self.buffers.src.raw = KEY, DATA_BYTES
        self.handle = kernel.open()

    def ioctl(self, name: str, op: tuple[int, ...]) -> int:
        """Its errno."""
        where = ctypes.addressof(self.buffers.op)
        if self.kind == "restricted":
            self.kernel.ioctl(self.handle, name, op, where)
            return self.kernel.receive()[1]
        data = layout_of(ROWS[name], 64).bytes(op)
        ctypes.memmove(where, data, len(data))
        payload, room = b"", 0
        while True:
            row = ROWS[name].number(64)
            request = protocol.fuse_ioctl_in(
                self.handle, IoctlFlag.UNRESTRICTED, row, where, len(payload), room
            )
            body = protocol.layouts("FUSE_IOCTL")[0].bytes(request)
            self.kernel.send("FUSE_IOCTL", body + payload, pid=os.getpid())
            _, error, reply = self.kernel.receive()
            if error or not (out := _OUT.read(reply)).flags & IoctlFlag.RETRY:
                self._results = reply[_OUT.size :]
                return error
            ranges = [IOVEC.read(reply, at) for at in range(_OUT.size, len(reply), IOVEC.size)]
            payload = b"".join(ctypes.string_at(*one) for one in ranges[: out.in_iovs])
            room = sum(one.len for one in ranges[out.in_iovs :])

    def session(self) -> int:
        """The number of a new one."""
        assert self.ioctl("CIOCGSESSION", self.buffers.session()) == 0
        layout = layout_of(ROWS["CIOCGSESSION"], 64)
        told = self._results if self.kind == "retry" else self.buffers.op.raw
        ses: int = layout.read(told).ses
        return ses


@pytest.fixture
def board() -> Board:
    return Board(5)


@pytest.fixture(params=["restricted", "direct", "retry"])
def machine(request: pytest.FixtureRequest, tmp_path: Path, board: Board) -> Iterator[Machine]:
    backend = Backend(Address.parse(f"unix:{tmp_path}/s"), OpensslEngine())
    direct = request.param != "retry"
    node = FakeNode()
    server = Server(node, backend.address, workers=4, deadline=20, direct=direct, board=board)
    thread = threading.Thread(target=trio.run, args=[server.run], daemon=True)
    thread.start()
    yield Machine(request.param, Kernel(node))
    node.abort()
    thread.join(10)
    node.close()
    backend.stop()


def records(board: Board) -> list[bytes]:
    found = [data for worker in range(board.workers) for data in RingReader(board, worker).take()]
    return sorted(found, key=lambda data: load(data).time)


def events(found: list[bytes], *, data: bool = False, keys: bool = False) -> list[Event]:
    return [event_of(load(one), "cryptodev", 1, data, keys) for one in found]


def some_work(machine: Machine) -> None:
    ses, buffers = machine.session(), machine.buffers
    op = buffers.crypt(ses)
    assert machine.ioctl("CIOCCRYPT", op) == 0
    assert machine.ioctl("CIOCCRYPT", op._replace(flags=4)) == 0
    assert machine.ioctl("CIOCCRYPT", op._replace(len=3)) == 22
    assert machine.ioctl("CIOCASYMFEAT", (0,)) == 0
    assert machine.ioctl("CIOCASYNCFETCH", op) == 16


def test_nothing_is_written_down_while_nobody_reads(machine: Machine, board: Board) -> None:
    some_work(machine)
    assert records(board) == []


def test_lengths_and_no_secrets(machine: Machine, board: Board) -> None:
    board.words[TRACE] = LINES
    some_work(machine)
    found = records(board)
    assert not any(KEY in one or DATA_BYTES[:16] in one for one in found)
    session, crypt, writes_iv, wrong, feat, fetch = events(found)
    assert session["argument"]["keylen"] == 16
    (key,) = session["hops"][0]["parts"]
    assert key == {"member": "key", "address": session["argument"]["key"], "bytes": 16}
    assert session["returned"]["ses"] == crypt["argument"]["ses"]
    for one in (crypt, writes_iv):
        copied = {
            (hop["hop"], part["member"]): part["bytes"]
            for hop in one["hops"]
            for part in hop.get("parts", ())
        }
        written = {("write", "dst"): 64} | ({("write", "iv"): 16} if one is writes_iv else {})
        assert copied == {("read", "iv"): 16, ("read", "src"): 64} | written
        assert any(hop.get("message") == "CRYPT" for hop in one["hops"])
    assert (wrong["errno"], wrong["argument"]["len"]) == ("EINVAL", 3)
    # Their structures do not come in: what lies there is another one's.
    assert (feat["argument"], feat["returned"]) == ({}, {"value": 0})
    assert (fetch["argument"], fetch["returned"], fetch["errno"]) == ({}, {}, "EBUSY")


def test_data_and_keys_only_where_they_are_asked_for(machine: Machine, board: Board) -> None:
    board.words[TRACE] = LINES | DATA
    some_work(machine)
    with_data = records(board)
    assert not any(KEY in one for one in with_data)
    assert any(DATA_BYTES in one for one in with_data)
    board.words[TRACE] = LINES | DATA | KEYS
    some_work(machine)
    with_keys = records(board)
    assert any(KEY in one for one in with_keys)
    assert KEY.hex() in str(events(with_keys, data=True, keys=True))
    for modest in (events(with_keys), events(with_keys, data=True)):
        assert KEY.hex() not in str(modest)
    assert DATA_BYTES.hex() not in str(events(with_keys))


def test_each_ioctl_is_counted_once(machine: Machine, board: Board) -> None:
    some_work(machine)
    eventually(lambda: _counts(board)["CIOCCRYPT"] == (3, 128, {22: 1}))
    assert _counts(board)["CIOCGSESSION"] == (1, 0, {})
    assert _counts(board)["CIOCASYNCFETCH"] == (1, 0, {16: 1})
    (seat,) = board.seats()
    assert (seat.operations, seat.bytes) == (2, 128)


def _counts(board: Board) -> dict[str, tuple[int, int, dict[int, int]]]:
    return {one.ioctl: (one.total, one.bytes, one.errors) for one in read(board).ioctls}
