"""Cipher and mac put together (TLS, SRTP): the driver's lengths, and nothing forged gets through.

The rows are cryptodev-linux's answers as recorded from the real driver.
"""

import errno
import hashlib
import hmac
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher as OpensslCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from cuse_crypto.abi.algorithms import CIPHERS, Cipher
from cuse_crypto_backend.engines import auth
from cuse_crypto_backend.engines.engine import SLACK, AuthKind, AuthRequest

CBC, CTR, NULL = CIPHERS[11], CIPHERS[21], CIPHERS[16]
KEY, IV, HEADER = b"k" * 16, bytes(range(16)), b"thirteen bytes"[:13]
SHA1 = 20


class Session(NamedTuple):
    """A cipher by its row, and perhaps a mac; counts what it is asked for."""

    row: Cipher
    mac_key: bytes | None
    ran: list[int]

    def run(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        assert len(src)
        self.ran.append(op)
        if self.row is NULL:
            dst[: len(src)] = src
            return
        mode = modes.CBC(iv) if self.row is CBC else modes.CTR(iv)
        cipher = OpensslCipher(algorithms.AES(KEY), mode)
        context = cipher.decryptor() if op else cipher.encryptor()
        context.update_into(src, dst)

    def digest(self, *parts: bytes) -> bytes:
        assert self.mac_key is not None
        return hmac.digest(self.mac_key, b"".join(parts), "sha1")

    def __call__(self, request: AuthRequest) -> tuple[bytes, bytes]:
        buffer = bytearray(b"\xee" * (len(request.src) + 64 + 16 + SLACK))
        digest = None if self.mac_key is None else self.digest
        length, tag = auth.crypt(request, memoryview(buffer), self.row, self.run, digest)
        return bytes(buffer[:length]), tag


def with_mac(row: Cipher) -> Session:
    return Session(row, b"mac key", [])


def without_mac(row: Cipher) -> Session:
    return Session(row, None, [])


def tls(op: int, src: bytes, tag_size: int = SHA1, header: bytes = HEADER) -> AuthRequest:
    views = memoryview(header), memoryview(src)
    return AuthRequest(AuthKind.TLS, op, tag_size, IV, *views, 0, b"")


def srtp(op: int, packet: bytes, start: int, end: int, tag_size: int, tag: bytes) -> AuthRequest:
    """``packet[start:end]`` is the payload."""
    views = memoryview(packet), memoryview(packet)[start:end]
    return AuthRequest(AuthKind.SRTP, op, tag_size, IV, *views, start, tag)


def refused(number: int, session: Session, request: AuthRequest) -> None:
    with pytest.raises(OSError) as caught:
        session(request)
    assert caught.value.errno == number


def cbc(plain: bytes) -> bytes:
    return OpensslCipher(algorithms.AES(KEY), modes.CBC(IV)).encryptor().update(plain)


# fmt: off
RECORDS = [  # of AES-CBC with HMAC-SHA1: bytes in, bytes out, value of the padding's bytes
    (0, 32, 11), (1, 32, 10), (11, 32, 0), (12, 48, 15), (27, 48, 0),
    (28, 64, 15), (64, 96, 11), (100, 128, 7), (1000, 1024, 3),
]
# fmt: on


@pytest.mark.parametrize(("size", "length", "pad"), RECORDS)
def test_tls_record(size: int, length: int, pad: int) -> None:
    plain = bytes(n % 251 for n in range(size))
    record, tag = with_mac(CBC)(tls(0, plain))
    mac = hmac.digest(b"mac key", HEADER + plain, "sha1")
    assert record == cbc(plain + mac + bytes([pad]) * (pad + 1))
    assert (len(record), tag) == (length, b"")
    assert with_mac(CBC)(tls(1, record)) == (plain, b"")


# fmt: off
OTHER_PARTS = [  # parts, bytes of the tag, bytes that 100 become
    (with_mac(CBC), 10, 112), (without_mac(CBC), 0, 112), (without_mac(CBC), 20, 112),
    (with_mac(CTR), 20, 120), (without_mac(CTR), 0, 100), (with_mac(NULL), 20, 120),
]
# fmt: on


@pytest.mark.parametrize(("session", "tag_size", "length"), OTHER_PARTS)
def test_tls_with_other_parts(session: Session, tag_size: int, length: int) -> None:
    plain = bytes(range(100))
    record, _ = session(tls(0, plain, tag_size))
    assert len(record) == length
    assert session(tls(1, record, tag_size)) == (plain, b"")


def test_tls_of_nothing() -> None:
    for session in (with_mac(CBC), without_mac(CBC), with_mac(CTR)):
        record, _ = session(tls(0, b"", header=b""))
        assert session(tls(1, record, header=b"")) == (b"", b"")
    assert without_mac(CTR)(tls(0, b"", header=b"")) == (b"", b"")


@pytest.mark.parametrize("size", [0, 1, 15, 17, 31, 33, 1023])
def test_tls_length_that_cannot_be(size: int) -> None:
    session = with_mac(CBC)
    refused(errno.EINVAL, session, tls(1, bytes(size)))
    assert not session.ran


def test_tls_length_that_cannot_be_without_padding() -> None:
    refused(errno.EINVAL, with_mac(CTR), tls(1, bytes(SHA1 - 1)))
    refused(errno.EINVAL, without_mac(CBC), tls(1, b""))
    refused(errno.EINVAL, without_mac(CTR), tls(1, b""))


@pytest.mark.parametrize("size", [0, 27, 28])
@pytest.mark.parametrize("row", [CBC, CTR], ids=lambda row: row.name)
def test_tls_tampered(row: Cipher, size: int) -> None:
    record, _ = with_mac(row)(tls(0, bytes(size)))
    for place in range(len(record)):
        for bit in (0x01, 0x80):
            forged = bytearray(record)
            forged[place] ^= bit
            refused(errno.EBADMSG, with_mac(row), tls(1, bytes(forged)))
    refused(errno.EBADMSG, with_mac(row), tls(1, record, header=HEADER[:-1]))
    refused(errno.EBADMSG, Session(row, b"another", []), tls(1, record))
    refused(errno.EBADMSG, with_mac(row), tls(1, record, tag_size=SHA1 - 4))


@pytest.mark.parametrize("pad", [0, 11, 27, 43, 235, 255])
def test_tls_any_right_padding(pad: int) -> None:
    """A peer may pad by more than it must (RFC 5246, 6.2.3.2)."""
    size = -(SHA1 + pad + 1) % 16
    mac = hmac.digest(b"mac key", HEADER + bytes(size), "sha1")
    record = cbc(bytes(size) + mac + bytes([pad]) * (pad + 1))
    assert with_mac(CBC)(tls(1, record)) == (bytes(size), b"")


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(b"\x0a" + b"\x0b" * 11, id="first byte differs"),
        pytest.param(b"\x0b" * 10 + b"\x0c\x0b", id="last but one differs"),
        pytest.param(b"\x0b" * 11 + b"\x0c", id="reaches into the mac"),
        pytest.param(b"\x1f" * 12, id="reaches over the mac"),
        pytest.param(b"\xff" * 12, id="reaches over the record"),
    ],
)
def test_tls_wrong_padding(end: bytes) -> None:
    mac = hmac.digest(b"mac key", HEADER, "sha1")
    refused(errno.EBADMSG, with_mac(CBC), tls(1, cbc(mac + end)))


