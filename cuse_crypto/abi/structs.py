"""The structures of the cryptodev API, under their C names, and its constants.

An annotation is a C type; ``pointer`` is 4 or 8 bytes by the width of the calling program.
"""

from typing import Annotated, NamedTuple

from cuse_crypto.layout import pointer, u16, u32

CRYPTO_CIPHER_MAX_KEY_LEN = 64
CRYPTO_HMAC_MAX_KEY_LEN = 512
EALG_MAX_BLOCK_LEN = 16
CRYPTODEV_MAX_ALG_NAME = 64

algorithm_name = Annotated[bytes, f"{CRYPTODEV_MAX_ALG_NAME}s"]
"""Ends with a NUL; what follows that is not looked at."""


class Cop:
    """``crypt_op.op``. Plain numbers, here and below: an enum costs 0.7 us in every operation."""

    ENCRYPT = 0
    DECRYPT = 1


class CopFlag:
    """``crypt_op.flags``; bits without a name are ignored, as the driver does."""

    UPDATE = 0x01
    FINAL = 0x02
    WRITE_IV = 0x04
    NO_ZC = 0x08
    AEAD_TLS_TYPE = 0x10
    AEAD_SRTP_TYPE = 0x20
    RESET = 0x40


class session_op(NamedTuple):
    """CIOCGSESSION: an algorithm and its key; the driver fills in ``ses``."""

    cipher: u32 = 0
    mac: u32 = 0
    keylen: u32 = 0
    key: pointer = 0
    mackeylen: u32 = 0
    mackey: pointer = 0
    ses: u32 = 0


class number(NamedTuple):
    """A bare ``__u32``: a session, a descriptor, or a set of features."""

    value: u32 = 0


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


class crypt_auth_op(NamedTuple):
    """CIOCAUTHCRYPT: ``auth_src`` is authenticated, ``src`` is encrypted as well."""

    ses: u32 = 0
    op: u16 = 0
    flags: u16 = 0
    len: u32 = 0
    auth_len: u32 = 0
    auth_src: pointer = 0
    src: pointer = 0
    dst: pointer = 0
    tag: pointer = 0
    tag_len: u32 = 0
    iv: pointer = 0
    iv_len: u32 = 0


class session_info_op(NamedTuple):
    """CIOCGSESSINFO: which implementations a session uses. Two ``struct alg_info`` inside."""

    ses: u32
    cipher_name: algorithm_name
    cipher_driver: algorithm_name
    hash_name: algorithm_name
    hash_driver: algorithm_name
    alignmask: u16
    flags: u32


class cphash_op(NamedTuple):
    """CIOCCPHASH: ``dst_ses`` takes over what ``src_ses`` has hashed so far."""

    dst_ses: u32 = 0
    src_ses: u32 = 0
