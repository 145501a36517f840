"""What an authenticated operation must be before an engine sees it, whoever sent it."""

import errno

from cuse_crypto.abi.algorithms import Cipher, Mac
from cuse_crypto.abi.structs import Cop
from cuse_crypto_backend.engines.engine import AuthKind, AuthRequest

GROWTH = 64 + 256
"""At most so many bytes is a result longer than its source: a tag and padding."""


def check_auth(request: AuthRequest, cipher: Cipher | None, mac: Mac | None) -> None:
    """OSError(EINVAL) for a combination or a size that makes no sense."""
    if cipher is None or len(request.iv) != cipher.iv_size:
        raise OSError(errno.EINVAL, "no cipher, or no IV for it")
    if request.op not in (Cop.ENCRYPT, Cop.DECRYPT):
        raise OSError(errno.EINVAL, "no such operation")
    if request.kind not in (AuthKind.AEAD, AuthKind.TLS, AuthKind.SRTP):
        raise OSError(errno.EINVAL, "no such kind")
    size = len(request.src)
    if request.kind == AuthKind.AEAD:
        sized = request.tag_size in cipher.tag_sizes
        sized &= request.op == Cop.ENCRYPT or size >= request.tag_size
    else:
        sized = not cipher.is_aead and request.tag_size <= (mac.digest_size if mac else 0)
    if request.kind == AuthKind.TLS and request.op == Cop.DECRYPT:
        sized &= not size % cipher.block_size
    if request.kind == AuthKind.SRTP:
        sized &= cipher.is_stream and request.offset + size <= len(request.auth)
        sized &= request.op == Cop.ENCRYPT or len(request.tag) == request.tag_size
    if not sized:
        raise OSError(errno.EINVAL, "sizes that do not go together")
