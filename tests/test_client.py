"""The device of the Python binding: names, arguments, ends, threads."""

import doctest
import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.client import CryptoDevice
from cuse_crypto.client.algorithms import human_name
from cuse_crypto.client.session import Session
from tests.conftest import PROJECT, Service

needs_node = pytest.mark.node

ROWS: list[Cipher | Mac] = [*CIPHERS.values(), *MACS.values()]
KEY, IV = bytes(range(16)), bytes(range(100, 116))


@pytest.fixture(scope="module")
def device(openssl_device: Service) -> Iterator[CryptoDevice]:
    with CryptoDevice(openssl_device.path) as one:
        yield one


def test_names() -> None:
    names = [human_name(row) for row in ROWS]
    assert len(set(names)) == len(names)
    expected = "aes-cbc 3des-cbc des-cbc blowfish-cbc camellia-cbc null aes-gcm aes-xts"
    assert set(expected.split()) < set(names)
    assert {"md5", "sha1", "sha224", "sha512", "ripemd160", "hmac-sha256", "hmac-md5"} < set(names)


@needs_node
def test_algorithms(device: CryptoDevice) -> None:
    found = device.algorithms()
    assert set(found) == {human_name(row) for row in ROWS}
    assert found["aes-cbc"].key_sizes == (16, 24, 32)  # type: ignore[union-attr]
    assert device.algorithms() is found


@needs_node
@pytest.mark.parametrize("call", ["cipher", "hash", "hmac", "aead"])
def test_an_unknown_name_lists_the_known(device: CryptoDevice, call: str) -> None:
    arguments = [] if call == "hash" else [KEY]
    with pytest.raises(ValueError, match=r"unknown \w+ '.*': known are .*(aes-|sha256)"):
        getattr(device, call)("rot13", *arguments)


@needs_node
@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (ValueError, "key of 16 or 24 or 32 bytes, not 5", lambda d: d.cipher("aes-cbc", b"short")),
        (ValueError, "key of 4 to 56 bytes, not 3", lambda d: d.cipher("blowfish-cbc", b"abc")),
        (ValueError, "for an HMAC only", lambda d: d.cipher("null", mac="md5", mac_key=b"k")),
        (ValueError, "at most 512", lambda d: d.cipher("null", mac="hmac-md5", mac_key=bytes(513))),
        (ValueError, "unknown cipher 'aes-gcm'", lambda d: d.cipher("aes-gcm", KEY)),
        (ValueError, "multiple of 16, not 15", lambda d: d.cipher("aes-cbc", KEY).encrypt(KEY[1:])),
        (ValueError, "iv of 16 bytes", lambda d: d.cipher("aes-cbc", KEY).encrypt(KEY, KEY[1:])),
        (ValueError, "iv of 0 bytes", lambda d: d.cipher("aes-ecb", KEY).encrypt(KEY, IV)),
        (TypeError, "data must be", lambda d: d.cipher("aes-cbc", KEY).encrypt("text")),
        (TypeError, "iv must be", lambda d: d.cipher("aes-cbc", KEY).encrypt(KEY, 5)),
        (TypeError, "key must be", lambda d: d.cipher("aes-cbc", "text")),
        (TypeError, "out must be", lambda d: d.cipher("aes-ctr", KEY).encrypt_into(b"", b"")),
        (TypeError, "data must be", lambda d: d.hash("sha1", "text")),
        (TypeError, "bytes-like", lambda d: d.hmac("sha1", 5)),
        (ValueError, "room for 16", lambda d: d.cipher("null").encrypt_into(KEY, bytearray(15))),
    ],
)
def test_arguments(
    device: CryptoDevice, kind: type[Exception], message: str, call: Callable[[Any], object]
) -> None:
    with pytest.raises(kind, match=message):
        call(device)


@needs_node
def test_overlap(device: CryptoDevice) -> None:
    area = bytearray(64)
    view = memoryview(area)
    with device.cipher("aes-cbc", KEY) as session:
        for source, target in ((view[:32], view[1:]), (view[1:33], view)):
            with pytest.raises(ValueError, match="does not overlap"):
                session.encrypt_into(source, target, IV)
        assert session.encrypt_into(view[:32], view[32:], IV) == 32
    del view, source, target
    area.append(0)


