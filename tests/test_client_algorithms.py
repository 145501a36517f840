"""What the binding computes, for every row of the tables, as other libraries compute it."""

import array
import hashlib
import hmac
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import Blowfish, Camellia, TripleDES
from cryptography.hazmat.decrepit.ciphers.modes import CFB, OFB
from cryptography.hazmat.primitives.ciphers import Cipher as Reference
from cryptography.hazmat.primitives.ciphers import aead, algorithms, modes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.client import CryptoDevice, Hash, InvalidTag
from cuse_crypto.client.algorithms import human_name
from tests.conftest import Service

pytestmark = pytest.mark.node

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

PLAIN = [row for row in CIPHERS.values() if not row.is_aead]
AEADS = [row for row in CIPHERS.values() if row.is_aead]
KEY, IV = bytes(range(16)), bytes(range(100, 116))

ALGORITHMS: dict[str, Callable[[bytes], Any]] = {
    "aes": algorithms.AES,
    "des": lambda key: TripleDES(key * 3),
    "3des": TripleDES,
    "blowfish": Blowfish,
    "camellia": Camellia,
}
MODES: dict[str, Callable[[bytes], Any]] = {
    "cbc": modes.CBC,
    "ctr": modes.CTR,
    "xts": modes.XTS,
    "ecb": lambda iv: modes.ECB(),
    "cfb": CFB,
    "ofb": OFB,
}


def reference(name: str, key: bytes, iv: bytes, data: bytes) -> bytes:
    """The ciphertext as the cryptography package computes it."""
    if name == "null" or not data:
        return data
    base, mode = name.split("-")
    context = Reference(ALGORITHMS[base](key), MODES[mode](iv)).encryptor()
    return context.update(data) + context.finalize()


def key_of(row: Cipher, which: int = 0) -> bytes:
    """A key of one of the sizes that the row allows; the halves of XTS keys differ."""
    return bytes(range(row.key_sizes[which % len(row.key_sizes)]))


@pytest.fixture(scope="module")
def device(openssl_device: Service) -> Iterator[CryptoDevice]:
    with CryptoDevice(openssl_device.path) as one:
        yield one


def test_buffers_of_all_kinds(device: CryptoDevice) -> None:
    data = bytes(range(32))
    expected = reference("aes-cbc", KEY, IV, data)
    area = mmap.mmap(-1, 64)
    area[:32] = data
    kinds: list[Any] = [bytearray(data), memoryview(b"x" + data)[1:], array.array("Q", data), area]
    with device.cipher("aes-cbc", memoryview(KEY)) as session, area:
        for kind in kinds:
            assert session.encrypt(kind, bytearray(IV))[:32] == expected
        outs: list[Any] = [
            bytearray(40),
            memoryview(bytearray(40))[4:],
            array.array("Q", bytes(32)),
        ]
        for out in outs:
            assert session.encrypt_into(data, out, IV) == 32
            assert bytes(out)[:32] == expected
        assert session.encrypt_into(area, area, IV) == 64
        assert area[:32] == expected


