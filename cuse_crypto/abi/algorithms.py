"""The algorithms of the cryptodev API: one row each.

Sizes are in bytes. ``kernel_name`` is the name in the kernel's crypto API, from which mode and
underlying cipher follow. ``block_size`` is the unit that lengths must be a multiple of.
Source: shared facts of cryptodev-linux 1.14 as measured; NIST SP 800-38A for the modes.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from cuse_crypto.abi.structs import Cop
from cuse_crypto.layout import Buffer


class _CipherRow(NamedTuple):
    id: int
    name: str
    kernel_name: str
    key_sizes: tuple[int, ...]
    iv_size: int
    block_size: int


class Cipher(_CipherRow):
    """A symmetric cipher in a mode of operation."""

    @cached_property
    def mode(self) -> str:
        """``"cbc"`` of ``"cbc(aes)"``."""
        return self.kernel_name.partition("(")[0]

    @cached_property
    def base(self) -> str:
        """``"aes"`` of ``"cbc(aes)"``."""
        return self.kernel_name.partition("(")[2].rstrip(")")

    @cached_property
    def next_iv(self) -> Callable[[int, bytes, Buffer, Buffer], bytes]:
        """``next_iv(op, iv, src, dst)``: the IV that continues after this non-empty operation.

        It is what COP_FLAG_WRITE_IV gives back, and what an operation without an IV starts from.
        """
        return _CHAINING[self.mode]


def _unchained(op: int, iv: bytes, src: Buffer, dst: Buffer) -> bytes:
    return iv


def _last_ciphertext_block(op: int, iv: bytes, src: Buffer, dst: Buffer) -> bytes:
    return bytes((dst if op == Cop.ENCRYPT else src)[-len(iv) :])


def _advanced_counter(op: int, iv: bytes, src: Buffer, dst: Buffer) -> bytes:
    """Big endian, wrapping; an unfinished block of key stream is dropped."""
    size = len(iv)
    counter = int.from_bytes(iv, "big") + -(-len(src) // size)
    return (counter & ((1 << 8 * size) - 1)).to_bytes(size, "big")


_CHAINING = {
    "ecb": _unchained,
    "cbc": _last_ciphertext_block,
    "ctr": _advanced_counter,
}

# fmt: off
CIPHERS = {row.id: row for row in (
    #      id  name               kernel name      key sizes     iv  block
    Cipher(2,  "CRYPTO_3DES_CBC", "cbc(des3_ede)", (24,),         8,  8),
    Cipher(11, "CRYPTO_AES_CBC",  "cbc(aes)",      (16, 24, 32), 16, 16),
    Cipher(21, "CRYPTO_AES_CTR",  "ctr(aes)",      (16, 24, 32), 16,  1),
    Cipher(23, "CRYPTO_AES_ECB",  "ecb(aes)",      (16, 24, 32),  0, 16),
)}
# fmt: on
"""By the number in ``session_op.cipher``."""