def test_tls_wrong_padding_without_mac() -> None:
    refused(errno.EBADMSG, without_mac(CBC), tls(1, cbc(b"\x10" * 16)))


def test_tls_that_has_no_room_for_the_mac() -> None:
    """As the driver: a wrong padding counts as none, and is told after the length."""
    refused(errno.EINVAL, with_mac(CBC), tls(1, cbc(b"\x1f" * 32)))
    refused(errno.EINVAL, with_mac(CBC), tls(1, cbc(b"\x10" * 16)))
    refused(errno.EINVAL, with_mac(CBC), tls(1, cbc(b"\x0f" * 16), tag_size=1))
    refused(errno.EBADMSG, with_mac(CBC), tls(1, cbc(b"\x10" * 16), tag_size=16))
    refused(errno.EBADMSG, with_mac(CBC), tls(1, cbc(b"\x20" * 32)))


def test_tls_hashes_also_after_a_wrong_padding() -> None:
    hashed: list[int] = []

    def digest(*parts: bytes) -> bytes:
        hashed.append(sum(map(len, parts)))
        return hashlib.sha1(b"".join(parts)).digest()

    for end in (b"\x00\x0b", b"\x0b\x0b"):
        record = cbc(bytes(46) + end)
        with pytest.raises(OSError):
            auth.crypt(tls(1, record), memoryview(bytearray(128)), CBC, with_mac(CBC).run, digest)
    assert hashed == [13 + 28, 13 + 28]


