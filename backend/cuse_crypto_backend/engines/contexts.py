"""Cipher contexts of OpenSSL that outlive an operation: each operation has an IV of its own, and
a new context takes 20 us (its memory, and the schedule of the key), as long as 24 KiB of AES.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import Blowfish, Camellia, TripleDES
from cryptography.hazmat.decrepit.ciphers.modes import CFB, OFB
from cryptography.hazmat.primitives.ciphers import Cipher as OpensslCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.structs import Cop
from cuse_crypto_backend.engines.engine import Run, Short

# By the kernel's names, of which a cipher's is made: "cbc(aes)".
_BASES: dict[str, Callable[[bytes], Any]] = {
    "aes": algorithms.AES,
    "blowfish": Blowfish,
    "camellia": Camellia,
    # DES is Triple DES with one key three times.
    "des": lambda key: TripleDES(key * 3),
    "des3_ede": TripleDES,
}


_ENCRYPT = int(Cop.ENCRYPT)
_BLOCK, _TWO_BLOCKS = struct.Struct("=2Q"), struct.Struct("=4Q")


class _Contexts:
    """One context for each direction, made when it is first used."""

    def __init__(self, algorithm: Any, mode: Callable[[bytes], Any], iv_size: int) -> None:
        self._cipher = OpensslCipher(algorithm, mode(bytes(iv_size)))
        self._contexts: list[Any] = [None, None]

    def _context(self, op: int) -> Any:
        context = self._contexts[op]
        if context is None:
            cipher = self._cipher
            context = cipher.encryptor() if op == Cop.ENCRYPT else cipher.decryptor()
            self._contexts[op] = context
        return context


class Ecb(_Contexts):
    """Has no IV."""

    def __call__(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        self._context(op).update_into(src, dst)


class Ctr(_Contexts):
    """Takes a new IV."""

    def __call__(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        context = self._context(op)
        context.reset_nonce(iv)
        context.update_into(src, dst)

    def short(self, op: int, request: memoryview, at: int, size: int, dst: memoryview) -> None:
        """Short, of engine.py."""
        self(op, bytes(request[at : at + 16]), request[at + 16 : at + 16 + size], dst)


class Cbc(_Contexts):
    """With blocks of 16 bytes: takes no new IV, but goes on after the last block of ciphertext.

    What the first block is off by, that block's difference from the IV, is made up for outside.
    """

    def __init__(self, algorithm: Any) -> None:
        super().__init__(algorithm, modes.CBC, 16)
        self._last = [(0, 0), (0, 0)]

    def __call__(self, op: int, request: memoryview, at: int, size: int, dst: memoryview) -> None:
        """Short, of engine.py."""
        context = self._contexts[op] or self._context(op)
        iv_0, iv_1, first_0, first_1 = _TWO_BLOCKS.unpack_from(request, at)
        last_0, last_1 = self._last[op]
        at += 16
        try:
            if op == _ENCRYPT:
                first = _BLOCK.pack(first_0 ^ iv_0 ^ last_0, first_1 ^ iv_1 ^ last_1)
                context.update_into(first, dst)
                if size > 16:
                    context.update_into(request[at + 16 : at + size], dst[16:])
                self._last[op] = _BLOCK.unpack_from(dst, size - 16)
            else:
                last = _BLOCK.unpack_from(request, at + size - 16)
                context.update_into(request[at : at + size], dst)
                first_0, first_1 = _BLOCK.unpack_from(dst)
                _BLOCK.pack_into(dst, 0, first_0 ^ iv_0 ^ last_0, first_1 ^ iv_1 ^ last_1)
                self._last[op] = last
        except BaseException:
            self._contexts[op], self._last[op] = None, (0, 0)
            raise


def _anew(
    algorithm: Any,
    mode: Callable[[bytes], Any],
    op: int,
    iv: bytes,
    src: memoryview,
    dst: memoryview,
) -> None:
    both = OpensslCipher(algorithm, mode(iv))
    context = both.encryptor() if op == Cop.ENCRYPT else both.decryptor()
    context.update_into(src, dst)


_MODES: dict[str, Callable[[bytes], Any]] = {
    "cbc": modes.CBC,
    "cfb": CFB,
    "ctr": modes.CTR,
    "ecb": lambda iv: modes.ECB(),
    "ofb": OFB,
}
_KEPT: dict[str, Callable[..., Run]] = {"ctr": Ctr, "ecb": Ecb}


def runner(cipher: Cipher, key: bytes) -> Run:
    """What encrypts and decrypts, without padding and tag; one call at a time."""
    algorithm, mode = _BASES[cipher.base](key), _MODES[cipher.mode]
    if cipher.mode in _KEPT:
        return _KEPT[cipher.mode](algorithm, mode, cipher.iv_size)
    return partial(_anew, algorithm, mode)


def short(cipher: Cipher, key: bytes) -> Short | None:
    """The same for short, where there is one."""
    if cipher.mode == "ctr":
        return Ctr(_BASES[cipher.base](key), modes.CTR, 16).short
    if cipher.mode == "cbc" and cipher.block_size == 16:
        return Cbc(_BASES[cipher.base](key))
    return None
