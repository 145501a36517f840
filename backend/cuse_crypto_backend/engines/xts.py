"""AES-XTS where OpenSSL's own stops: data units over 16 MiB, equal halves of a key, AES-192.

The driver takes them all. Source: IEEE 1619-2007, section 5.
"""

from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cuse_crypto.abi.structs import Cop

BLOCK = 16
UNIT = 1 << 20
"""Blocks of one data unit that OpenSSL takes."""
_REDUCTION = 0x87
"""x^128 = x^7 + x^2 + x + 1, bits in order of significance, bytes little endian."""
_PART = 1 << 12
"""Blocks whose tweaks are made at a time."""


def crypt(key: bytes, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
    """``src``, whole blocks, as one data unit with the tweak ``iv``, to ``dst`` of its length."""
    data_key, tweak_key = key[: len(key) // 2], key[len(key) // 2 :]
    tweak = int.from_bytes(_ecb(tweak_key, Cop.ENCRYPT, iv), "little")
    natively = data_key != tweak_key and len(data_key) != 24
    step = (UNIT if natively else _PART) * BLOCK
    for start in range(0, len(src), step):
        part, out = src[start : start + step], dst[start:]
        if natively:
            # The tweak of the middle of a unit, as the IV that has it as its first.
            first = _ecb(tweak_key, Cop.DECRYPT, tweak.to_bytes(BLOCK, "little"))
            _context(Cipher(algorithms.AES(key), modes.XTS(first)), op).update_into(part, out)
            tweak = _times(tweak, _power(len(part) // BLOCK))
        else:
            tweak = _by_hand(data_key, op, tweak, part, out)


def _by_hand(key: bytes, op: int, tweak: int, src: memoryview, dst: memoryview) -> int:
    """Encrypt between two exclusive-ors with the tweaks; the tweak that follows."""
    tweaks = bytearray()
    for _ in range(0, len(src), BLOCK):
        tweaks += tweak.to_bytes(BLOCK, "little")
        tweak = _double(tweak)
    inner = _ecb(key, op, _xor(src, tweaks))
    dst[: len(src)] = _xor(inner, tweaks)
    return tweak


def _xor(left: bytes | memoryview, right: bytes | bytearray) -> bytes:
    number = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return number.to_bytes(len(right), "little")


def _ecb(key: bytes, op: int, data: bytes) -> bytes:
    result: bytes = _context(Cipher(algorithms.AES(key), modes.ECB()), op).update(data)
    return result


def _context(cipher: Any, op: int) -> Any:
    return cipher.encryptor() if op == Cop.ENCRYPT else cipher.decryptor()


def _double(number: int) -> int:
    number <<= 1
    return number ^ (1 << 128 | _REDUCTION) if number >> 128 else number


def _times(left: int, right: int) -> int:
    """Product in GF(2^128)."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left, right = _double(left), right >> 1
    return product


def _power(exponent: int) -> int:
    """x to the ``exponent``."""
    result, square = 1, 2
    while exponent:
        if exponent & 1:
            result = _times(result, square)
        square, exponent = _times(square, square), exponent >> 1
    return result
