"""A session of the device: an algorithm with its key, from CIOCGSESSION to CIOCFSESSION."""

import contextlib
import errno
import os
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from cuse_crypto.abi.algorithms import Cipher, Mac
from cuse_crypto.abi.structs import CRYPTO_HMAC_MAX_KEY_LEN, number, session_info_op, session_op
from cuse_crypto.client.algorithms import human_name
from cuse_crypto.client.buffers import Pin
from cuse_crypto.client.open_file import OpenFile

if TYPE_CHECKING:
    from cuse_crypto.client.buffers import ReadableBuffer

_SIOP_FLAG_KERNEL_DRIVER_ONLY = 1
"""``session_info_op.flags``: hardware computes, which ordinary instructions cannot reach."""


class SessionInfo(NamedTuple):
    """Who computes: names of the kernel's crypto API, "" for what the session does not have."""

    cipher: str
    """Such as ``"cbc(aes)"``."""
    cipher_driver: str
    """Such as ``"cbc-aes-aesni"``."""
    hash: str
    hash_driver: str
    alignmask: int
    """Buffers at multiples of ``alignmask + 1`` bytes are fastest."""
    kernel_driver_only: bool
    """Hardware computes that a program cannot reach by itself."""


class Session:
    """What ciphers, hashes and AEADs have in common; made by CryptoDevice, not by itself.

    Ends with ``close``, the ``with`` block, the device, or when nobody refers to it any more.
    """

    _id: int | None = None

    def __init__(
        self,
        file: OpenFile,
        *,
        cipher: Cipher | None = None,
        key: "ReadableBuffer" = b"",
        mac: Mac | None = None,
        mac_key: "ReadableBuffer" = b"",
    ) -> None:
        self._file = file
        self._pid = os.getpid()
        self.name = "+".join(human_name(row) for row in (cipher, mac) if row)
        with Pin(key, "key") as secret, Pin(mac_key, "mac_key") as mac_secret:
            _check_keys(cipher, secret.size, mac, mac_secret.size)
            request = session_op(
                cipher=cipher.id if cipher else 0,
                mac=mac.id if mac else 0,
                keylen=secret.size,
                key=secret.address,
                mackeylen=mac_secret.size,
                mackey=mac_secret.address,
            )
            try:
                self._id = file.call("CIOCGSESSION", request).ses
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                reason = f"the device does not offer {self.name}, or not with this key"
                raise file.error(errno.EINVAL, "CIOCGSESSION", reason) from None

    @property
    def id(self) -> int:
        """The device's number for it. ValueError once it is closed."""
        if self._id is None:
            raise ValueError(f"this session of {self.name} is closed")
        return self._id

    def info(self) -> SessionInfo:
        """Which implementation computes (CIOCGSESSINFO). OSError with the device's errno."""
        blank = session_info_op(self.id, b"", b"", b"", b"", 0, 0)
        answer = self._file.call("CIOCGSESSINFO", blank)
        return SessionInfo(
            _text(answer.cipher_name),
            _text(answer.cipher_driver),
            _text(answer.hash_name),
            _text(answer.hash_driver),
            answer.alignmask,
            bool(answer.flags & _SIOP_FLAG_KERNEL_DRIVER_ONLY),
        )

    def close(self) -> None:
        """Let the device forget key and state (CIOCFSESSION). Again is harmless."""
        ses, self._id = self._id, None
        if ses is not None and not self._file.closed:
            # A device that has died has forgotten it as well.
            with contextlib.suppress(OSError):
                self._file.call("CIOCFSESSION", number(ses))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A forked child shares the parent's sessions, and must not end them in passing.
        if self._id is not None and self._pid == os.getpid():
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._id is None else f"session {self._id:#x} of {self._file.path}"
        return f"<{type(self).__name__} {self.name}, {state}>"


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("ascii", "replace")


def _check_keys(cipher: Cipher | None, size: int, mac: Mac | None, mac_size: int) -> None:
    if cipher and size not in cipher.key_sizes:
        sizes = [str(one) for one in cipher.key_sizes]
        allowed = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 3 else " or ".join(sizes)
        raise ValueError(f"{human_name(cipher)} takes a key of {allowed} bytes, not {size}")
    if mac_size and not (mac and mac.is_keyed):
        raise ValueError("a mac_key is for an HMAC only")
    if mac_size > CRYPTO_HMAC_MAX_KEY_LEN:
        limit = CRYPTO_HMAC_MAX_KEY_LEN
        raise ValueError(f"an HMAC's key has at most {limit} bytes, not {mac_size}")
