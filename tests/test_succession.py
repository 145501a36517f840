"""A front end is killed at the worst moments: its caller sees one right result, nothing else."""

import errno
import hashlib
import hmac
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cuse_crypto.abi.structs import Cop, CopFlag, crypt_auth_op, crypt_op, number
from cuse_crypto.frontend.succession import FATAL
from tests.conftest import Service, StartDevice, eventually
from tests.dying import (
    AES_CBC,
    AES_GCM,
    KEY,
    LONG,
    SHA256,
    SHA256_HMAC,
    Device,
    File,
    Members,
    Memory,
    cbc,
    dying,
    resends,
    waiting,
)

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def device(start_up: StartDevice, tmp_path_factory: pytest.TempPathFactory) -> Device:
    if not resends():
        pytest.skip(f"Linux {os.uname().release} does not send requests once more; 6.9 does")
    return dying(start_up, tmp_path_factory.mktemp("faults") / "point", "--engine", "openssl")


@pytest.fixture
def file(device: Device) -> Iterator[File]:
    opened = File(device.path)
    yield opened
    os.close(opened.fd)


@pytest.mark.parametrize("flags", [0, CopFlag.WRITE_IV], ids=["short way", "long way"])
def test_a_cipher_in_place(device: Device, file: File, flags: int) -> None:
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    plain, iv = os.urandom(4096), os.urandom(16)
    chain = iv
    for how in ("before", "half", "after"):
        data, place = Memory(plain), Memory(iv)
        with device.dies("copy", how):
            file.crypt(ses=ses, flags=flags, len=4096, src=data, dst=data, iv=place)
        chain = cbc(plain, iv)[-16:]
        assert bytes(data) == cbc(plain, iv)
        assert bytes(place) == (chain if flags else iv)
    for how in ("half", "after"):
        # It goes on where the last one has ended.
        data = Memory(plain)
        with device.dies("copy", how):
            file.crypt(ses=ses, len=4096, src=data, dst=data)
        assert bytes(data) == cbc(plain, chain)
        chain = bytes(data)[-16:]


def test_one_in_parts_goes_on_where_it_was(device: Device, file: File) -> None:
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    plain, iv = os.urandom(LONG), os.urandom(16)
    for points in ([("half", 3), ("half", 2)], [("after", 2), ("before", 1), ("half", 5)]):
        data, place = Memory(plain), Memory(iv)
        with device.dies_again("copy", points):
            given: Members = {"ses": ses, "flags": CopFlag.WRITE_IV, "len": LONG, "iv": place}
            file.crypt(**given, src=data, dst=data)
        assert bytes(data) == cbc(plain, iv)
        assert bytes(place) == bytes(data)[-16:]


def test_one_in_parts_that_nobody_can_go_on_with(device: Device, file: File) -> None:
    key, plain, iv = Memory(KEY), os.urandom(LONG), Memory(bytes(16))
    ses = file.session(
        cipher=AES_CBC, keylen=16, key=key, mac=SHA256_HMAC, mackeylen=16, mackey=key
    )
    source, target, mac = Memory(plain), Memory(bytes(LONG)), Memory(bytes(32))
    with device.dies("copy", "half", 3):
        file.crypt(ses=ses, len=LONG, src=source, dst=target, iv=iv, mac=mac)
    assert bytes(target) == cbc(plain, bytes(16))
    assert bytes(mac) == hmac.digest(KEY, plain, "sha256")
    with device.dies("copy", "half", 3):
        assert file.refused(ses=ses, len=LONG, src=source, dst=source, iv=iv) == errno.EIO


def test_an_aead_in_place(device: Device, file: File) -> None:
    ses = file.session(cipher=AES_GCM, keylen=16, key=Memory(KEY))
    plain, iv = os.urandom(10000), Memory(bytes(12))
    data = Memory(plain + bytes(16))
    given = {"ses": ses, "src": data.address, "dst": data.address, "iv": iv.address, "iv_len": 12}
    with device.dies("copy", "half"):
        file.ioctl("CIOCAUTHCRYPT", crypt_auth_op(**given, len=10000, tag_len=16))
    assert bytes(data) == AESGCM(KEY).encrypt(bytes(12), plain, None)
    with device.dies("copy", "half"):
        file.ioctl("CIOCAUTHCRYPT", crypt_auth_op(**given, op=Cop.DECRYPT, len=10016, tag_len=16))
    assert bytes(data)[:10000] == plain


def test_a_session_is_made_once(device: Device, file: File) -> None:
    for where, how in (("copy", "half"), ("copy", "after"), ("answer", "before")):
        with device.dies(where, how):
            ses = file.session(mac=SHA256_HMAC, mackeylen=16, mackey=Memory(KEY))
        data, mac = Memory(b"text"), Memory(bytes(32))
        file.crypt(ses=ses, len=4, src=data, mac=mac)
        assert bytes(mac) == hmac.digest(KEY, b"text", "sha256")
        file.ioctl("CIOCFSESSION", number(ses))


