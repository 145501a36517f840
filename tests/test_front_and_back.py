"""Front end and back end joined by a socket; the caller's memory is a dict: no privileges."""

import errno
import hashlib
import hmac
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.structs import CopFlag, cphash_op, crypt_auth_op, crypt_op, number, session_op
from cuse_crypto.frontend.apis import Cryptodev
from cuse_crypto.frontend.arena import Arena
from cuse_crypto.frontend.crypt import CHUNK, PART
from cuse_crypto.frontend.files import OpenFile, OpenFiles
from cuse_crypto.frontend.marks import Changing
from cuse_crypto.frontend.marshal import ARGUMENT, Call
from cuse_crypto.frontend.memory import Piece, Range
from cuse_crypto.frontend.queue import BackendGone, Queue
from cuse_crypto.frontend.route import Route
from cuse_crypto.fuse.protocol import IoctlFlag
from cuse_crypto.layout import Layout
from cuse_crypto.wire.address import Address
from cuse_crypto_backend.admission import Admission
from cuse_crypto_backend.engines import Engine
from cuse_crypto_backend.engines.openssl import OpensslEngine
from cuse_crypto_backend.server import Server
from tests.conftest import eventually
from tests.vectors import VECTORS, Vector

ROWS = {row.name: row for row in ioctls.IOCTLS}


class Backend:
    """A back end in a thread, which can be ended and started again."""

    def __init__(
        self, address: Address, engine: Engine | None = None, admission: Admission | None = None
    ) -> None:
        self.server = Server(engine or OpensslEngine(), admission or Admission.of_this_user())
        self._listener = address.listen()
        self.address = address.bound(self._listener)
        self._scope = trio.CancelScope()
        self._running = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=[self._serve], daemon=True)
        self._thread.start()
        assert self._running.wait(5)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._running.set()
        with self._scope:
            await self.server.run(self._listener)

    def stop(self) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()
        self._listener.close()
        self.address.clean()


class FakeMemory:
    """A caller's memory: addresses are keys, and what is no key faults."""

    announces = True

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.bytes: dict[int, bytearray] = {}

    def put(self, address: int, data: bytes) -> int:
        self.bytes[address] = bytearray(data)
        return address

    def copy_from_user(
        self, ranges: Sequence[Range], offset: int, writable: Sequence[Range] = ()
    ) -> None:
        for address, length in ranges:
            self.arena.view[offset : offset + length] = self._find(address, length)
            offset += length

    def copy_to_user(self, pieces: Sequence[Piece]) -> None:
        for address, at, length in pieces:
            self._find(address, length)[:] = self.arena.view[at : at + length]

    def commit(self, pieces: Sequence[Piece], what: Changing, done: int = 0) -> None:
        what.save()
        self.copy_to_user(pieces)

    def _find(self, address: int, length: int) -> memoryview:
        for start, data in self.bytes.items():
            if start <= address and address + length <= start + len(data):
                return memoryview(data)[address - start : address - start + length]
        raise OSError(errno.EFAULT, "bad address")


class Caller:
    """A program that makes ioctls of one worker."""

    def __init__(self, to: Route | Address, shared: bool = True, guest: bytes = b"") -> None:
        self.queue = Queue(to, guest or os.urandom(16), 0, deadline=5, shared=shared)
        self.arena = self.queue.arena
        self.memory = FakeMemory(self.arena)
        self.marshal = Cryptodev(ioctls.IOCTLS, self.queue)
        self.files = OpenFiles()
        self.claims = 0

    def open(self) -> OpenFile:
        file = self.files.open()
        self.marshal.open(file)
        return file

    def claim(self) -> None:
        self.claims += 1

    def ioctl(self, file: OpenFile, name: str, op: tuple[int, ...]) -> bytes:
        """The structure as the caller finds it afterwards."""
        layout: Layout[tuple[int, ...]] = ioctls.layout_of(ROWS[name], 64)
        packed = layout.bytes(op)
        self.memory.put(0x1000, packed)
        self.arena.view[ARGUMENT : ARGUMENT + len(packed)] = packed
        call = Call(file, 1, 0x1000, layout, self.memory, self.claim)
        self.marshal.ioctl(ROWS[name].number(64), 0, call)
        return bytes(self.memory.bytes[0x1000])

    def session(self, file: OpenFile, vector: Vector) -> int:
        key = self.memory.put(0x2000, vector.key)
        op = session_op(cipher=vector.cipher, keylen=len(vector.key), key=key)
        packed = self.ioctl(file, "CIOCGSESSION", op)
        ses: int = ioctls.layout_of(ROWS["CIOCGSESSION"], 64).read(packed).ses
        return ses

    def crypt(
        self, file: OpenFile, ses: int, op: int, iv: bytes | None, data: bytes, flags: int = 0
    ) -> bytes:
        src = self.memory.put(0x10000000, data)
        dst = self.memory.put(0x20000000, bytes(len(data)))
        iv_at = 0 if iv is None else self.memory.put(0x3000, iv)
        request = crypt_op(ses=ses, op=op, flags=flags, len=len(data), src=src, dst=dst, iv=iv_at)
        self.ioctl(file, "CIOCCRYPT", request)
        return bytes(self.memory.bytes[dst])


