"""Hashes and HMACs with the interface of hashlib and hmac: CIOCCRYPT and CIOCCPHASH."""

import ctypes
from typing import TYPE_CHECKING

from cuse_crypto.abi.algorithms import Mac
from cuse_crypto.abi.structs import CopFlag, cphash_op, crypt_op
from cuse_crypto.client.buffers import Pin
from cuse_crypto.client.open_file import OpenFile
from cuse_crypto.client.session import Session

if TYPE_CHECKING:
    from cuse_crypto.client.buffers import ReadableBuffer

_PIECE = 4 << 20
"""Bytes hashed by one ioctl: it ends before a node of cuse-crypto lets a signal interrupt it."""


class Hash(Session):
    """A hash of hashlib's interface, or an HMAC of hmac.HMAC's, computed by the device.

    ``name`` is such as ``"sha256"`` or ``"hmac-sha256"``. ``digest`` works on a copy of the state,
    so that ``update`` may follow. Nothing needs to be closed: the session ends with the object.
    A key is kept, since each copy is a session that begins with it.

    One thread at a time. Errors: TypeError for what is no buffer, ValueError once it is closed,
    OSError with the device's errno, which also closes it; EIO if the state has been lost.
    """

    def __init__(
        self, file: OpenFile, mac: Mac, key: bytes = b"", data: "ReadableBuffer" = b""
    ) -> None:
        super().__init__(file, mac=mac, mac_key=key)
        self._mac, self._key = mac, key
        self.update(data)

    @property
    def digest_size(self) -> int:
        """Bytes of the digest."""
        return self._mac.digest_size

    @property
    def block_size(self) -> int:
        """Bytes that the algorithm takes at a time (FIPS 180-4: 128 from SHA-384 on, else 64)."""
        return 128 if self.digest_size > 32 else 64

    def update(self, data: "ReadableBuffer") -> None:
        """Add ``data``, any bytes-like object of any length; it is not copied."""
        with Pin(data, "data") as source:
            ses = self.id
            # Nothing for no data: the driver takes an empty UPDATE for a FINAL.
            for offset in range(0, source.size, _PIECE):
                size = min(_PIECE, source.size - offset)
                address = source.address + offset
                request = crypt_op(ses=ses, flags=CopFlag.UPDATE, len=size, src=address)
                try:
                    self._file.call("CIOCCRYPT", request)
                except OSError:
                    # What has been hashed is not known, and must not become a wrong digest.
                    self.close()
                    raise

    def digest(self) -> bytes:
        """The digest of all that was added: ``digest_size`` bytes."""
        with self.copy() as scratch:
            return scratch._finish()

    def hexdigest(self) -> str:
        """``digest`` in hexadecimal."""
        return self.digest().hex()

    def copy(self) -> "Hash":
        """Another object with the same state, which goes its own way (CIOCCPHASH)."""
        source = self.id
        twin = Hash(self._file, self._mac, self._key)
        self._file.call("CIOCCPHASH", cphash_op(dst_ses=twin.id, src_ses=source))
        return twin

    def _finish(self) -> bytes:
        digest = ctypes.create_string_buffer(self.digest_size)
        address = ctypes.addressof(digest)
        self._file.call("CIOCCRYPT", crypt_op(ses=self.id, flags=CopFlag.FINAL, mac=address))
        return digest.raw
