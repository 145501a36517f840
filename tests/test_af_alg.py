"""The engine that computes in the kernel, compared with OpenSSL and hashlib.

Skipped on a kernel without AF_ALG; the virtual machine has one.
"""

import errno
import gc
import hashlib
import hmac
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.errors import Failure
from cuse_crypto_backend.engines import probing
from cuse_crypto_backend.engines.af_alg import AfAlgEngine
from cuse_crypto_backend.engines.engine import (
    SLACK,
    Algorithms,
    AuthKind,
    AuthRequest,
    Engine,
    EngineSession,
    Hashing,
    Keys,
)
from cuse_crypto_backend.engines.openssl import OpensslEngine

AEADS = [row for row in CIPHERS.values() if row.is_aead]
PLAIN_CIPHERS = [row for row in CIPHERS.values() if not row.is_aead]
WHOLE = Hashing.START | Hashing.FINISH
# More than one part of a socket's buffer, and an end within a part.
LARGE = 300_000 // 16 * 16


@pytest.fixture(scope="module")
def openssl() -> Engine:
    return OpensslEngine()


@pytest.fixture(scope="module")
def kernel() -> Engine:
    try:
        return AfAlgEngine()
    except Failure as failure:
        pytest.skip(str(failure))


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def session(
    engine: Engine,
    cipher: Cipher | None,
    mac: Mac | None = None,
    mac_key: bytes = b"mac key",
    key_size: int = 0,
) -> EngineSession:
    """With the longest key if no other is asked for; skips what the engine has not."""
    for row in (cipher, mac):
        if row and row.id not in engine.algorithms:
            pytest.skip(f"{engine.name} has no {row.kernel_name}")
    key = bytes(range(1, 1 + (key_size or max(cipher.key_sizes)))) if cipher else b""
    keys = Keys(key, mac_key if mac and mac.is_keyed else b"")
    return engine.open().session(Algorithms(cipher, mac), keys)


def some_iv(cipher: Cipher) -> bytes:
    """Of which the first byte is right for CCM, and a counter at the end soon wraps."""
    return (b"\3" + b"\xff" * 15)[: cipher.iv_size]


def crypt(one: EngineSession, op: int, iv: bytes, src: bytes, shift: int = 0) -> bytes:
    """``shift`` moves the buffers off the start of their pages; what lies around dst is kept."""
    whole = bytearray(b"\xee" * (shift + len(src) + SLACK))
    given = memoryview(bytearray(shift) + src)[shift:]
    assert one.crypt(op, iv, given, memoryview(whole)[shift:], 0) == b""
    assert whole[:shift] == b"\xee" * shift
    assert given == src
    return bytes(whole[shift : shift + len(src)])


@pytest.mark.parametrize("cipher", PLAIN_CIPHERS, ids=lambda row: row.name)
@pytest.mark.parametrize(("size", "shift"), [(0, 0), (48, 0), (4096, 5), (LARGE, 5)])
def test_cipher(kernel: Engine, openssl: Engine, cipher: Cipher, size: int, shift: int) -> None:
    if cipher.block_size == 1 and size:
        size += 7
    iv, text = some_iv(cipher), os.urandom(size)
    ours, theirs = session(kernel, cipher), session(openssl, cipher)
    secret = crypt(ours, 0, iv, text, shift)
    assert secret == crypt(theirs, 0, iv, text)
    assert crypt(ours, 1, iv, secret, shift) == text
    ours.close()
    theirs.close()


@pytest.mark.parametrize("cipher", PLAIN_CIPHERS, ids=lambda row: row.name)
def test_cipher_with_each_size_of_key(kernel: Engine, openssl: Engine, cipher: Cipher) -> None:
    iv, text = some_iv(cipher), os.urandom(64)
    for size in cipher.key_sizes:
        ours, theirs = (session(one, cipher, key_size=size) for one in (kernel, openssl))
        assert crypt(ours, 0, iv, text) == crypt(theirs, 0, iv, text)
        ours.close()
        theirs.close()


def test_wrong_length_harms_nothing(kernel: Engine, openssl: Engine) -> None:
    cbc = CIPHERS[11]
    ours, theirs = session(kernel, cbc), session(openssl, cbc)
    with pytest.raises(OSError) as caught:
        crypt(ours, 0, bytes(16), bytes(17))
    assert caught.value.errno == errno.EINVAL
    assert crypt(ours, 0, bytes(16), bytes(32)) == crypt(theirs, 0, bytes(16), bytes(32))
    ours.close()
    theirs.close()