@pytest.mark.parametrize("row", PLAIN, ids=human_name)
def test_every_cipher(device: CryptoDevice, row: Cipher) -> None:
    name, iv = human_name(row), bytes(range(1, row.iv_size + 1))
    # The reference has no XTS with AES-192.
    sizes = [size for size in row.key_sizes if (row.mode, size) != ("xts", 48)]
    for key in (bytes(range(size)) for size in sizes[:: 1 + len(sizes) // 4]):
        with device.cipher(name, key) as session:
            for size in (0, row.block_size, 5 * row.block_size, 4096, 100_000 * row.block_size):
                data = os.urandom(size)
                secret = session.encrypt(data, iv=iv)
                assert secret == reference(name, key, iv, data)
                assert session.decrypt(secret, iv=iv) == data
            assert session.info().cipher == row.kernel_name


@few
@given(data=st.data())
@pytest.mark.parametrize("row", [r for r in PLAIN if r.mode in ("cbc", "ctr")], ids=human_name)
def test_chains(device: CryptoDevice, row: Cipher, data: st.DataObject) -> None:
    """Pieces with the device's chain, and with the chain that it told, are the whole."""
    blocks = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    key = key_of(row, data.draw(st.integers(0, 9)))
    iv = data.draw(st.binary(min_size=row.iv_size, max_size=row.iv_size))
    pieces = [data.draw(st.binary(min_size=16 * n, max_size=16 * n)) for n in blocks]
    expected = reference(human_name(row), key, iv, b"".join(pieces))
    with device.cipher(human_name(row), key) as session:
        hidden = [session.encrypt(pieces[0], iv=iv)] + [session.encrypt(p) for p in pieces[1:]]
        assert b"".join(hidden) == expected
        assert session.next_iv is None or len(pieces) == 1
        session.next_iv = iv
        seen = [session.encrypt(piece, iv=session.next_iv) for piece in pieces]
        assert b"".join(seen) == expected


def test_a_fresh_session_begins_with_zeros(device: CryptoDevice) -> None:
    with device.cipher("aes-ctr", KEY) as session:
        assert session.encrypt(b"hello") == reference("aes-ctr", KEY, bytes(16), b"hello")


@pytest.mark.parametrize("mac", ["hmac-sha1", "sha256"])
def test_cipher_and_mac(device: CryptoDevice, mac: str) -> None:
    mac_key = b"secret" if "hmac" in mac else b""
    with device.cipher("aes-cbc", KEY, mac=mac, mac_key=mac_key) as session:
        for data in (b"x" * 48, b"y" * 16, b""):
            digest = device.hmac("sha1", mac_key, data) if mac_key else device.hash(mac, data)
            secret = session.encrypt(data, iv=IV)
            assert secret == reference("aes-cbc", KEY, IV, data)
            assert session.digest == digest.digest()
            session.digest = b""
            assert session.decrypt(secret, iv=IV) == data
            assert session.digest == digest.digest()
        assert session.name == f"aes-cbc+{mac}"


def hashed(device: CryptoDevice, row: Mac, data: bytes, key: bytes) -> tuple[Hash, Any]:
    """The device's object, and that of the standard library."""
    name = human_name(row).removeprefix("hmac-")
    if row.is_keyed:
        return device.hmac(name, key, data), hmac.new(key, data, name)
    return device.hash(name, data), hashlib.new(name, data)


@pytest.mark.parametrize("row", MACS.values(), ids=human_name)
def test_every_hash(device: CryptoDevice, row: Mac) -> None:
    for key_size in (0, 20, 200, 512, 513, 1000) if row.is_keyed else (0,):
        ours, theirs = hashed(device, row, b"abc", os.urandom(key_size))
        assert (ours.name, ours.digest_size) == (theirs.name, theirs.digest_size)
        assert ours.block_size == theirs.block_size
        assert ours.hexdigest() == theirs.hexdigest()
        assert ours.info().hash == row.kernel_name


@few
@given(
    row=st.sampled_from(list(MACS.values())),
    key=st.binary(max_size=600),
    steps=st.lists(st.one_of(st.binary(max_size=300), st.sampled_from(["copy", "digest"]))),
)
def test_hash_as_hashlib(
    device: CryptoDevice, row: Mac, key: bytes, steps: list[bytes | str]
) -> None:
    ours, theirs = hashed(device, row, b"", key)
    pairs = [(ours, theirs)]
    for step in steps:
        ours, theirs = pairs[-1]
        if isinstance(step, bytes):
            ours.update(step)
            theirs.update(step)
        elif step == "copy":
            pairs.append((ours.copy(), theirs.copy()))
        else:
            assert ours.digest() == theirs.digest()
    assert [ours.digest() for ours, _ in pairs] == [theirs.digest() for _, theirs in pairs]


def test_signals_do_not_disturb(device: CryptoDevice) -> None:
    """Python's own signal handlers run, and nothing is done twice or left out."""
    data = os.urandom(8 << 20)
    came: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: came.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        with device.cipher("aes-ctr", KEY) as session:
            digest, secret = device.hash("sha256", data * 4), session.encrypt(data, iv=IV)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came
    assert digest.digest() == hashlib.sha256(data * 4).digest()
    assert secret == reference("aes-ctr", KEY, IV, data)


def sealed(row: Cipher, key: bytes, tag: int, nonce: bytes, data: bytes, aad: bytes) -> bytes:
    if row.mode == "ccm":
        return aead.AESCCM(key, tag).encrypt(nonce, data, aad)
    return aead.AESGCM(key).encrypt(nonce, data, aad)[: len(data) + tag]


@few
@given(data=st.data(), plain=st.binary(max_size=300), aad=st.binary(max_size=100))
@pytest.mark.parametrize("row", AEADS, ids=human_name)
def test_aead(
    device: CryptoDevice, row: Cipher, data: st.DataObject, plain: bytes, aad: bytes
) -> None:
    key, tag = key_of(row, data.draw(st.integers(0, 2))), data.draw(st.sampled_from(row.tag_sizes))
    sizes = {"gcm": 12, "ccm": data.draw(st.integers(7, 13))}
    nonce = os.urandom(sizes[row.mode])
    with device.aead(human_name(row), key, tag) as session:
        secret = session.seal(nonce, plain, aad)
        assert secret == sealed(row, key, tag, nonce, plain, aad)
        assert session.open(nonce, secret, aad) == plain
        place = bytearray(secret)
        assert session.open_into(nonce, place, place, aad) == len(plain)
        assert place[: len(plain)] == plain
        assert session.seal_into(nonce, memoryview(place)[: len(plain)], place, aad) == len(secret)
        assert place == secret
        where = data.draw(st.integers(0, len(secret) - 1))
        place[where] ^= 1
        with pytest.raises(InvalidTag):
            session.open(nonce, place, aad)
        with pytest.raises(InvalidTag):
            session.open(nonce, secret, aad + b"x")
        with pytest.raises(InvalidTag):
            session.open_into(nonce, place, place, aad)
        assert not any(place)
        with pytest.raises(InvalidTag):
            session.open(nonce, secret[: tag - 1], aad)


def test_aead_limits(device: CryptoDevice) -> None:
    with device.aead("aes-gcm", KEY) as gcm, device.aead("aes-ccm", KEY) as ccm:
        assert gcm.open(IV[:12], gcm.seal(IV[:12], b"", bytes(4096)), bytes(4096)) == b""
        assert len(ccm.seal(IV[:13], bytes(65535))) == 65535 + 16
        for call in (
            lambda: gcm.seal(IV[:12], b"", bytes(4097)),
            lambda: gcm.seal(IV[:11], b""),
            lambda: ccm.seal(IV[:6], b""),
            lambda: ccm.seal(IV[:14], b""),
            lambda: ccm.seal(IV[:13], bytes(65536)),
            lambda: gcm.seal_into(IV[:12], b"abc", bytearray(18)),
            lambda: device.aead("aes-gcm", KEY, 5),
        ):
            with pytest.raises(ValueError, match=r"bytes"):
                call()
