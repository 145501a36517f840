"""What a front end that was killed had half done, where more than one request is about it."""

import errno
import fcntl
import hashlib
import os
import select
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cuse_crypto.abi import crypto_buffer, ioctls
from cuse_crypto.abi.crypto_buffer import crypto_buffer as buffer_op
from cuse_crypto.abi.structs import CopFlag, cphash_op, crypt_op, session_info_op
from cuse_crypto.frontend.ledger import FILE, FIRST_FILE, NAME
from cuse_crypto.frontend.succession import FATAL
from tests.conftest import StartDevice, eventually
from tests.dying import (
    AES_CBC,
    KEY,
    LONG,
    SHA256,
    Device,
    File,
    Members,
    Memory,
    cbc,
    dying,
    resends,
)

pytestmark = pytest.mark.node
HOW = pytest.mark.parametrize("how", ["before", "half", "after"])


@pytest.fixture(scope="module")
def own(start_up: StartDevice, tmp_path_factory: pytest.TempPathFactory) -> Device:
    if not resends():
        pytest.skip(f"Linux {os.uname().release} does not send requests once more; 6.9 does")
    options = "--engine", "openssl", "--deadline", "2", "--patience", "5"
    return dying(start_up, tmp_path_factory.mktemp("faults") / "point", *options)


@pytest.fixture
def file(own: Device) -> Iterator[File]:
    opened = File(own.path)
    yield opened
    os.close(opened.fd)


def job_of(file: File) -> tuple[crypt_op, Memory, Memory]:
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    data, iv = Memory(bytes(64)), Memory(bytes(16))
    op = crypt_op(ses=ses, len=64, src=data.address, dst=data.address, iv=iv.address)
    return op, data, iv


def errno_of(file: File, name: str, op: tuple[Any, ...]) -> int:
    """0 where it is none."""
    try:
        file.ioctl(name, op)
    except OSError as error:
        return error.errno or 0
    return 0


@HOW
def test_a_result_is_not_lost_in_silence(own: Device, file: File, how: str) -> None:
    op, *_ = kept = job_of(file)
    with own.dies("copy", how):
        file.ioctl("CIOCASYNCCRYPT", op)
    waiting = select.poll()
    waiting.register(file.fd, select.POLLIN)
    assert waiting.poll(10_000)
    told = errno_of(file, "CIOCASYNCFETCH", op)
    assert told == errno.EIO
    assert errno_of(file, "CIOCASYNCFETCH", op) == errno.EBUSY
    assert kept


@HOW
def test_a_result_is_fetched_once(own: Device, file: File, how: str) -> None:
    op, *_ = kept = job_of(file)
    file.ioctl("CIOCASYNCCRYPT", op)
    with own.dies("copy", how):
        told = errno_of(file, "CIOCASYNCFETCH", op)
    assert told == 0
    assert errno_of(file, "CIOCASYNCFETCH", op) == errno.EBUSY
    assert kept


def test_others_use_the_session_meanwhile(own: Device, file: File) -> None:
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    plain, iv, other = os.urandom(16 << 20), os.urandom(16), Memory(os.urandom(16))

    def long() -> None:
        file.crypt(ses=ses, len=len(plain), src=data, dst=data, iv=Memory(iv))

    def short() -> bytes:
        small = Memory(bytes(64))
        file.crypt(ses=ses, len=64, src=small, dst=small, iv=other)
        return bytes(small)

    for _ in range(3):
        data = Memory(plain)
        with own.dies("copy", "half", 9), ThreadPoolExecutor(4) as pool:
            running = pool.submit(long)
            small = [pool.submit(short) for _ in range(3)]
            assert {one.result(30) for one in small} == {cbc(bytes(64), bytes(other))}
            running.result(30)
        assert bytes(data) == cbc(plain, iv)


