"""Authenticated encryption: CIOCAUTHCRYPT on an AEAD session (GCM, CCM)."""

import ctypes
import errno
from typing import TYPE_CHECKING

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.structs import Cop, crypt_auth_op
from cuse_crypto.client.buffers import Pin, new_bytes
from cuse_crypto.client.open_file import OpenFile
from cuse_crypto.client.operation import check_room, check_size
from cuse_crypto.client.session import Session

if TYPE_CHECKING:
    from cuse_crypto.client.buffers import ReadableBuffer, WriteableBuffer

MAX_AAD = 4096
"""Bytes that may be authenticated without being encrypted: the driver's limit, one page."""


class InvalidTag(ValueError):
    """What was opened is not what was sealed: other key, nonce, aad or tag, or changed data."""


class Aead(Session):
    """An AEAD with its key. A nonce must never be used twice with the same key.

    ``nonce`` has 12 bytes for GCM, and 7 to 13 for CCM, where a longer nonce leaves shorter
    messages (RFC 3610: 15 - len(nonce) bytes hold their length; 13 allow 65,535 bytes).
    ``aad`` is authenticated and not encrypted, at most 4096 bytes. ``data`` is any bytes-like
    object, and is not copied. The sealed form is the ciphertext followed by the tag.

    Threads may share it. Errors: TypeError for what is no buffer, ValueError for sizes and for a
    closed session, InvalidTag, OSError with the device's errno.
    """

    def __init__(
        self, file: OpenFile, cipher: Cipher, key: "ReadableBuffer", tag_size: int = 16
    ) -> None:
        # The driver crashes on a size that the mode does not allow.
        if tag_size not in cipher.tag_sizes:
            allowed = ", ".join(map(str, cipher.tag_sizes))
            raise ValueError(f"a tag of {cipher.mode.upper()} has {allowed} bytes, not {tag_size}")
        super().__init__(file, cipher=cipher, key=key)
        self.tag_size = tag_size
        self._mode = cipher.mode
        self._iv_size = cipher.iv_size

    def seal(
        self, nonce: "ReadableBuffer", data: "ReadableBuffer", aad: "ReadableBuffer" = b""
    ) -> bytes:
        """The ciphertext and the tag: ``len(data) + tag_size`` bytes."""
        with Pin(data, "data") as source:
            sealed = new_bytes(source.size + self.tag_size)
            with Pin(sealed, "out") as target:
                self._crypt(Cop.ENCRYPT, nonce, source, target, aad)
        return sealed

    def open(
        self, nonce: "ReadableBuffer", data: "ReadableBuffer", aad: "ReadableBuffer" = b""
    ) -> bytes:
        """The plaintext of what ``seal`` gave: ``len(data) - tag_size`` bytes, or InvalidTag."""
        with Pin(data, "data") as source:
            # The driver asks for room for the tag as well; the plaintext is cut out of it.
            plain = bytearray(source.size)
            with Pin(plain, "out", writable=True) as target:
                size = self._crypt(Cop.DECRYPT, nonce, source, target, aad)
        return bytes(memoryview(plain)[:size])

    def seal_into(
        self,
        nonce: "ReadableBuffer",
        data: "ReadableBuffer",
        out: "WriteableBuffer",
        aad: "ReadableBuffer" = b"",
    ) -> int:
        """Write ciphertext and tag to the beginning of ``out``; their length in bytes.

        ``out`` may share its memory with ``data`` if both begin at the same address.
        """
        with Pin(data, "data") as source, Pin(out, "out", writable=True) as target:
            return self._crypt(Cop.ENCRYPT, nonce, source, target, aad)

    def open_into(
        self,
        nonce: "ReadableBuffer",
        data: "ReadableBuffer",
        out: "WriteableBuffer",
        aad: "ReadableBuffer" = b"",
    ) -> int:
        """Write the plaintext to the beginning of ``out``; its length in bytes.

        ``out`` needs room for ``len(data)`` bytes (the driver's rule) and may be ``data`` itself.
        With InvalidTag these bytes are zeros: the driver has written a plaintext there.
        """
        with Pin(data, "data") as source, Pin(out, "out", writable=True) as target:
            try:
                return self._crypt(Cop.DECRYPT, nonce, source, target, aad)
            except InvalidTag:
                target.clear(source.size)
                raise

    def _crypt(
        self, op: int, nonce: "ReadableBuffer", source: Pin, target: Pin, aad: "ReadableBuffer"
    ) -> int:
        room = source.size + (self.tag_size if op == Cop.ENCRYPT else 0)
        check_size("data", room)
        check_room(source, source.size, target, room)
        if op == Cop.DECRYPT and source.size < self.tag_size:
            raise InvalidTag("shorter than a tag")
        iv = self._iv(nonce, room - self.tag_size)
        with Pin(aad, "aad") as associated:
            if associated.size > MAX_AAD:
                raise ValueError(f"aad has at most {MAX_AAD} bytes, not {associated.size}")
            request = crypt_auth_op(
                ses=self.id,
                op=op,
                len=source.size,
                auth_len=associated.size,
                auth_src=associated.address,
                src=source.address,
                dst=target.address,
                tag_len=self.tag_size,
                iv=ctypes.addressof(iv),
                iv_len=self._iv_size,
            )
            try:
                return self._file.call("CIOCAUTHCRYPT", request).len
            except OSError as error:
                if error.errno != errno.EBADMSG:
                    raise
                raise InvalidTag("the tag does not match") from None

    def _iv(self, nonce: "ReadableBuffer", size: int) -> "ctypes.Array[ctypes.c_char]":
        with Pin(nonce, "nonce") as given:
            value = given.copy()
        if self._mode == "ccm":
            value = _ccm_iv(value, size)
        if len(value) != self._iv_size:
            raise ValueError(
                f"{self.name} takes a nonce of {self._iv_size} bytes, not {len(value)}"
            )
        return ctypes.create_string_buffer(value, self._iv_size)


def _ccm_iv(nonce: bytes, size: int) -> bytes:
    """L - 1, the nonce, a counter of L bytes (RFC 3610 section 2.3); L bytes hold the length."""
    width = 15 - len(nonce)
    if not 2 <= width <= 8:
        raise ValueError(f"CCM takes a nonce of 7 to 13 bytes, not {len(nonce)}")
    if size >> 8 * width:
        limit = (1 << 8 * width) - 1
        raise ValueError(
            f"with a nonce of {len(nonce)} bytes CCM takes at most {limit} bytes, not {size}"
        )
    return bytes([width - 1]) + nonce + bytes(width)