def hashed(one: EngineSession, data: bytes, hashing: int) -> bytes:
    return one.crypt(0, b"", memoryview(data), memoryview(b""), hashing)


def digest(mac: Mac, key: bytes, data: bytes) -> bytes:
    name = mac.hash.replace("rmd", "ripemd")
    if mac.is_keyed:
        return hmac.digest(key, data, name)
    return hashlib.new(name, data).digest()


@pytest.mark.parametrize("mac", MACS.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("size", [0, 3, 1000, LARGE])
def test_hash(kernel: Engine, mac: Mac, size: int) -> None:
    text = os.urandom(size)
    for key_size in (0, 20, 64, 65, 128, 129, 512) if mac.is_keyed and size < LARGE else (20,):
        key = os.urandom(key_size)
        one, expected = session(kernel, None, mac, key), digest(mac, key, text)
        assert hashed(one, b"something else", 0) == b""
        assert hashed(one, text, WHOLE) == expected
        for part in (text[: size // 2], text[size // 2 :], b""):
            hashed(one, part, 0)
        assert hashed(one, b"", Hashing.FINISH) == expected
        assert hashed(one, b"", Hashing.FINISH) == digest(mac, key, b"")
        one.close()


@pytest.mark.parametrize("mac", MACS.values(), ids=lambda row: row.name)
def test_copied_hash_goes_on_by_itself(kernel: Engine, mac: Mac) -> None:
    source, target = (session(kernel, None, mac) for _ in range(2))
    hashed(source, b"abc", Hashing.START)
    hashed(target, b"forgotten", Hashing.START)
    target.copy_hash(source)
    assert hashed(source, b"d", Hashing.FINISH) == digest(mac, b"mac key", b"abcd")
    source.close()
    assert hashed(target, b"e", Hashing.FINISH) == digest(mac, b"mac key", b"abce")
    target.close()


def test_copied_hash_between_keys_and_kinds(kernel: Engine) -> None:
    """The inner hash is the source's, the outer one the target's."""
    hmac_sha1, sha1, sha256 = MACS[7], MACS[14], MACS[104]
    source = session(kernel, None, hmac_sha1, b"A")
    target = session(kernel, None, hmac_sha1, b"B")
    plain, other = session(kernel, None, sha1), session(kernel, None, sha256)
    hashed(source, b"abc", Hashing.START)
    for one in (target, plain, other):
        one.copy_hash(source)
    inner, outer = (
        bytes([key ^ pad]) + bytes([pad]) * 63 for key, pad in zip(b"AB", b"\x36\x5c", strict=True)
    )
    inner_digest = hashlib.sha1(inner + b"abc").digest()
    assert hashed(target, b"", Hashing.FINISH) == hashlib.sha1(outer + inner_digest).digest()
    assert hashed(plain, b"", Hashing.FINISH) == inner_digest
    # Of another size altogether: it starts afresh.
    assert hashed(other, b"x", Hashing.FINISH) == hashlib.sha256(b"x").digest()
    for one in (source, target, plain, other):
        one.close()


def aead(one: EngineSession, op: int, tag_size: int, iv: bytes, aad: bytes, src: bytes) -> bytes:
    buffer = memoryview(bytearray(b"\xee" * (len(src) + 16 + SLACK)))
    request = AuthRequest(AuthKind.AEAD, op, tag_size, iv, memoryview(aad), memoryview(src), 0, b"")
    length, tag = one.auth(request, buffer)
    assert tag == b""
    return bytes(buffer[:length])


def tag_sizes(cipher: Cipher) -> list[int]:
    return [4, 8, 12, 13, 14, 15, 16] if cipher.mode == "gcm" else [4, 6, 8, 10, 12, 14, 16]


@pytest.mark.parametrize("cipher", AEADS, ids=lambda row: row.name)
@pytest.mark.parametrize("aad", [b"", b"associated", b"a" * 4096], ids=len)
@pytest.mark.parametrize("size", [0, 1, 1000, 250_000])
def test_aead(kernel: Engine, openssl: Engine, cipher: Cipher, aad: bytes, size: int) -> None:
    iv, text = some_iv(cipher), os.urandom(size)
    ours, theirs = session(kernel, cipher), session(openssl, cipher)
    for tag_size in tag_sizes(cipher):
        sealed = aead(ours, 0, tag_size, iv, aad, text)
        assert sealed == aead(theirs, 0, tag_size, iv, aad, text)
        assert aead(ours, 1, tag_size, iv, aad, sealed) == text
        for place in {0, size, len(sealed) - 1}:
            forged = bytearray(sealed)
            forged[place] ^= 1
            with pytest.raises(OSError) as caught:
                aead(ours, 1, tag_size, iv, aad, bytes(forged))
            assert caught.value.errno == errno.EBADMSG
    ours.close()
    theirs.close()


@pytest.mark.parametrize("cipher", AEADS, ids=lambda row: row.name)
def test_aead_that_cannot_be(kernel: Engine, cipher: Cipher) -> None:
    one, iv = session(kernel, cipher), some_iv(cipher)
    rows = [
        (errno.EINVAL, 1, 16, iv, bytes(15)),
        (errno.EINVAL, 0, 5, iv, b"text"),
        (errno.EINVAL, 0, 17, iv, b"text"),
        (errno.ENOMEM, 0, 16, iv, bytes(64 << 20)),
        (errno.EBADMSG, 1, 16, iv, bytes(16)),
    ]
    if cipher.mode == "ccm":
        rows += [(errno.EINVAL, 0, 16, bytes([size]) + bytes(15), b"text") for size in (0, 8)]
    for number, op, tag_size, nonce, src in rows:
        with pytest.raises(OSError) as caught:
            aead(one, op, tag_size, nonce, b"", src)
        assert caught.value.errno == number
    with pytest.raises(OSError, match="CIOCAUTHCRYPT"):
        crypt(one, 0, iv, b"text")
    sealed = aead(one, 0, 16, iv, b"aad", b"text")
    assert aead(one, 1, 16, iv, b"aad", sealed) == b"text"
    one.close()


def test_composites(kernel: Engine, openssl: Engine) -> None:
    packet = memoryview(os.urandom(1000))
    tls = AuthRequest(AuthKind.TLS, 0, 20, bytes(16), packet[:13], packet, 0, b"")
    srtp = AuthRequest(AuthKind.SRTP, 0, 10, bytes(16), packet, packet[12:], 12, b"")
    for request, cipher in (tls, CIPHERS[11]), (srtp, CIPHERS[21]):
        results = []
        for engine in (kernel, openssl):
            one, dst = session(engine, cipher, MACS[7]), memoryview(bytearray(1100))
            length, tag = one.auth(request, dst)
            results.append((bytes(dst[:length]), tag))
            one.close()
        assert results[0] == results[1]


def test_names_are_the_drivers(kernel: Engine) -> None:
    one = session(kernel, CIPHERS[11], MACS[7])
    cipher, mac = one.names()
    one.close()
    drivers = Path("/proc/crypto").read_text()
    assert f": {cipher}\n" in drivers
    assert f": {mac.removeprefix('hmac(').rstrip(')')}\n" in drivers
    assert mac.startswith("hmac(sha1")


def test_what_it_has_not(kernel: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "algorithms", frozenset({11}))
    with pytest.raises(OSError, match="des3_ede") as caught:
        kernel.open().session(Algorithms(CIPHERS[2], None), Keys(bytes(24), b""))
    assert caught.value.errno == errno.EINVAL


def test_has_every_algorithm_of_debian(kernel: Engine) -> None:
    if not os.uname().release.endswith("-amd64"):
        pytest.skip("another kernel has what it has")
    assert kernel.algorithms == frozenset(CIPHERS) | frozenset(MACS)


def no_sockets(*arguments: int) -> socket.socket:
    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def test_kernel_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", no_sockets)
    with pytest.raises(Failure, match=r"not supported.*modprobe.*--engine openssl"):
        AfAlgEngine()


def test_kernel_without_any_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", lambda *arguments: io.BytesIO())
    monkeypatch.setattr(probing, "algorithms", lambda *arguments: frozenset())
    with pytest.raises(Failure, match=r"no algorithm.*modprobe"):
        AfAlgEngine()
