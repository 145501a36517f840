"""A second, smaller API: encrypt or decrypt a buffer, with the key in the same call.

The variant that a course sets as an exam. AES-CBC with an IV of zeros; the length of the key
chooses AES-128, 192 or 256. The header is ``crypto/crypto_buffer.h``.
"""

from typing import NamedTuple

from cuse_crypto.abi.ioctls import CALLER_WRITES, Ioctl, Segment
from cuse_crypto.layout import pointer, u32


class crypto_buffer(NamedTuple):
    """``len`` bytes, a multiple of 16, from ``input`` to ``output``."""

    input: pointer
    output: pointer
    len: u32
    key: pointer
    key_len: u32


_SEGMENTS = (Segment("key", "key_len"), Segment("input", "len")), (Segment("output", "len"),)

# fmt: off
IOCTLS = (
    Ioctl("ENCRYPT", 0, CALLER_WRITES, crypto_buffer, *_SEGMENTS, type="b"),
    Ioctl("DECRYPT", 1, CALLER_WRITES, crypto_buffer, *_SEGMENTS, type="b"),
)
# fmt: on