@needs_node
def test_closing(openssl_device: Service) -> None:
    device = CryptoDevice(openssl_device.path)
    session, digest = device.cipher("aes-cbc", KEY), device.hash("sha1", b"abc")
    session.close()
    session.close()
    with pytest.raises(ValueError, match=r"this session of aes-cbc is closed"):
        session.encrypt(KEY)
    device.close()
    device.close()
    assert device.closed
    for call in (digest.digest, device.fileno, device.algorithms):
        with pytest.raises(ValueError, match=f"{openssl_device.path} is closed"):
            call()
    digest.close()


@needs_node
def test_a_forgotten_session_ends(device: CryptoDevice) -> None:
    session = device.cipher("aes-cbc", KEY)
    again = Session.__new__(Session)
    again.__dict__ |= session.__dict__
    assert again.info().cipher == "cbc(aes)"
    del session
    with pytest.raises(OSError, match="CIOCGSESSINFO: Invalid argument") as caught:
        again.info()
    assert caught.value.errno == errno.EINVAL


@needs_node
def test_a_hash_that_failed_gives_no_digest(device: CryptoDevice) -> None:
    digest = device.hash("sha256", b"abc")
    again = Session.__new__(Session)
    again.__dict__ |= digest.__dict__
    again.close()
    with pytest.raises(OSError) as caught:
        digest.update(b"def")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(ValueError, match="closed"):
        digest.digest()


def test_interrupted_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that interrupts each call once: made again, unless that could do harm."""
    outcomes = [InterruptedError(errno.EINTR, "", ""), None] * 2
    real = fcntl.ioctl

    with CryptoDevice("/dev/null") as device:
        file = device._file

        def ioctl(fd: int, number: int, argument: bytearray) -> None:
            # A forgotten session of another test may end meanwhile.
            if file.closed or fd != file.fileno():
                real(fd, number, argument)
            elif error := outcomes.pop(0):
                raise error

        monkeypatch.setattr(fcntl, "ioctl", ioctl)
        assert file.call("CIOCASYMFEAT", (5,)) == (5,)
        with pytest.raises(InterruptedError, match="how much of it was done is not known"):
            file.call("CIOCASYMFEAT", (5,), repeatable=False)
    assert len(outcomes) == 1


@needs_node
def test_a_forgotten_device_warns(openssl_device: Service) -> None:
    devices = [CryptoDevice(openssl_device.path)]
    fd = devices[0].fileno()
    with pytest.warns(ResourceWarning, match="unclosed crypto device"):
        devices.clear()
    with pytest.raises(OSError):
        os.fstat(fd)


@needs_node
def test_a_forked_child_leaves_the_sessions(openssl_device: Service) -> None:
    program = f"""
import os
from cuse_crypto.client import CryptoDevice
with CryptoDevice("{openssl_device.path}") as device:
    session = device.cipher("aes-ctr", bytes(16))
    other = session
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        session.encrypt(b"abc", iv=bytes(16))
    else:
        del session, other
        os._exit(0)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_missing_device_names_the_remedy() -> None:
    with pytest.raises(FileNotFoundError, match=r"`cuse-crypto up --name nothing`.*/dev/nothing"):
        CryptoDevice("/dev/nothing")


def test_what_is_no_crypto_device() -> None:
    with CryptoDevice("/dev/null") as device, pytest.raises(OSError) as caught:
        device.hash("sha1")
    assert caught.value.errno == errno.ENOTTY


@needs_node
def test_threads(device: CryptoDevice) -> None:
    """One session for all, an IV for each: eight at once."""
    together = threading.Barrier(8)

    def work(iv: bytes) -> set[bytes]:
        together.wait()
        return {session.encrypt(iv * 256, iv=iv) for _ in range(50)}

    ivs = [bytes([number]) * 16 for number in range(8)]
    with device.cipher("aes-cbc", KEY) as session, ThreadPoolExecutor(8) as pool:
        expected = [{session.encrypt(iv * 256, iv=iv)} for iv in ivs]
        assert list(pool.map(work, ivs)) == expected


def test_import_needs_no_trio() -> None:
    program = "import sys, cuse_crypto.client; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@needs_node
def test_the_examples(openssl_device: Service) -> None:
    text = (PROJECT / "docs" / "python.md").read_text()
    text = text.replace("/dev/cryptodev0", str(openssl_device.path))
    examples = doctest.DocTestParser().get_doctest(text, {}, "docs/python.md", None, 0)
    results = doctest.DocTestRunner().run(examples)
    assert results.attempted > 20
    assert not results.failed
