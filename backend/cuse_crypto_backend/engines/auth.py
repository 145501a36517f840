"""Authenticated operations made of a cipher and a mac: the TLS and SRTP types of CIOCAUTHCRYPT.

For engines whose cryptography has only the two parts. No I/O: cipher and mac are callables. How
the parts are put together is cryptodev-linux's (authenc.c); the TLS record is RFC 5246, 6.2.3.
"""

import errno
import hmac
from collections.abc import Callable

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.structs import Cop
from cuse_crypto_backend.engines.engine import AuthKind, AuthRequest, Run

Digest = Callable[..., bytes]
"""``digest(*parts)``: the session's mac over the parts, one after the other, from a fresh start."""


def crypt(
    request: AuthRequest, dst: memoryview, cipher: Cipher, run: Run, digest: Digest | None
) -> tuple[int, bytes]:
    """Do a ``request`` of the kind TLS or SRTP; what ``EngineSession.auth`` returns.

    ``digest`` is None for a session without a mac: then nothing is authenticated, and
    ``tag_size`` is ignored. OSError(EINVAL) for a length that cannot be, OSError(EBADMSG) for
    what is not authentic.
    """
    encrypts = request.op == Cop.ENCRYPT
    if request.kind & AuthKind.SRTP:
        return (_srtp_encrypt if encrypts else _srtp_decrypt)(request, dst, run, digest)
    tls = _tls_encrypt if encrypts else _tls_decrypt
    return tls(request, dst, cipher.block_size, run, digest), b""


def _tls_encrypt(
    request: AuthRequest, dst: memoryview, block_size: int, run: Run, digest: Digest | None
) -> int:
    tag = digest(request.auth, request.src)[: request.tag_size] if digest else b""
    record = b"".join((request.src, tag, _padding(len(request.src) + len(tag), block_size)))
    if record:
        run(Cop.ENCRYPT, request.iv, memoryview(record), dst)
    return len(record)


def _tls_decrypt(
    request: AuthRequest, dst: memoryview, block_size: int, run: Run, digest: Digest | None
) -> int:
    size = len(request.src)
    tag_size = request.tag_size if digest else 0
    if not size or size % block_size:
        raise OSError(errno.EINVAL, f"{size} bytes are no record")
    run(Cop.DECRYPT, request.iv, request.src, dst)
    # The padding comes first, as in the driver: what it leaves may be shorter than a tag.
    pad, authentic = _pad_size(dst[:size]) if block_size > 1 else (0, True)
    length = size - pad - tag_size
    if length < 0:
        raise OSError(errno.EINVAL, "no room for a tag")
    if digest:
        # Also after a bad padding, so that the time tells little of it (RFC 5246, 6.2.3.2).
        expected = digest(request.auth, dst[:length])[:tag_size]
        authentic &= hmac.compare_digest(expected, dst[length : length + tag_size])
    if not authentic:
        raise OSError(errno.EBADMSG, "the record is not authentic")
    return length


def _padding(size: int, block_size: int) -> bytes:
    """The shortest that fills the last block after ``size`` bytes; at least one byte."""
    if block_size == 1:
        return b""
    pad = block_size - size % block_size
    return bytes([pad - 1]) * pad


def _pad_size(record: memoryview) -> tuple[int, bool]:
    """How much of the end of ``record`` is padding, and whether all of it is as it should be.

    A wrong padding counts as none.
    """
    pad = record[-1] + 1
    right = pad <= len(record) and hmac.compare_digest(record[-pad:], bytes([pad - 1]) * pad)
    return (pad, True) if right else (0, False)


def _srtp_encrypt(
    request: AuthRequest, dst: memoryview, run: Run, digest: Digest | None
) -> tuple[int, bytes]:
    size = len(request.src)
    if size:
        run(Cop.ENCRYPT, request.iv, request.src, dst)
    if digest is None:
        return size, b""
    before, after = request.auth[: request.offset], request.auth[request.offset + size :]
    return size, digest(before, dst[:size], after)[: request.tag_size]


def _srtp_decrypt(
    request: AuthRequest, dst: memoryview, run: Run, digest: Digest | None
) -> tuple[int, bytes]:
    size = len(request.src)
    if digest:
        if request.tag_size > size:
            raise OSError(errno.EINVAL, "the tag is longer than the payload")
        if not hmac.compare_digest(digest(request.auth)[: request.tag_size], request.tag):
            raise OSError(errno.EBADMSG, "the packet is not authentic")
    if size:
        run(Cop.DECRYPT, request.iv, request.src, dst)
    return size, b""
