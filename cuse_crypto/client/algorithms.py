"""The algorithms under the names that people use: "aes-cbc", "sha256", "hmac-sha256".

The table is ``cuse_crypto.abi.algorithms``; a name here is derived from its row, and never listed.
"""

from collections.abc import Iterable
from typing import TypeVar

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac

Row = TypeVar("Row", Cipher, Mac)


def human_name(row: Cipher | Mac) -> str:
    """``"aes-cbc"`` of CRYPTO_AES_CBC; a hash is called as in hashlib, an HMAC as in hmac."""
    name = row.name.removeprefix("CRYPTO_").lower().replace("_", "-")
    name = name.replace("blf-", "blowfish-").replace("sha2-", "sha")
    base = name.removesuffix("-hmac")
    return name if base == name else f"hmac-{base}"


def find_cipher(name: str) -> Cipher:
    """A cipher that is no AEAD: ``"aes-cbc"``. ValueError lists those there are; so do the rest."""
    return _find("cipher", name, (row for row in CIPHERS.values() if not row.is_aead))


def find_aead(name: str) -> Cipher:
    """An AEAD: ``"aes-gcm"``."""
    return _find("AEAD", name, (row for row in CIPHERS.values() if row.is_aead))


def find_hash(name: str) -> Mac:
    """A hash without a key: ``"sha256"``."""
    return _find("hash", name, (row for row in MACS.values() if not row.is_keyed))


def find_hmac(name: str) -> Mac:
    """An HMAC, by its own name or by that of its hash: ``"hmac-sha256"`` or ``"sha256"``."""
    full = name if name.startswith("hmac-") else f"hmac-{name}"
    return _find("HMAC", full, (row for row in MACS.values() if row.is_keyed))


def find_mac(name: str) -> Mac:
    """What may accompany a cipher: a hash or an HMAC, by its full name."""
    return _find("hash or HMAC", name, MACS.values())


def _find(kind: str, name: str, rows: Iterable[Row]) -> Row:
    by_name = {human_name(row): row for row in rows}
    if name not in by_name:
        raise ValueError(f"unknown {kind} {name!r}: known are {', '.join(sorted(by_name))}")
    return by_name[name]
