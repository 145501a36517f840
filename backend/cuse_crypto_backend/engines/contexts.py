"""Cipher contexts of OpenSSL that outlive an operation: each operation has an IV of its own, and
a new context takes 20 us (its memory, and the schedule of the key), as long as 24 KiB of AES.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import Blowfish, Camellia, TripleDES
from cryptography.hazmat.decrepit.ciphers.modes import CFB, OFB
from cryptography.hazmat.primitives.ciphers import Cipher as OpensslCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.structs import Cop
from cuse_crypto_backend.engines.engine import Run

# By the kernel's names, of which a cipher's is made: "cbc(aes)".
_BASES: dict[str, Callable[[bytes], Any]] = {
    "aes": algorithms.AES,
    "blowfish": Blowfish,
    "camellia": Camellia,
    # DES is Triple DES with one key three times.
    "des": lambda key: TripleDES(key * 3),
    "des3_ede": TripleDES,
}


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


class Cbc(_Contexts):
    """Takes no new IV, but goes on after the last block of ciphertext that it has seen. The first
    block is that block's and the IV's difference off, which is made up for outside of it.
    """

    def __init__(self, algorithm: Any, mode: Callable[[bytes], Any], iv_size: int) -> None:
        super().__init__(algorithm, mode, iv_size)
        self._size = iv_size
        self._last = [0, 0]

    def __call__(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        context = self._context(op)
        size, length = self._size, len(src)
        off = int.from_bytes(iv, "little") ^ self._last[op]
        try:
            if op == Cop.ENCRYPT:
                first = int.from_bytes(src[:size], "little") ^ off
                context.update_into(first.to_bytes(size, "little"), dst)
                if length > size:
                    context.update_into(src[size:], dst[size:])
                ciphertext = dst[length - size : length]
            else:
                # Read before it is decrypted, for the peer may change it meanwhile.
                ciphertext = src[length - size :]
                context.update_into(src, dst)
                first = int.from_bytes(dst[:size], "little") ^ off
                dst[:size] = first.to_bytes(size, "little")
            self._last[op] = int.from_bytes(ciphertext, "little")
        except BaseException:
            self._contexts[op], self._last[op] = None, 0
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


_MODES: dict[str, tuple[Callable[[bytes], Any], Callable[..., Run] | None]] = {
    "cbc": (modes.CBC, Cbc),
    "cfb": (CFB, None),
    "ctr": (modes.CTR, Ctr),
    "ecb": (lambda iv: modes.ECB(), Ecb),
    "ofb": (OFB, None),
}


def runner(cipher: Cipher, key: bytes) -> Run:
    """What encrypts and decrypts, without padding and tag; one call at a time."""
    algorithm = _BASES[cipher.base](key)
    mode, kept = _MODES[cipher.mode]
    if kept:
        return kept(algorithm, mode, cipher.iv_size)
    return partial(_anew, algorithm, mode)
