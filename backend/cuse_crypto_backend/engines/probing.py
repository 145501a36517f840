"""Which algorithms an engine really has, by a small operation of each."""

from collections.abc import Callable
from contextlib import closing

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.abi.structs import Cop
from cuse_crypto_backend.engines.engine import (
    SLACK,
    Algorithms,
    AuthKind,
    AuthRequest,
    EngineSession,
    Hashing,
    Keys,
)

_TAG_SIZE = 16


def algorithms(
    session: Callable[[Algorithms, Keys], EngineSession], failures: tuple[type[Exception], ...]
) -> frozenset[int]:
    """The cryptodev numbers of what ``session`` computes without one of ``failures``."""
    rows: list[Cipher | Mac] = [*CIPHERS.values(), *MACS.values()]
    found = set()
    for row in rows:
        try:
            _try(row, session)
        except failures:
            continue
        found.add(row.id)
    return frozenset(found)


def _try(row: Cipher | Mac, session: Callable[[Algorithms, Keys], EngineSession]) -> None:
    nothing = memoryview(b"")
    if isinstance(row, Mac):
        with closing(session(Algorithms(None, row), Keys(b"", b"key" * row.is_keyed))) as mac:
            whole = Hashing.START | Hashing.FINISH
            mac.crypt(Cop.ENCRYPT, b"", nothing, memoryview(bytearray(SLACK)), whole)
        return
    # Of distinct bytes: a key of equal parts may be refused.
    key = bytes(range(max(row.key_sizes)))
    # The first byte is CCM's size of a counter, less one.
    iv = b"\1" * row.iv_size
    src = memoryview(bytearray(row.block_size))
    dst = memoryview(bytearray(row.block_size + _TAG_SIZE + SLACK))
    with closing(session(Algorithms(row, None), Keys(key, b""))) as cipher:
        if row.is_aead:
            request = AuthRequest(AuthKind.AEAD, Cop.ENCRYPT, _TAG_SIZE, iv, nothing, src, 0, b"")
            cipher.auth(request, dst)
        else:
            cipher.crypt(Cop.ENCRYPT, iv, src, dst, 0)
