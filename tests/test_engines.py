"""The contract of an engine, held by each; published answers for those that compute."""

import errno
import hashlib
import hmac
from collections.abc import Iterator

import pytest

from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.errors import Failure
from cuse_crypto_backend.engines import Engine, EngineFile, choose, cryptodev, xts
from cuse_crypto_backend.engines.af_alg import AfAlgEngine
from cuse_crypto_backend.engines.cryptodev import CryptodevEngine
from cuse_crypto_backend.engines.engine import (
    SLACK,
    Algorithms,
    AuthKind,
    AuthRequest,
    EngineSession,
    Hashing,
    Keys,
)
from cuse_crypto_backend.engines.null import NullEngine
from cuse_crypto_backend.engines.openssl import OpensslEngine
from tests.conftest import Service
from tests.vectors import VECTORS, Vector

KEY = bytes(range(16))
COMPUTING = ["openssl", "af_alg", pytest.param("cryptodev", marks=pytest.mark.node)]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


@pytest.fixture(params=["null", *COMPUTING])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """``cryptodev`` runs on another instance of this project, as if it were the host's device."""
    if request.param == "cryptodev":
        device: Service = request.getfixturevalue("openssl_device")
        monkeypatch.setattr(cryptodev, "DEVICE", str(device.path))
        return CryptodevEngine()
    if request.param == "af_alg":
        try:
            return AfAlgEngine()
        except Failure as failure:
            pytest.skip(str(failure))
    return NullEngine() if request.param == "null" else OpensslEngine()


@pytest.fixture
def file(engine: Engine) -> Iterator[EngineFile]:
    opened = engine.open()
    yield opened
    opened.close()


def cipher_session(file: EngineFile, cipher: int, key: bytes) -> EngineSession:
    return file.session(Algorithms(CIPHERS[cipher], None), Keys(key, b""))


def crypt(file: EngineFile, vector: Vector, op: int, src: bytes) -> bytes:
    session = cipher_session(file, vector.cipher, vector.key)
    buffer = memoryview(bytearray(src + b"\xee" * (len(src) + 2 * SLACK)))
    dst = buffer[len(src) : 2 * len(src) + SLACK]
    assert session.crypt(op, vector.iv, buffer[: len(src)], dst, 0) == b""
    session.close()
    assert bytes(buffer[: len(src)]) == src
    assert bytes(buffer[2 * len(src) + SLACK :]) == b"\xee" * SLACK
    return bytes(dst[: len(src)])


def test_has_every_algorithm(engine: Engine) -> None:
    assert engine.algorithms == frozenset(CIPHERS) | frozenset(MACS)


@each_vector
def test_published_answers(engine: Engine, file: EngineFile, vector: Vector) -> None:
    expected = vector.plaintext if engine.name == "null" else vector.ciphertext
    assert crypt(file, vector, 0, vector.plaintext) == expected
    assert crypt(file, vector, 1, expected) == vector.plaintext


@each_vector
def test_nothing_gives_nothing(file: EngineFile, vector: Vector) -> None:
    assert crypt(file, vector, 0, b"") == b""


def test_sessions_are_apart(file: EngineFile) -> None:
    first, second = (cipher_session(file, 11, bytes([n]) * 16) for n in (1, 2))
    src = memoryview(bytearray(16))
    one, two = memoryview(bytearray(64)), memoryview(bytearray(64))
    first.crypt(0, bytes(16), src, one, 0)
    second.crypt(0, bytes(16), src, two, 0)
    second.close()
    again = memoryview(bytearray(64))
    first.crypt(0, bytes(16), src, again, 0)
    assert bytes(one) == bytes(again)
    first.close()


TEXT = [b"", b"abc", b"The quick brown fox jumps over the lazy dog" * 100]


def hashed(session: EngineSession, data: bytes, hashing: int) -> bytes:
    src = memoryview(bytearray(data))
    return session.crypt(0, b"", src, memoryview(bytearray(SLACK)), hashing)


def expected_digest(engine: Engine, number: int, key: bytes, data: bytes) -> bytes:
    mac = MACS[number]
    if engine.name == "null":
        return bytes(mac.digest_size)
    name = mac.hash.replace("rmd", "ripemd")
    if mac.is_keyed:
        return hmac.new(key, data, name).digest()
    return hashlib.new(name, data).digest()