@pytest.fixture
def address(tmp_path: Path) -> Address:
    return Address.parse(f"unix:{tmp_path}/s")


@pytest.fixture
def backend(address: Address) -> Iterator[Backend]:
    running = Backend(address)
    yield running
    running.stop()


@pytest.fixture(params=[True, False], ids=["shared", "inline"])
def caller(address: Address, backend: Backend, request: pytest.FixtureRequest) -> Iterator[Caller]:
    one = Caller(address, request.param)
    yield one
    assert bool(one.queue.shared) == request.param or one.queue._connection is None
    one.queue.close()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_published_answers(caller: Caller, vector: Vector) -> None:
    file = caller.open()
    ses = caller.session(file, vector)
    secret = caller.crypt(file, ses, 0, vector.iv or None, vector.plaintext)
    assert secret == vector.ciphertext
    assert caller.crypt(file, ses, 1, vector.iv or None, secret) == vector.plaintext


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_chaining_is_as_one_operation(caller: Caller, vector: Vector) -> None:
    file = caller.open()
    ses = caller.session(file, vector)
    size = 16
    parts = [vector.plaintext[at : at + size] for at in range(0, len(vector.plaintext), size)]
    first = caller.crypt(file, ses, 0, vector.iv or None, parts[0])
    rest = [caller.crypt(file, ses, 0, None, part) for part in parts[1:]]
    assert b"".join([first, *rest]) == vector.ciphertext


@pytest.mark.parametrize("length", [CHUNK, CHUNK + 16, 3 * CHUNK + 4096])
@pytest.mark.parametrize("number", [11, 21, 23])
def test_long_operations_are_one_operation(caller: Caller, number: int, length: int) -> None:
    vector = next(vector for vector in VECTORS if vector.cipher == number)
    file = caller.open()
    ses = caller.session(file, vector)
    data = os.urandom(length)
    secret = caller.crypt(file, ses, 0, vector.iv or None, data)
    parts = [data[at : at + 65536] for at in range(0, length, 65536)]
    first = caller.crypt(file, ses, 0, vector.iv or None, parts[0])
    rest = [caller.crypt(file, ses, 0, None, part) for part in parts[1:]]
    assert secret == b"".join([first, *rest])
    assert caller.crypt(file, ses, 1, vector.iv or None, secret) == data


@pytest.mark.parametrize("distance", [1, 16, 4096, CHUNK, CHUNK + 5])
def test_overlapping_forwards(caller: Caller, distance: int) -> None:
    file = caller.open()
    ses = caller.session(file, VECTORS[3])
    data = os.urandom(2 * CHUNK + 64)
    expected = caller.crypt(file, ses, 0, bytes(16), data)
    at = caller.memory.put(0x10000000, data + bytes(distance))
    iv = caller.memory.put(0x3000, bytes(16))
    op = crypt_op(ses=ses, op=0, len=len(data), src=at, dst=at + distance, iv=iv)
    caller.ioctl(file, "CIOCCRYPT", op)
    assert caller.memory.bytes[at][distance:] == expected


def test_a_session_belongs_to_its_open_file(caller: Caller) -> None:
    file, other = caller.open(), caller.open()
    ses = caller.session(file, VECTORS[3])
    with pytest.raises(OSError, match="no such session") as caught:
        caller.crypt(other, ses, 0, bytes(16), bytes(16))
    assert caught.value.errno == errno.EINVAL
    caller.ioctl(other, "CIOCFSESSION", number(ses))
    caller.crypt(file, ses, 0, bytes(16), bytes(16))
    caller.ioctl(file, "CIOCFSESSION", number(ses))
    with pytest.raises(OSError, match="no such session"):
        caller.crypt(file, ses, 0, bytes(16), bytes(16))


