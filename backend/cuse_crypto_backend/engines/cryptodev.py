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
from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.abi.structs import (
    Cop,
    CopFlag,
    cphash_op,
    crypt_auth_op,
    crypt_op,
    number,
    session_info_op,
    session_op,
)
from cuse_crypto.errors import Failure
from cuse_crypto_backend.engines.engine import (
    Algorithms,
    AuthKind,
    AuthRequest,
    EngineSession,
    Hashing,
    Keys,
)

DEVICE = os.environ.get("CUSE_CRYPTO_HOST_DEVICE", "/dev/crypto")

_ROWS = {row.name: row for row in ioctls.IOCTLS}
_PROBE_KEY = bytes(range(1, 65))
_DIGEST_MAX = 64
_NOWHERE = ctypes.create_string_buffer(1)
"""Where empty data lies: the driver does not take NULL for it everywhere."""


def _ioctl(fd: int, name: str, op: Any) -> Any:
    """Make the ioctl; the structure as it comes back."""
    layout = ioctls.layout_of(_ROWS[name], 64)
    argument = bytearray(layout.bytes(op))
    fcntl.ioctl(fd, _ROWS[name].number(64), argument)
    return layout.read(argument)


def _address(buffer: memoryview) -> int:
    """Where the bytes lie; ``buffer`` is writable and outlives the call."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer) if len(buffer) else _NOWHERE)


class CryptodevSession:
    """A session of the host's device."""

    short = None
    next_iv = b""

    def __init__(self, fd: int, algorithms: Algorithms, keys: Keys) -> None:
        self._fd = fd
        self._cipher, self._mac = algorithms
        self._start = False
        self._write_iv = CopFlag.WRITE_IV if self._cipher and self._cipher.mode == "ofb" else 0
        self._iv = ctypes.create_string_buffer(16)
        self._digest = ctypes.create_string_buffer(_DIGEST_MAX)
        secrets = [ctypes.create_string_buffer(key, max(len(key), 1)) for key in keys]
        op = session_op(
            cipher=self._cipher.id if self._cipher else 0,
            mac=self._mac.id if self._mac else 0,
            keylen=len(keys.cipher),
            key=ctypes.addressof(secrets[0]),
            mackeylen=len(keys.mac),
            mackey=ctypes.addressof(secrets[1]),
        )
        try:
            self._ses: int = _ioctl(fd, "CIOCGSESSION", op).ses
        finally:
            for secret in secrets:
                ctypes.memset(secret, 0, len(secret))

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview, hashing: int) -> bytes:
        """One CIOCCRYPT, from and to memory of this process."""
        if self._cipher and self._cipher.is_aead:
            raise OSError(errno.EINVAL, "an AEAD is for CIOCAUTHCRYPT")
        flags = CopFlag.NO_ZC | self._write_iv
        if self._mac:
            self._start |= bool(hashing & Hashing.START)
            if not len(src) and not hashing & Hashing.FINISH:
                # The driver would take an empty update for the end.
                return b""
            flags |= CopFlag.RESET if self._start else 0
            flags |= CopFlag.FINAL if hashing & Hashing.FINISH else CopFlag.UPDATE
            self._start = False
        elif not len(src):
            return b""
        ctypes.memmove(self._iv, iv, len(iv))
        request = crypt_op(
            ses=self._ses,
            op=op if self._cipher else 0,
            flags=flags,
            len=len(src),
            src=_address(src),
            dst=_address(dst),
            mac=ctypes.addressof(self._digest),
            iv=ctypes.addressof(self._iv),
        )
        _ioctl(self._fd, "CIOCCRYPT", request)
        self._keep_iv()
        if not self._mac or not hashing & Hashing.FINISH:
            return b""
        return self._digest.raw[: self._mac.digest_size]

    def auth(self, request: AuthRequest, dst: memoryview) -> tuple[int, bytes]:
        """One CIOCAUTHCRYPT; TLS and SRTP work in place, on a copy."""
        ctypes.memmove(self._iv, request.iv, len(request.iv))
        ctypes.memmove(self._digest, request.tag, len(request.tag))
        size = len(request.src)
        if request.kind == AuthKind.SRTP and not (size or self._mac):
            # The driver takes no empty payload unless there is a size of a tag, which it ignores.
            return 0, b""
        auth, src, out = _address(request.auth), _address(request.src), _address(dst)
        whole = ctypes.create_string_buffer(0)
        if request.kind == AuthKind.TLS:
            dst[:size] = request.src
            src = out
        elif request.kind == AuthKind.SRTP:
            whole = ctypes.create_string_buffer(bytes(request.auth), max(len(request.auth), 1))
            auth = ctypes.addressof(whole)
            src = out = auth + request.offset
        operation = crypt_auth_op(
            ses=self._ses,
            op=request.op,
            flags=request.kind | self._write_iv,
            len=size,
            auth_len=len(request.auth),
            auth_src=auth,
            src=src,
            dst=out,
            tag=ctypes.addressof(self._digest),
            tag_len=request.tag_size,
            iv=ctypes.addressof(self._iv),
            iv_len=len(request.iv),
        )
        length: int = _ioctl(self._fd, "CIOCAUTHCRYPT", operation).len
        self._keep_iv()
        if length == size and self._has_bare_padding(request):
            raise OSError(errno.EBADMSG, "the padding is wrong")
        if request.kind != AuthKind.SRTP:
            return length, b""
        dst[:size] = whole.raw[request.offset : request.offset + size]
        made = request.tag_size if request.op == Cop.ENCRYPT else 0
        return size, self._digest.raw[:made]

    def _keep_iv(self) -> None:
        if self._write_iv:
            self.next_iv = self._iv.raw

    def _has_bare_padding(self, request: AuthRequest) -> bool:
        """The driver says 0 to a record with wrong padding and without a mac: its length stays."""
        opens = request.kind == AuthKind.TLS and request.op == Cop.DECRYPT
        return bool(opens and not self._mac and self._cipher and self._cipher.block_size > 1)

    def copy_hash(self, source: EngineSession) -> None:
        """CIOCCPHASH, but not between different hashes, which the driver does not check."""
        if not (isinstance(source, CryptodevSession) and source._mac and self._mac):
            raise OSError(errno.EINVAL, "no hash")
        self._start = source._start or source._mac.hash != self._mac.hash
        if not self._start:
            _ioctl(self._fd, "CIOCCPHASH", cphash_op(self._ses, source._ses))

    def names(self) -> tuple[str, str]:
        """The host's drivers, by CIOCGSESSINFO."""
        info = _ioctl(
            self._fd, "CIOCGSESSINFO", session_info_op(self._ses, b"", b"", b"", b"", 0, 0)
        )
        cipher, mac = (
            name.partition(b"\0")[0].decode("ascii", "replace")
            for name in (info.cipher_driver, info.hash_driver)
        )
        return cipher, mac

    def close(self) -> None:
        """End the session of the host."""
        _ioctl(self._fd, "CIOCFSESSION", number(self._ses))


class CryptodevFile:
    """An open file of the host's device."""

    def __init__(self) -> None:
        self._fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)

    def session(self, algorithms: Algorithms, keys: Keys) -> CryptodevSession:
        """EINVAL for what the host's kernel has not."""
        return CryptodevSession(self._fd, algorithms, keys)

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
            rows: list[Cipher | Mac] = [*CIPHERS.values(), *MACS.values()]
            self.algorithms = frozenset(row.id for row in rows if _works(file, row))
        finally:
            file.close()
        if not self.algorithms:
            raise Failure(f"{DEVICE} answers to no algorithm; use --engine openssl")

    def open(self) -> CryptodevFile:
        """A new open file of the host's device."""
        return CryptodevFile()


def _works(file: CryptodevFile, row: Cipher | Mac) -> bool:
    try:
        if isinstance(row, Mac):
            session = file.session(Algorithms(None, row), Keys(b"", _PROBE_KEY[: row.is_keyed]))
        else:
            key = _PROBE_KEY[: max(row.key_sizes)]
            session = file.session(Algorithms(row, None), Keys(key, b""))
        session.close()
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return False
        raise
    return True
