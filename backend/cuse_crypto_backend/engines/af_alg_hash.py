"""The kernel's hashes by AF_ALG sockets, with hashlib's interface.

An operation that is accepted from another one starts with the other's state: that is the copy.
Source: Linux, crypto/algif_hash.c.
"""

import socket

from cuse_crypto.abi.algorithms import Mac
from cuse_crypto.layout import Buffer
from cuse_crypto_backend.engines.af_alg_sockets import bound
from cuse_crypto_backend.engines.hashing import Hash

_LARGE_BLOCKS = ("sha384", "sha512")


class KernelHash:
    """A hash under way; one descriptor, given back with the object, as hashlib's objects are."""

    def __init__(self, operation: socket.socket, mac: Mac) -> None:
        self._operation = operation
        self._mac = mac
        self.block_size = 128 if mac.hash in _LARGE_BLOCKS else 64

    @classmethod
    def new(cls, mac: Mac, data: Buffer = b"") -> "KernelHash":
        """The hash of ``data`` so far; OSError(ENOENT) for what the kernel lacks."""
        with bound("hash", mac.hash) as algorithm:
            fresh = cls(algorithm.accept()[0], mac)
        fresh.update(data)
        return fresh

    def update(self, data: Buffer) -> None:
        """Hash more."""
        if len(data):
            self._operation.sendall(data, socket.MSG_MORE)

    def digest(self) -> bytes:
        """Of what was hashed so far."""
        # The kernel forgets the state that it gives the digest of.
        with self._operation.accept()[0] as last:
            return last.recv(self._mac.digest_size)

    def copy(self) -> "KernelHash":
        """Another one that goes on from here."""
        return KernelHash(self._operation.accept()[0], self._mac)

    def __del__(self) -> None:
        self._operation.close()


class KernelMac(Hash):
    """A session's hash or HMAC, computed by the kernel.

    Not by its ``hmac(...)``: the inner hash of that could not be copied to another key's.
    """

    new = staticmethod(KernelHash.new)