def test_a_doubtful_hash_is_not_copied(own: Device, file: File) -> None:
    source, target = file.session(mac=SHA256), file.session(mac=SHA256)
    data, mac = Memory(b"some text"), Memory(bytes(32))
    file.crypt(ses=source, len=9, src=data, mac=mac, flags=CopFlag.UPDATE)
    with own.dies("answer", "before"):
        os.fstat(file.fd)
    file.ioctl("CIOCGSESSINFO", session_info_op(source, b"", b"", b"", b"", 0, 0))
    copy = cphash_op(dst_ses=target, src_ses=source)
    assert errno_of(file, "CIOCCPHASH", copy) == errno.EIO
    file.crypt(ses=source, len=9, src=data, mac=mac, flags=CopFlag.UPDATE)
    file.ioctl("CIOCCPHASH", copy)
    file.crypt(ses=target, mac=mac, flags=CopFlag.FINAL)
    assert bytes(mac) == hashlib.sha256(b"some text").digest()


@pytest.mark.parametrize(("how", "refused"), [("before", False), ("crash", True)])
def test_files_whose_open_was_not_answered(own: Device, how: str, refused: bool) -> None:
    before = files(own)
    with own.dies_again("answer", [(how, 1)] * FATAL):
        try:
            os.close(os.open(own.path, os.O_RDWR))
            assert not refused
        except OSError as error:
            assert (error.errno, refused) == (errno.EIO, True)  # noqa: PT017 - either may be
    eventually(lambda: files(own) == before)


def is_asleep() -> bool:
    """A thread of this process waits for a node's answer."""
    tasks = Path("/proc/self/task").iterdir()
    return any((task / "wchan").read_text() == "request_wait_answer" for task in tasks)


def ledger_of(pid: int) -> Path | None:
    """The state file of a front end, by its descriptor."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(link).startswith(f"/memfd:{NAME}"):
            return link
    return None


def files(device: Device) -> int:
    """Open files in the ledger."""
    link = ledger_of(device.service.child("device"))
    assert link
    with link.open("rb") as content:
        view = content.read(FIRST_FILE + 200 * FILE.size)
    return sum(FILE.read(view, FIRST_FILE + at * FILE.size).used for at in range(200))


def test_a_back_end_that_hangs_holds_nobody_else(own: Device, file: File) -> None:
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    data, back = Memory(bytes(64)), own.service.child("backend")
    given: Members = {"ses": ses, "flags": CopFlag.WRITE_IV, "len": 64, "src": data, "dst": data}
    os.kill(back, signal.SIGSTOP)
    try:
        # Its other threads go on until one has taken the signal.
        eventually(lambda: "T (stopped)" in Path(f"/proc/{back}/status").read_text())
        with ThreadPoolExecutor(2) as pool:
            held = pool.submit(file.refused, **given, iv=Memory(bytes(16)))
            eventually(is_asleep)
            os.kill(own.service.child("device"), signal.SIGKILL)
            assert held.result(20) == errno.EIO
            assert pool.submit(os.stat, own.path).result(5)
    finally:
        os.kill(back, signal.SIGCONT)


def test_the_other_api_in_parts(start_up: StartDevice, tmp_path: Path) -> None:
    if not resends():
        pytest.skip(f"Linux {os.uname().release} does not send requests once more; 6.9 does")
    device = dying(start_up, tmp_path / "point", "--engine", "openssl", "--api", "crypto-buffer")
    fd = os.open(device.path, os.O_RDWR)
    plain = os.urandom(LONG)
    row = next(row for row in crypto_buffer.IOCTLS if row.name == "ENCRYPT")
    for how in ("half", "after"):
        data, key = Memory(plain), Memory(KEY)
        op = buffer_op(
            input=data.address, output=data.address, len=LONG, key=key.address, key_len=16
        )
        with device.dies("copy", how, 3):
            fcntl.ioctl(fd, row.number(64), bytearray(ioctls.layout_of(row, 64).bytes(op)))
        encryptor = Cipher(algorithms.AES(KEY), modes.CBC(bytes(16))).encryptor()
        assert bytes(data) == encryptor.update(plain)
    os.close(fd)
