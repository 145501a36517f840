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

    @property
    def is_aead(self) -> bool:
        """Encrypts and authenticates in one, by CIOCAUTHCRYPT."""
        return self.mode in ("gcm", "ccm")

    @property
    def tag_sizes(self) -> tuple[int, ...]:
        """What an AEAD may authenticate with (NIST SP 800-38C and 38D); empty for all others."""
        return {"gcm": (4, 8, 12, 13, 14, 15, 16), "ccm": (4, 6, 8, 10, 12, 14, 16)}.get(
            self.mode, ()
        )

    @property
    def is_stream(self) -> bool:
        """What the driver flags as a stream cipher: SRTP takes no others."""
        return self.mode == "ctr" or self.base == "cipher_null" or self.is_aead

    @cached_property
    def next_iv(self) -> Callable[[int, bytes, Buffer, Buffer], bytes]:
        """``next_iv(op, iv, src, dst)``: the IV that continues after this non-empty operation.

        It is what COP_FLAG_WRITE_IV gives back, and what an operation without an IV starts from.
        """
        return _CHAINING[self.mode]


class _MacRow(NamedTuple):
    id: int
    name: str
    kernel_name: str
    digest_size: int


class Mac(_MacRow):
    """A hash, or a hash with a key (HMAC)."""

    @property
    def is_keyed(self) -> bool:
        """True for ``"hmac(sha1)"``."""
        return self.kernel_name.startswith("hmac(")

    @property
    def hash(self) -> str:
        """``"sha1"`` of ``"hmac(sha1)"`` and of ``"sha1"``."""
        return self.kernel_name.removeprefix("hmac(").rstrip(")")


def _unchanged(op: int, iv: bytes, src: Buffer, dst: Buffer) -> bytes:
    return iv


def _last_ciphertext_block(op: int, iv: bytes, src: Buffer, dst: Buffer) -> bytes:
    ciphertext = dst if op == Cop.ENCRYPT else src
    whole = len(ciphertext) - len(ciphertext) % len(iv)
    return bytes(ciphertext[whole - len(iv) : whole]) if whole else iv


def _last_key_stream_block(op: int, iv: bytes, src: Buffer, dst: Buffer) -> bytes:
    size = len(iv)
    stream = int.from_bytes(src[-size:], "big") ^ int.from_bytes(dst[-size:], "big")
    return stream.to_bytes(size, "big")


def _advanced_counter(op: int, iv: bytes, src: Buffer, dst: Buffer) -> bytes:
    """Big endian, wrapping; an unfinished block of key stream is dropped."""
    size = len(iv)
    counter = int.from_bytes(iv, "big") + -(-len(src) // size)
    return (counter & ((1 << 8 * size) - 1)).to_bytes(size, "big")


def _ccm_counter(op: int, iv: bytes, src: Buffer, dst: Buffer) -> bytes:
    """The counter field at the end of the IV (RFC 3610), left after the data by an encryption."""
    if op != Cop.ENCRYPT:
        return iv
    size = iv[0] + 1
    blocks = 1 + -(-len(src) // 16)
    return iv[:-size] + (blocks & ((1 << 8 * size) - 1)).to_bytes(size, "big")


_CHAINING = {
    "ecb": _unchanged,
    "cbc": _last_ciphertext_block,
    "cfb": _last_ciphertext_block,
    "ofb": _last_key_stream_block,
    "ctr": _advanced_counter,
    "xts": _unchanged,
    "gcm": _unchanged,
    "ccm": _ccm_counter,
}

_AES = (16, 24, 32)

# fmt: off
CIPHERS = {row.id: row for row in (
    #      id   name                   kernel name         key sizes     iv  block
    Cipher(1,   "CRYPTO_DES_CBC",      "cbc(des)",         (8,),          8,  8),
    Cipher(2,   "CRYPTO_3DES_CBC",     "cbc(des3_ede)",    (24,),         8,  8),
    Cipher(3,   "CRYPTO_BLF_CBC",      "cbc(blowfish)",    tuple(range(4, 57)), 8, 8),
    Cipher(11,  "CRYPTO_AES_CBC",      "cbc(aes)",         _AES,         16, 16),
    Cipher(16,  "CRYPTO_NULL",         "ecb(cipher_null)", (0,),          0,  1),
    Cipher(21,  "CRYPTO_AES_CTR",      "ctr(aes)",         _AES,         16,  1),
    Cipher(22,  "CRYPTO_AES_XTS",      "xts(aes)",         (32, 48, 64), 16, 16),
    Cipher(23,  "CRYPTO_AES_ECB",      "ecb(aes)",         _AES,          0, 16),
    Cipher(24,  "CRYPTO_AES_CFB",      "cfb(aes)",         _AES,         16,  1),
    Cipher(25,  "CRYPTO_AES_OFB",      "ofb(aes)",         _AES,         16,  1),
    Cipher(50,  "CRYPTO_AES_GCM",      "gcm(aes)",         _AES,         12,  1),
    Cipher(51,  "CRYPTO_AES_CCM",      "ccm(aes)",         _AES,         16,  1),
    Cipher(101, "CRYPTO_CAMELLIA_CBC", "cbc(camellia)",    _AES,         16, 16),
)}
"""By the number in ``session_op.cipher``."""

MACS = {row.id: row for row in (
    #   id   name                     kernel name     digest
    Mac(6,   "CRYPTO_MD5_HMAC",       "hmac(md5)",    16),
    Mac(7,   "CRYPTO_SHA1_HMAC",      "hmac(sha1)",   20),
    Mac(8,   "CRYPTO_RIPEMD160_HMAC", "hmac(rmd160)", 20),
    Mac(13,  "CRYPTO_MD5",            "md5",          16),
    Mac(14,  "CRYPTO_SHA1",           "sha1",         20),
    Mac(18,  "CRYPTO_SHA2_256_HMAC",  "hmac(sha256)", 32),
    Mac(19,  "CRYPTO_SHA2_384_HMAC",  "hmac(sha384)", 48),
    Mac(20,  "CRYPTO_SHA2_512_HMAC",  "hmac(sha512)", 64),
    Mac(102, "CRYPTO_RIPEMD160",      "rmd160",       20),
    Mac(103, "CRYPTO_SHA2_224",       "sha224",       28),
    Mac(104, "CRYPTO_SHA2_256",       "sha256",       32),
    Mac(105, "CRYPTO_SHA2_384",       "sha384",       48),
    Mac(106, "CRYPTO_SHA2_512",       "sha512",       64),
    Mac(107, "CRYPTO_SHA2_224_HMAC",  "hmac(sha224)", 28),
)}
# fmt: on
"""By the number in ``session_op.mac``."""