PACKET = bytes(range(12)) + b"payload, forty bytes long, more or less." + b"mki!"


@pytest.mark.parametrize("size", [0, 10, SHA1], ids="tag of {}".format)
@pytest.mark.parametrize("row", [CTR, NULL], ids=lambda row: row.name)
def test_srtp_packet(row: Cipher, size: int) -> None:
    result, tag = with_mac(row)(srtp(0, PACKET, 12, 52, size, b""))
    sent = PACKET[:12] + result + PACKET[52:]
    assert (result == PACKET[12:52]) == (row is NULL)
    assert tag == hmac.digest(b"mac key", sent, "sha1")[:size]
    assert with_mac(row)(srtp(1, sent, 12, 52, size, tag)) == (PACKET[12:52], b"")


def test_srtp_payload_is_all() -> None:
    result, tag = with_mac(CTR)(srtp(0, PACKET, 0, len(PACKET), 10, b""))
    assert with_mac(CTR)(srtp(1, result, 0, len(PACKET), 10, tag)) == (PACKET, b"")


def test_srtp_tampered_is_not_decrypted() -> None:
    result, tag = with_mac(CTR)(srtp(0, PACKET, 12, 52, 10, b""))
    sent = PACKET[:12] + result + PACKET[52:]
    session = with_mac(CTR)
    for place in range(len(sent) + len(tag)):
        forged = bytearray(sent + tag)
        forged[place] ^= 1
        packet, forged_tag = bytes(forged[: len(sent)]), bytes(forged[len(sent) :])
        refused(errno.EBADMSG, session, srtp(1, packet, 12, 52, 10, forged_tag))
    assert not session.ran


def test_srtp_tag_longer_than_the_payload() -> None:
    result, tag = with_mac(CTR)(srtp(0, bytes(16), 0, 16, SHA1, b""))
    refused(errno.EINVAL, with_mac(CTR), srtp(1, result, 0, 16, SHA1, tag))


def test_srtp_without_mac() -> None:
    result, tag = without_mac(CTR)(srtp(0, PACKET, 12, 52, 0, b""))
    assert (len(result), tag) == (40, b"")
    sent = PACKET[:12] + result + PACKET[52:]
    assert without_mac(CTR)(srtp(1, sent, 12, 52, 0, b"")) == (PACKET[12:52], b"")


def test_srtp_of_nothing() -> None:
    session = with_mac(CTR)
    result, tag = session(srtp(0, PACKET[:12], 12, 12, 10, b""))
    assert (result, tag) == (b"", hmac.digest(b"mac key", PACKET[:12], "sha1")[:10])
    assert not session.ran


def test_both_kinds_are_srtp() -> None:
    request = srtp(0, PACKET, 12, 52, 10, b"")
    both = request._replace(kind=AuthKind.TLS | AuthKind.SRTP)
    assert with_mac(CTR)(both) == with_mac(CTR)(request)