def test_an_answer_that_cannot_be_given_leaves_no_session(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = caller.open()

    def fault(pieces: Sequence[Piece]) -> None:
        raise OSError(errno.EFAULT, "bad address")

    monkeypatch.setattr(caller.memory, "copy_to_user", fault)
    with pytest.raises(OSError, match="bad address"):
        caller.session(file, VECTORS[3])
    assert not file.sessions


def test_release_frees_the_back_end(caller: Caller, backend: Backend) -> None:
    file = caller.open()
    caller.session(file, VECTORS[3])
    guests = backend.server.guests._guests
    (guest,) = guests.values()
    assert [len(opened.sessions) for opened in guest._files.values()] == [1]
    caller.marshal.release(file)
    assert not guest._files
    caller.queue.close()
    eventually(lambda: not guests)


def test_a_new_back_end_is_told_again(address: Address) -> None:
    backend = Backend(address)
    caller = Caller(address)
    file = caller.open()
    ses = caller.session(file, VECTORS[3])
    expected = caller.crypt(file, ses, 0, VECTORS[3].iv, VECTORS[3].plaintext[:16])
    backend.stop()
    with pytest.raises(BackendGone):
        caller.crypt(file, ses, 0, VECTORS[3].iv, VECTORS[3].plaintext[:16])
    backend = Backend(address)
    assert caller.crypt(file, ses, 0, VECTORS[3].iv, VECTORS[3].plaintext[:16]) == expected
    # The chaining value is the front end's, so that it survives as well.
    backend.stop()
    backend = Backend(address)
    rest = caller.crypt(file, ses, 0, None, VECTORS[3].plaintext[16:])
    assert expected + rest == VECTORS[3].ciphertext
    caller.queue.close()
    backend.stop()


def hash_op(caller: Caller, file: OpenFile, ses: int, data: bytes, flags: int) -> bytes:
    """One operation of a hash; what the caller has as digest afterwards."""
    src = caller.memory.put(0x10000000, data)
    mac = caller.memory.put(0x4000, bytes(64))
    op = crypt_op(ses=ses, flags=flags, len=len(data), src=src, mac=mac)
    caller.ioctl(file, "CIOCCRYPT", op)
    return bytes(caller.memory.bytes[mac])


def hash_session(caller: Caller, file: OpenFile, mac: int, key: bytes = b"") -> int:
    at = caller.memory.put(0x2000, key or b"?")
    packed = caller.ioctl(file, "CIOCGSESSION", session_op(mac=mac, mackeylen=len(key), mackey=at))
    ses: int = ioctls.layout_of(ROWS["CIOCGSESSION"], 64).read(packed).ses
    return ses


UPDATE, FINAL, RESET = CopFlag.UPDATE, CopFlag.FINAL, CopFlag.RESET


@pytest.mark.parametrize("length", [0, 1, 100, CHUNK, 2 * CHUNK + 5])
def test_hash_in_one_and_in_parts(caller: Caller, length: int) -> None:
    file = caller.open()
    ses = hash_session(caller, file, 104)
    data = os.urandom(length)
    expected = hashlib.sha256(data).digest()
    assert hash_op(caller, file, ses, data, 0)[:32] == expected
    assert hash_op(caller, file, ses, data + b"!", UPDATE)[:32] == bytes(32)
    assert hash_op(caller, file, ses, b"", FINAL)[:32] == hashlib.sha256(data + b"!").digest()


def test_copied_hashes_go_apart(caller: Caller) -> None:
    file = caller.open()
    one, two = hash_session(caller, file, 104), hash_session(caller, file, 104)
    hash_op(caller, file, one, b"common", UPDATE)
    caller.ioctl(file, "CIOCCPHASH", cphash_op(dst_ses=two, src_ses=one))
    assert hash_op(caller, file, one, b" one", FINAL)[:32] == hashlib.sha256(b"common one").digest()
    assert hash_op(caller, file, two, b" two", FINAL)[:32] == hashlib.sha256(b"common two").digest()


def test_a_hash_that_died_with_its_back_end_says_so(address: Address) -> None:
    """One EIO, never a wrong digest; then a clear state. What is whole is simply repeated."""
    backend = Backend(address)
    caller = Caller(address)
    file = caller.open()
    ses, other = (hash_session(caller, file, 7, b"key") for _ in range(2))
    hash_op(caller, file, ses, b"abc", UPDATE)
    hash_op(caller, file, other, b"abc", UPDATE)
    backend.stop()
    backend = Backend(address)
    with pytest.raises(OSError) as caught:
        hash_op(caller, file, ses, b"def", UPDATE)
    assert caught.value.errno == errno.EIO
    digest = hash_op(caller, file, ses, b"def", FINAL)
    assert digest[:20] == hmac.new(b"key", b"def", "sha1").digest()
    # The other one is asked for all of it, so that nothing was lost.
    digest = hash_op(caller, file, other, b"whole", 0)
    assert digest[:20] == hmac.new(b"key", b"whole", "sha1").digest()
    hash_op(caller, file, ses, b"abc", UPDATE)
    backend.stop()
    backend = Backend(address)
    with pytest.raises(OSError, match="lost"):
        caller.ioctl(file, "CIOCCPHASH", cphash_op(dst_ses=other, src_ses=ses))
    caller.queue.close()
    backend.stop()


def test_a_long_hash_whose_back_end_dies_is_made_anew(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = [Backend(address)]
    caller = Caller(address)
    file = caller.open()
    ses = hash_session(caller, file, 7, b"key")
    data = os.urandom(2 * CHUNK)
    copy, copies = caller.memory.copy_from_user, 0

    def copy_and_kill(*arguments: Any, **options: Any) -> None:
        nonlocal copies
        copies += 1
        if copies == 6:
            backends[0].stop()
            backends[0] = Backend(address)
        copy(*arguments, **options)

    monkeypatch.setattr(caller.memory, "copy_from_user", copy_and_kill)
    assert hash_op(caller, file, ses, data, 0)[:20] == hmac.new(b"key", data, "sha1").digest()
    assert copies > 2 * CHUNK // PART + 5
    caller.queue.close()
    backends[0].stop()


def test_a_hash_whose_caller_was_let_go_says_so(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether an interrupted update was done: it must not be done twice."""
    file = caller.open()
    ses = hash_session(caller, file, 104)
    hash_op(caller, file, ses, b"abc", UPDATE)

    def interrupted() -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(caller, "claim", interrupted)
        with pytest.raises(InterruptedError):
            hash_op(caller, file, ses, b"def", UPDATE)
    with pytest.raises(OSError, match="lost"):
        hash_op(caller, file, ses, b"def", UPDATE)
    assert hash_op(caller, file, ses, b"x", RESET)[:32] == hashlib.sha256(b"x").digest()


def test_a_32_bit_program_fetches_what_a_64_bit_one_submitted(caller: Caller) -> None:
    file = caller.open()
    ses = caller.session(file, VECTORS[3])
    src = caller.memory.put(0x7_0000_0010, bytes(16))
    dst = caller.memory.put(0x7_0000_0020, bytes(16))
    iv = caller.memory.put(0x7_0000_0030, bytes(16))
    caller.ioctl(file, "CIOCASYNCCRYPT", crypt_op(ses=ses, len=16, src=src, dst=dst, iv=iv))
    layout: Layout[crypt_op] = ioctls.layout_of(ROWS["CIOCASYNCFETCH"], 32)
    caller.memory.put(0x1000, bytes(layout.size))
    call = Call(file, 1, 0x1000, layout, caller.memory, caller.claim)
    caller.marshal.ioctl(ROWS["CIOCASYNCFETCH"].number(32), IoctlFlag.COMPAT, call)
    told = layout.read(bytes(caller.memory.bytes[0x1000]))
    assert (told.ses, told.len, told.src, told.dst) == (ses, 16, 0x10, 0x20)
    assert not file.jobs


@pytest.mark.parametrize("length", [65 << 20, 0xFFFFFFF0])
def test_a_record_that_is_too_long(caller: Caller, length: int) -> None:
    """Of OFB, whose key stream is asked for before the source is read."""
    file = caller.open()
    key = caller.memory.put(0x2000, bytes(16))
    session = session_op(cipher=25, keylen=16, key=key, mac=18, mackeylen=16, mackey=key)
    ses = ioctls.layout_of(ROWS["CIOCGSESSION"], 64).read(
        caller.ioctl(file, "CIOCGSESSION", session)
    )[-1]
    at = caller.memory.put(0x10000000, bytes(64))
    op = crypt_auth_op(ses=ses, flags=CopFlag.AEAD_TLS_TYPE, len=length, src=at, dst=at)
    with pytest.raises(OSError) as refused:
        caller.ioctl(file, "CIOCAUTHCRYPT", op)
    assert refused.value.errno == errno.ENOMEM