@pytest.mark.parametrize("number", MACS)
@pytest.mark.parametrize("key", [b"", b"key", b"k" * 200], ids=len)
def test_hashes(engine: Engine, file: EngineFile, number: int, key: bytes) -> None:
    mac = MACS[number]
    key = key if mac.is_keyed else b""
    whole = Hashing.START | Hashing.FINISH
    session = file.session(Algorithms(None, mac), Keys(b"", key))
    other = file.session(Algorithms(None, mac), Keys(b"", key))
    for text in TEXT:
        expected = expected_digest(engine, number, key, text)
        assert hashed(session, text, whole) == expected
        assert hashed(session, text[:3], Hashing.START) == b""
        assert hashed(session, b"", 0) == b""
        other.copy_hash(session)
        assert hashed(session, text[3:], Hashing.FINISH) == expected
        assert hashed(other, text[3:], Hashing.FINISH) == expected
    for one in (session, other):
        one.close()


def test_cipher_and_mac_in_one(engine: Engine, file: EngineFile) -> None:
    key, iv, text = bytes(range(16)), bytes(16), b"sixteen bytes..." * 5
    session = file.session(Algorithms(CIPHERS[11], MACS[7]), Keys(key, b"mac key"))
    digest = expected_digest(engine, 7, b"mac key", text)
    whole = Hashing.START | Hashing.FINISH
    src, secret = memoryview(bytearray(text)), memoryview(bytearray(len(text) + SLACK))
    assert session.crypt(0, iv, src, secret, whole) == digest
    plain = memoryview(bytearray(len(text) + SLACK))
    assert session.crypt(1, iv, secret[: len(text)], plain, whole) == digest
    assert bytes(plain[: len(text)]) == text
    session.close()


