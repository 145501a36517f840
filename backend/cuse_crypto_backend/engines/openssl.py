"""The engine that computes in OpenSSL, through the ``cryptography`` package."""

import errno
import warnings
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher as OpensslCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from cuse_crypto.abi.algorithms import CIPHERS, Cipher
from cuse_crypto.abi.structs import Cop

# By the kernel's names, of which a cipher's is made: "cbc(aes)".
_BASES: dict[str, Callable[[bytes], Any]] = {
    "aes": algorithms.AES,
    "des3_ede": TripleDES,
}
_MODES: dict[str, Callable[[bytes], Any]] = {
    "cbc": modes.CBC,
    "ctr": modes.CTR,
    "ecb": lambda iv: modes.ECB(),
}


class OpensslSession:
    """A key schedule is made in every operation, since OpenSSL offers no new IV for an old one."""

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        self._algorithm = _BASES[cipher.base](key)
        self._mode = _MODES[cipher.mode]

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        """No padding, no tag: as many bytes as ``src`` has."""
        cipher = OpensslCipher(self._algorithm, self._mode(iv))
        context = cipher.encryptor() if op == Cop.ENCRYPT else cipher.decryptor()
        context.update_into(src, dst)

    def close(self) -> None:
        """Drop the key."""
        del self._algorithm


class OpensslEngine:
    """Engine, and open file in one: sessions share nothing."""

    name = "openssl"

    def __init__(self) -> None:
        self.algorithms = frozenset(row.id for row in CIPHERS.values() if _works(row))

    def open(self) -> "OpensslEngine":
        """Itself."""
        return self

    def session(self, cipher: Cipher, key: bytes) -> OpensslSession:
        """EINVAL for what this OpenSSL does not offer."""
        if cipher.id not in self.algorithms:
            raise OSError(errno.EINVAL, f"OpenSSL has no {cipher.kernel_name} here")
        return OpensslSession(cipher, key)

    def close(self) -> None:
        """Holds nothing."""


def _works(cipher: Cipher) -> bool:
    """Whether this build of OpenSSL computes it (a FIPS build has fewer)."""
    if cipher.base not in _BASES or cipher.mode not in _MODES:
        return False
    src, dst = memoryview(bytes(cipher.block_size)), memoryview(bytearray(64))
    # Of distinct bytes: a Triple DES key of equal parts may be refused.
    key = bytes(range(max(cipher.key_sizes)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            OpensslSession(cipher, key).crypt(Cop.ENCRYPT, bytes(cipher.iv_size), src, dst)
    except (UnsupportedAlgorithm, ValueError):
        return False
    return True
