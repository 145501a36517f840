"""The device: what a program opens, and what everything else comes from."""

import errno
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.abi.structs import CRYPTO_HMAC_MAX_KEY_LEN
from cuse_crypto.client import algorithms
from cuse_crypto.client.aead import Aead
from cuse_crypto.client.cipher import CipherSession
from cuse_crypto.client.hash import Hash
from cuse_crypto.client.open_file import OpenFile
from cuse_crypto.client.session import Session

if TYPE_CHECKING:
    from cuse_crypto.client.buffers import ReadableBuffer
    from cuse_crypto.client.queue import AsyncQueue


class CryptoDevice:
    """An open crypto device: a node of cuse-crypto, or ``/dev/crypto`` of cryptodev-linux.

    ::

        with CryptoDevice("/dev/cryptodev0") as device, device.cipher("aes-cbc", key) as session:
            secret = session.encrypt(data, iv=iv)

    Sessions belong to it, and end with it. Threads may share it; ``close`` must wait until none
    of them is in a call. After a fork parent and child share the sessions.

    FileNotFoundError and PermissionError name the remedy; other OSErrors have the device's errno.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = OpenFile(path)
        self._algorithms: Mapping[str, Cipher | Mac] | None = None

    def cipher(
        self,
        name: str,
        key: "ReadableBuffer" = b"",
        *,
        mac: str | None = None,
        mac_key: "ReadableBuffer" = b"",
    ) -> CipherSession:
        """A session of ``"aes-cbc"``, ``"aes-ctr"``, ``"3des-cbc"``, ...; ``key`` in bytes.

        With ``mac``, a hash or an HMAC such as ``"hmac-sha256"``, each operation also gives the
        digest of its plaintext. ValueError for an unknown name or a key of a wrong size;
        OSError(EINVAL) if the device does not offer it.
        """
        row = algorithms.find_cipher(name)
        mac_row = algorithms.find_mac(mac) if mac is not None else None
        return CipherSession(self._file, row, key, mac_row, mac_key)

    def hash(self, name: str, data: "ReadableBuffer" = b"") -> Hash:
        """As ``hashlib.new(name, data)``: ``"sha256"``, ``"md5"``, ``"ripemd160"``, ..."""
        return Hash(self._file, algorithms.find_hash(name), b"", data)

    def hmac(self, name: str, key: "ReadableBuffer", data: "ReadableBuffer" = b"") -> Hash:
        """As ``hmac.new(key, data, name)``; the name of the hash, or ``"hmac-sha256"``."""
        row = algorithms.find_hmac(name)
        secret = bytes(memoryview(key))
        if len(secret) > CRYPTO_HMAC_MAX_KEY_LEN:
            # A key longer than a block stands for its hash: RFC 2104 section 2.
            name = algorithms.human_name(row).removeprefix("hmac-")
            with self.hash(name, secret) as hashed:
                secret = hashed.digest()
        return Hash(self._file, row, secret, data)

    def aead(self, name: str, key: "ReadableBuffer", tag_size: int = 16) -> Aead:
        """``"aes-gcm"`` or ``"aes-ccm"``, with tags of ``tag_size`` bytes (4 to 16)."""
        return Aead(self._file, algorithms.find_aead(name), key, tag_size)

    def algorithms(self) -> Mapping[str, Cipher | Mac]:
        """What this device offers: name to row, which tells sizes in bytes.

        ``device.algorithms()["aes-cbc"].key_sizes`` is ``(16, 24, 32)``. Found by trying each one
        with CIOCGSESSION; tried once.
        """
        if self._algorithms is None:
            rows: tuple[Cipher | Mac, ...] = (*CIPHERS.values(), *MACS.values())
            found = {algorithms.human_name(row): row for row in self._offered(rows)}
            self._algorithms = MappingProxyType(found)
        return self._algorithms

    def _offered(self, rows: tuple[Cipher | Mac, ...]) -> Iterator[Cipher | Mac]:
        for row in rows:
            try:
                self._session(row).close()
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                yield row

    def _session(self, row: Cipher | Mac) -> Session:
        if isinstance(row, Mac):
            return Session(self._file, mac=row)
        # Bytes that differ: XTS with two equal halves is refused by some.
        return Session(self._file, cipher=row, key=bytes(range(row.key_sizes[0])))

    def async_queue(self) -> "AsyncQueue":
        """Operations in flight under trio: ``async with device.async_queue() as queue: ...``.

        One at a time for a device: entering a second one is a ValueError.
        """
        from cuse_crypto.client.queue import AsyncQueue

        return AsyncQueue(self._file)

    @property
    def path(self) -> str:
        """What was opened."""
        return self._file.path

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._file.closed

    def fileno(self) -> int:
        """The descriptor. ValueError once it is closed."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the device, and with it all its sessions. Again is harmless.

        ValueError while an AsyncQueue is open: the device still writes to memory.
        """
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<CryptoDevice {self.path}{', closed' if self.closed else ''}>"
