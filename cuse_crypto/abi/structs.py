"""The structures of the cryptodev API, under their C names, and its constants.

An annotation is a C type; ``pointer`` is 4 or 8 bytes by the width of the calling program.
"""

from enum import IntEnum, IntFlag
from typing import NamedTuple

from cuse_crypto.layout import pointer, u16, u32

CRYPTO_CIPHER_MAX_KEY_LEN = 64
CRYPTO_HMAC_MAX_KEY_LEN = 512
EALG_MAX_BLOCK_LEN = 16


class Cop(IntEnum):
    """``crypt_op.op``"""

    ENCRYPT = 0
    DECRYPT = 1


class CopFlag(IntFlag):
    """``crypt_op.flags``; bits without a name are ignored, as the driver does."""

    WRITE_IV = 0x04
    NO_ZC = 0x08


class session_op(NamedTuple):
    """CIOCGSESSION: an algorithm and its key; the driver fills in ``ses``."""

    cipher: u32 = 0
    mac: u32 = 0
    keylen: u32 = 0
    key: pointer = 0
    mackeylen: u32 = 0
    mackey: pointer = 0
    ses: u32 = 0


class session_id(NamedTuple):
    """CIOCFSESSION takes a bare ``__u32``."""

    ses: u32 = 0


class crypt_op(NamedTuple):
    """CIOCCRYPT: ``len`` bytes from ``src`` to ``dst`` in session ``ses``."""

    ses: u32 = 0
    op: u16 = 0
    flags: u16 = 0
    len: u32 = 0
    src: pointer = 0
    dst: pointer = 0
    mac: pointer = 0
    iv: pointer = 0
