"""The engine that hands operations to this host's real ``/dev/crypto``.

The driver has memory-safety faults on unusual input (cryptodev-linux pull request 103), so that
only complete, checked operations reach it: sizes from the table, buffers of this process, and
COP_FLAG_NO_ZC.
"""

import ctypes
import errno
import fcntl
import os
from typing import Any

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.algorithms import CIPHERS, Cipher
from cuse_crypto.abi.structs import CopFlag, crypt_op, session_id, session_op
from cuse_crypto.errors import Failure
from cuse_crypto.layout import Layout

DEVICE = os.environ.get("CUSE_CRYPTO_HOST_DEVICE", "/dev/crypto")

_ROWS = {row.name: row for row in ioctls.IOCTLS}
_PROBE_KEY = bytes(range(1, 65))


def _request(name: str) -> tuple[int, Layout[Any]]:
    return _ROWS[name].number(64), ioctls.layout_of(_ROWS[name], 64)


_GSESSION, _SESSION_OP = _request("CIOCGSESSION")
_FSESSION, _SESSION_ID = _request("CIOCFSESSION")
_CRYPT, _CRYPT_OP = _request("CIOCCRYPT")


class CryptodevSession:
    """A session of the host's device."""

    def __init__(self, fd: int, cipher: Cipher, key: bytes) -> None:
        self._fd = fd
        self._iv = ctypes.create_string_buffer(max(cipher.iv_size, 1))
        secret = ctypes.create_string_buffer(key, len(key))
        op = session_op(cipher=cipher.id, keylen=len(key), key=ctypes.addressof(secret))
        argument = bytearray(_SESSION_OP.bytes(op))
        try:
            fcntl.ioctl(fd, _GSESSION, argument)
        finally:
            ctypes.memset(secret, 0, len(key))
        self._ses = _SESSION_OP.read(argument).ses
        self._op = bytearray(_CRYPT_OP.size)

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        """One CIOCCRYPT, from and to memory of this process."""
        if not len(src):
            return
        ctypes.memmove(self._iv, iv, len(iv))
        request = crypt_op(
            ses=self._ses,
            op=op,
            flags=CopFlag.NO_ZC,
            len=len(src),
            src=_address(src),
            dst=_address(dst),
            iv=ctypes.addressof(self._iv),
        )
        _CRYPT_OP.pack_into(self._op, 0, *request)
        fcntl.ioctl(self._fd, _CRYPT, self._op)

    def close(self) -> None:
        """End the session of the host."""
        fcntl.ioctl(self._fd, _FSESSION, _SESSION_ID.bytes(session_id(self._ses)))


class CryptodevFile:
    """An open file of the host's device."""

    def __init__(self) -> None:
        self._fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)

    def session(self, cipher: Cipher, key: bytes) -> CryptodevSession:
        """EINVAL for what the host's kernel has not."""
        return CryptodevSession(self._fd, cipher, key)

    def close(self) -> None:
        """Ends its sessions too."""
        os.close(self._fd)


class CryptodevEngine:
    """The host's ``/dev/crypto``."""

    name = "cryptodev"

    def __init__(self) -> None:
        try:
            file = CryptodevFile()
        except FileNotFoundError:
            raise Failure(f"no {DEVICE}; load cryptodev-linux, or use --engine openssl") from None
        except OSError as error:
            raise Failure(f"{DEVICE}: {error.strerror}; use --engine openssl") from None
        try:
            self.algorithms = frozenset(row.id for row in CIPHERS.values() if _works(file, row))
        finally:
            file.close()
        if not self.algorithms:
            raise Failure(f"{DEVICE} answers to no cipher; use --engine openssl")

    def open(self) -> CryptodevFile:
        """A new open file of the host's device."""
        return CryptodevFile()


def _works(file: CryptodevFile, cipher: Cipher) -> bool:
    try:
        file.session(cipher, _PROBE_KEY[: max(cipher.key_sizes)]).close()
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return False
        raise
    return True


def _address(buffer: memoryview) -> int:
    """Where the bytes lie; ``buffer`` is writable and outlives the call."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