def test_open_and_release(device: Device) -> None:
    with device.dies("answer", "before"):
        opened = File(device.path)
    assert opened.session(mac=SHA256)
    with device.dies("answer", "before"):
        os.close(opened.fd)


def test_a_hash_under_way_is_lost_once(device: Device, file: File) -> None:
    ses = file.session(mac=SHA256)
    data, mac = Memory(b"some text"), Memory(bytes(32))
    given: Members = {"ses": ses, "len": 9, "src": data, "mac": mac}
    file.crypt(**given, flags=CopFlag.UPDATE)
    with device.dies("copy", "before"):
        # Has it been counted? Nobody knows.
        file.crypt(**given, flags=CopFlag.UPDATE)
    assert file.refused(ses=ses, mac=mac, flags=CopFlag.FINAL) == errno.EIO
    file.crypt(**given, flags=CopFlag.UPDATE)
    file.crypt(ses=ses, mac=mac, flags=CopFlag.FINAL)
    assert bytes(mac) == hashlib.sha256(b"some text").digest()


def test_results_that_were_not_fetched_are_lost_once(device: Device, file: File) -> None:
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    data, iv = Memory(bytes(64)), Memory(bytes(16))
    job = crypt_op(ses=ses, len=64, src=data.address, dst=data.address, iv=iv.address)
    file.ioctl("CIOCASYNCCRYPT", job)
    file.ioctl("CIOCASYNCFETCH", job)
    waiting = select.poll()
    waiting.register(file.fd, select.POLLIN)
    assert not waiting.poll(0)
    file.ioctl("CIOCASYNCCRYPT", job)
    with device.dies("answer", "after"):
        assert os.fstat(file.fd).st_size == 0
    assert waiting.poll(30_000)
    for wanted in (errno.EIO, errno.EBUSY):
        with pytest.raises(OSError) as told:
            file.ioctl("CIOCASYNCFETCH", job)
        assert told.value.errno == wanted


def test_a_request_that_kills_is_given_up(device: Device, file: File) -> None:
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    data = Memory(bytes(64))
    with device.dies_again("copy", [("before", 1)] * FATAL):
        file.crypt(ses=ses, len=64, src=data, dst=Memory(bytes(64)), iv=Memory(bytes(16)))
    with device.dies_again("copy", [("crash", 1)] * FATAL):
        refused = file.refused(ses=ses, len=64, src=data, dst=data, iv=Memory(bytes(16)))
    assert refused == errno.EIO
    file.crypt(ses=ses, len=64, src=data, dst=data, iv=Memory(bytes(16)))
    assert bytes(data) == cbc(bytes(64), bytes(16))


def test_permissions_stay(device: Device, file: File) -> None:
    os.chmod(device.path, 0o604)
    with device.dies("answer", "before"):
        os.fstat(file.fd)
    assert os.stat(device.path).st_mode & 0o777 == 0o604


def test_upgrade(openssl_device: Service) -> None:
    file = File(openssl_device.path)
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    before = openssl_device.child("device")
    said = upgrade(openssl_device.path.name)
    assert said.stdout == f"upgraded: {openssl_device.path} (process {before})\n"
    data = Memory(bytes(64))
    file.crypt(ses=ses, len=64, src=data, dst=data, iv=Memory(bytes(16)))
    assert bytes(data) == cbc(bytes(64), bytes(16))
    assert openssl_device.child("device") == before
    os.close(file.fd)


def test_where_the_kernel_cannot_send_again(start_up: StartDevice, node_kind: str) -> None:
    if resends() or node_kind != "cuse":
        pytest.skip(f"Linux {os.uname().release} sends requests once more; older than 6.9 do not")
    service = start_up("--engine", "openssl")
    file = File(service.path)
    ses = file.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    data = Memory(bytes(64))
    given: Members = {"ses": ses, "len": 64, "src": data, "dst": data, "iv": Memory(bytes(16))}
    stopped, killed = service.child("backend"), service.child("device")
    os.kill(stopped, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        refused = pool.submit(file.refused, **given)
        eventually(lambda: waiting(service.path.name) > 0)
        os.kill(killed, signal.SIGKILL)
        # Nobody knows what it asked: it has an error, rather than to wait for ever.
        assert refused.result(30) in (errno.ECONNABORTED, errno.ENOTCONN, errno.ENODEV)
    os.kill(stopped, signal.SIGCONT)
    os.close(file.fd)
    eventually(lambda: service.path.exists() and service.child("device") != killed)
    another = File(service.path)
    assert another.session(cipher=AES_CBC, keylen=16, key=Memory(KEY))
    os.close(another.fd)


def test_nothing_to_upgrade() -> None:
    said = upgrade("not-there")
    assert said.returncode == 1
    assert said.stderr.startswith("cuse-crypto: no front end of /dev/not-there runs here")


def upgrade(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cuse_crypto", "upgrade", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
