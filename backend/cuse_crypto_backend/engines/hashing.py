"""Hashes and HMACs in OpenSSL, through hashlib, with a state that can go on and be copied.

HMAC is made from its hash (RFC 2104), for the driver lets a session take over the inner hash of
another, whatever its key.
"""

import errno
import hashlib
from typing import Any

from cuse_crypto.abi.algorithms import Mac
from cuse_crypto.layout import Buffer

_NAMES = {"rmd160": "ripemd160"}
"""Where hashlib's name is not the kernel's."""


def new(mac: Mac, data: Buffer = b"") -> Any:
    """A hashlib object; OSError(EINVAL) where this OpenSSL has it not."""
    try:
        return hashlib.new(_NAMES.get(mac.hash, mac.hash), data, usedforsecurity=False)
    except ValueError:
        raise OSError(errno.EINVAL, f"OpenSSL has no {mac.hash} here") from None


class Hash:
    """A hash under way. ``None`` for the state means: nothing hashed yet."""

    new = staticmethod(new)
    """Makes what hashes: with hashlib's ``update``, ``digest``, ``copy`` and ``block_size``."""

    def __init__(self, mac: Mac, key: bytes) -> None:
        new = self.new
        self.mac = mac
        self._state: Any = None
        self._inner = self._outer = new(mac)
        if mac.is_keyed:
            size = self._inner.block_size
            secret = (new(mac, key).digest() if len(key) > size else key).ljust(size, b"\0")
            self._inner = new(mac, bytes(byte ^ 0x36 for byte in secret))
            self._outer = new(mac, bytes(byte ^ 0x5C for byte in secret))

    def start(self) -> None:
        """Forget what was hashed."""
        self._state = None

    def update(self, data: Buffer) -> None:
        """Hash more."""
        if self._state is None:
            self._state = self._inner.copy()
        self._state.update(data)

    def finish(self) -> bytes:
        """The digest, ``mac.digest_size`` bytes; what comes next starts afresh."""
        state, self._state = self._state or self._inner, None
        if not self.mac.is_keyed:
            return bytes(state.digest())
        outer = self._outer.copy()
        outer.update(state.digest())
        return bytes(outer.digest())

    def copy(self, source: "Hash") -> None:
        """Go on from where ``source`` is; from the start if that is another hash altogether."""
        self._state = None
        if source._state is not None and source.mac.hash == self.mac.hash:
            self._state = source._state.copy()

    def digest(self, *parts: Buffer) -> bytes:
        """The digest of ``parts`` alone; the hash under way is not touched."""
        mine, self._state = self._state, None
        for part in parts:
            self.update(part)
        try:
            return self.finish()
        finally:
            self._state = mine