@pytest.mark.parametrize("size", [1, 5, 15, 16, 17, 32, 100])
def test_ofb_hashes_what_it_is_given_and_tells_where_it_goes_on(
    engine: Engine, file: EngineFile, size: int
) -> None:
    session = file.session(Algorithms(CIPHERS[25], MACS[14]), Keys(bytes(range(16)), b""))
    alone = cipher_session(file, 25, bytes(range(16)))
    assert session.next_iv == b"" or engine.name == "null"
    stream = memoryview(bytearray(128 + SLACK))
    alone.crypt(0, bytes(16), memoryview(bytearray(128)), stream, 0)
    last = bytes(stream[(size - 1) // 16 * 16 :][:16])
    text, whole = bytes(range(7, 7 + size)), Hashing.START | Hashing.FINISH
    for op in (0, 1):
        dst = memoryview(bytearray(size + SLACK))
        digest = session.crypt(op, bytes(16), memoryview(bytearray(text)), dst, whole)
        plain = bytes(dst[:size]) if op else text
        assert digest == expected_digest(engine, 14, b"", plain)
        assert session.next_iv == last
    nothing = memoryview(bytearray(0))
    request = AuthRequest(
        AuthKind.TLS, 0, 0, bytes(16), nothing, memoryview(bytearray(text)), 0, b""
    )
    alone.auth(request, memoryview(bytearray(size + SLACK + 400)))
    assert alone.next_iv == last
    for one in (session, alone):
        one.close()


def test_a_driver_that_opens_a_record_whose_padding_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cryptodev-linux says 0 where there is no mac, and leaves the length."""
    monkeypatch.setattr(cryptodev, "_ioctl", lambda fd, name, op: op)
    record, nothing = memoryview(bytearray(32)), memoryview(bytearray(0))
    request = AuthRequest(AuthKind.TLS, 1, 0, bytes(16), nothing, record, 0, b"")
    dst = memoryview(bytearray(32 + SLACK))
    bare, whole = (
        cryptodev.CryptodevSession(-1, Algorithms(CIPHERS[11], mac), Keys(KEY, b""))
        for mac in (None, MACS[14])
    )
    with pytest.raises(OSError) as caught:
        bare.auth(request, dst)
    assert caught.value.errno == errno.EBADMSG
    assert whole.auth(request, dst) == (32, b"")


@pytest.mark.parametrize("op", [0, 1])
def test_srtp_gives_back_a_tag_that_it_makes_and_none_that_it_verifies(
    engine: Engine, file: EngineFile, op: int
) -> None:
    session = file.session(Algorithms(CIPHERS[21], MACS[14]), Keys(KEY, b""))
    packet = memoryview(bytearray(40))
    tag = hashlib.sha1(packet).digest() if op else b""
    request = AuthRequest(AuthKind.SRTP, op, 20, bytes(16), packet, packet[8:], 8, tag)
    length, made = session.auth(request, memoryview(bytearray(400)))
    assert (length, len(made)) == (32, 0 if op else 20)
    session.close()


@pytest.mark.parametrize("number", [50, 51])
@pytest.mark.parametrize("tag_size", [4, 8, 12, 16])
def test_aead(engine: Engine, file: EngineFile, number: int, tag_size: int) -> None:
    cipher = CIPHERS[number]
    session = cipher_session(file, number, bytes(range(16)))
    iv = bytes([3]) + bytes(cipher.iv_size - 1)
    text, aad = memoryview(bytearray(b"some text")), memoryview(bytearray(b"with it"))
    dst = memoryview(bytearray(64 + SLACK))

    def run(op: int, src: memoryview) -> bytes:
        request = AuthRequest(AuthKind.AEAD, op, tag_size, iv, aad, src, 0, b"")
        length, tag = session.auth(request, dst)
        assert tag == b""
        return bytes(dst[:length])

    sealed = run(0, text)
    assert len(sealed) == len(text) + tag_size
    assert run(1, memoryview(bytearray(sealed))) == bytes(text)
    if engine.name != "null":
        for position in range(len(sealed)):
            changed = memoryview(bytearray(sealed))
            changed[position] ^= 1
            with pytest.raises(OSError) as caught:
                run(1, changed)
            assert caught.value.errno == errno.EBADMSG
    session.close()


def test_names(engine: Engine, file: EngineFile) -> None:
    both = file.session(Algorithms(CIPHERS[11], MACS[14]), Keys(bytes(16), b""))
    cipher = cipher_session(file, 11, bytes(16))
    mac = file.session(Algorithms(None, MACS[14]), Keys(b"", b""))
    assert all(both.names())
    assert (bool(cipher.names()[0]), cipher.names()[1]) == (True, "")
    assert (mac.names()[0], bool(mac.names()[1])) == ("", True)
    for session in (both, cipher, mac):
        session.close()


@pytest.mark.parametrize("key", [bytes(range(32)), bytes(range(48)), bytes(range(64)), bytes(32)])
def test_long_xts_units_go_on(key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in parts is as if done at once, whichever way is taken."""
    src = memoryview(bytes(range(256)) * 4)
    iv = bytes(range(16))
    whole, parts = memoryview(bytearray(1100)), memoryview(bytearray(1100))
    xts.crypt(key, 0, iv, src, whole)
    monkeypatch.setattr(xts, "UNIT", 3)
    monkeypatch.setattr(xts, "_PART", 5)
    xts.crypt(key, 0, iv, src, parts)
    assert whole[:1024] == parts[:1024]
    back = memoryview(bytearray(1100))
    xts.crypt(key, 1, iv, parts[:1024], back)
    assert back[:1024] == src


def test_xts_by_hand_is_xts(monkeypatch: pytest.MonkeyPatch) -> None:
    key, iv, src = bytes(range(64)), bytes(range(16)), memoryview(bytes(range(160)))
    natively, by_hand = bytearray(200), bytearray(200)
    xts.crypt(key, 0, iv, src, memoryview(natively))
    context = xts._ecb(key[32:], 0, iv)
    xts._by_hand(key[:32], 0, int.from_bytes(context, "little"), src, memoryview(by_hand))
    assert natively[:160] == by_hand[:160]


def test_openssl_says_no_to_what_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OpensslEngine()
    monkeypatch.setattr(engine, "algorithms", frozenset({11}))
    with pytest.raises(OSError, match="cbc") as caught:
        cipher_session(engine, 2, bytes(24))
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
