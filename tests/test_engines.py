"""The contract of an engine, held by each; published answers for those that compute."""

import errno
from collections.abc import Iterator

import pytest

from cuse_crypto.abi.algorithms import CIPHERS
from cuse_crypto.errors import Failure
from cuse_crypto_backend.engines import Engine, EngineFile, choose, cryptodev
from cuse_crypto_backend.engines.cryptodev import CryptodevEngine
from cuse_crypto_backend.engines.engine import SLACK
from cuse_crypto_backend.engines.null import NullEngine
from cuse_crypto_backend.engines.openssl import OpensslEngine
from tests.conftest import Service
from tests.vectors import VECTORS, Vector

COMPUTING = ["openssl", pytest.param("cryptodev", marks=pytest.mark.node)]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


@pytest.fixture(params=["null", *COMPUTING])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """``cryptodev`` runs on another instance of this project, as if it were the host's device."""
    if request.param == "cryptodev":
        device: Service = request.getfixturevalue("openssl_device")
        monkeypatch.setattr(cryptodev, "DEVICE", str(device.path))
        return CryptodevEngine()
    return NullEngine() if request.param == "null" else OpensslEngine()


@pytest.fixture
def file(engine: Engine) -> Iterator[EngineFile]:
    opened = engine.open()
    yield opened
    opened.close()


def crypt(file: EngineFile, vector: Vector, op: int, src: bytes) -> bytes:
    session = file.session(CIPHERS[vector.cipher], vector.key)
    buffer = memoryview(bytearray(src + b"\xee" * (len(src) + 2 * SLACK)))
    dst = buffer[len(src) : 2 * len(src) + SLACK]
    session.crypt(op, vector.iv, buffer[: len(src)], dst)
    session.close()
    assert bytes(buffer[: len(src)]) == src
    assert bytes(buffer[2 * len(src) + SLACK :]) == b"\xee" * SLACK
    return bytes(dst[: len(src)])


def test_has_every_cipher(engine: Engine) -> None:
    assert engine.algorithms == frozenset(CIPHERS)


@each_vector
def test_published_answers(engine: Engine, file: EngineFile, vector: Vector) -> None:
    expected = vector.plaintext if engine.name == "null" else vector.ciphertext
    assert crypt(file, vector, 0, vector.plaintext) == expected
    assert crypt(file, vector, 1, expected) == vector.plaintext


@each_vector
def test_nothing_gives_nothing(file: EngineFile, vector: Vector) -> None:
    assert crypt(file, vector, 0, b"") == b""


def test_sessions_are_apart(file: EngineFile) -> None:
    first, second = (file.session(CIPHERS[11], bytes([n]) * 16) for n in (1, 2))
    src = memoryview(bytearray(16))
    one, two = memoryview(bytearray(64)), memoryview(bytearray(64))
    first.crypt(0, bytes(16), src, one)
    second.crypt(0, bytes(16), src, two)
    second.close()
    again = memoryview(bytearray(64))
    first.crypt(0, bytes(16), src, again)
    assert bytes(one) == bytes(again)


def test_openssl_says_no_to_what_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OpensslEngine()
    monkeypatch.setattr(engine, "algorithms", frozenset({11}))
    with pytest.raises(OSError, match="cbc") as caught:
        engine.session(CIPHERS[2], bytes(24))
    assert caught.value.errno == errno.EINVAL


def test_auto_without_a_host_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cryptodev, "DEVICE", "/dev/no-such-crypto")
    engine, reason = choose("auto")
    assert (engine.name, reason) == ("openssl", "no /dev/no-such-crypto")
    with pytest.raises(Failure, match="--engine openssl"):
        choose("cryptodev")


@pytest.mark.node
def test_auto_with_a_host_device(openssl_device: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cryptodev, "DEVICE", str(openssl_device.path))
    assert choose("auto")[0].name == "cryptodev"
