"""Ciphers: CIOCCRYPT on a session that has a cipher, and perhaps a mac beside it."""

from typing import TYPE_CHECKING

from cuse_crypto.abi.algorithms import Cipher, Mac
from cuse_crypto.abi.structs import Cop
from cuse_crypto.client.open_file import OpenFile
from cuse_crypto.client.operation import Operation, Outcome, Shape
from cuse_crypto.client.session import Session

if TYPE_CHECKING:
    from cuse_crypto.client.buffers import ReadableBuffer, WriteableBuffer


class CipherSession(Session):
    """A cipher with its key.

    ``data`` is any bytes-like object, and is not copied; its length is a multiple of ``block_size``
    and below 4 GiB. ``iv`` has ``iv_size`` bytes. Without one the device goes on where the last
    operation of the session ended; a fresh session begins with zeros.

    Threads may share a session as long as each operation has its own ``iv``; ``next_iv`` and
    ``digest`` are then those of whichever operation ended last.

    Errors: TypeError for what is no buffer, ValueError for sizes and for a closed session, OSError
    with the device's errno. InterruptedError if a signal ended an operation that cannot be made
    again: one in place, or without ``iv``; data and chain are then undefined.
    """

    next_iv: bytes | None = None
    """Where the next operation would go on, as the device told (COP_FLAG_WRITE_IV).

    None after an operation without ``iv`` (then only the device knows), and for ciphers without
    one. ``iv=session.next_iv`` is therefore the chain for whoever wants to see it.
    """

    digest: bytes = b""
    """Of the plaintext of the last operation; b"" for a session without a mac.

    After a decryption compare it with ``hmac.compare_digest`` before the plaintext is used.
    """

    def __init__(
        self,
        file: OpenFile,
        cipher: Cipher,
        key: "ReadableBuffer",
        mac: Mac | None = None,
        mac_key: "ReadableBuffer" = b"",
    ) -> None:
        super().__init__(file, cipher=cipher, key=key, mac=mac, mac_key=mac_key)
        self.iv_size = cipher.iv_size
        self.block_size = cipher.block_size
        self.digest_size = mac.digest_size if mac else 0
        self._shape = Shape(self.name, self.iv_size, self.block_size, self.digest_size)

    def encrypt(self, data: "ReadableBuffer", iv: "ReadableBuffer | None" = None) -> bytes:
        """The ciphertext, as long as ``data``."""
        return self._crypt(Cop.ENCRYPT, data, None, iv).output

    def decrypt(self, data: "ReadableBuffer", iv: "ReadableBuffer | None" = None) -> bytes:
        """The plaintext, as long as ``data``."""
        return self._crypt(Cop.DECRYPT, data, None, iv).output

    def encrypt_into(
        self, data: "ReadableBuffer", out: "WriteableBuffer", iv: "ReadableBuffer | None" = None
    ) -> int:
        """Write the ciphertext to the beginning of ``out``; its length in bytes.

        ``out`` may be ``data`` itself. It may not share a part of its memory.
        """
        return self._crypt(Cop.ENCRYPT, data, out, iv).size

    def decrypt_into(
        self, data: "ReadableBuffer", out: "WriteableBuffer", iv: "ReadableBuffer | None" = None
    ) -> int:
        """Write the plaintext to the beginning of ``out``, as ``encrypt_into`` does."""
        return self._crypt(Cop.DECRYPT, data, out, iv).size

    def _crypt(
        self,
        op: int,
        data: "ReadableBuffer",
        out: "WriteableBuffer | None",
        iv: "ReadableBuffer | None",
    ) -> Outcome:
        operation = self.operation(self._file, op, data, out, iv)
        try:
            self._file.call("CIOCCRYPT", operation.request, repeatable=operation.repeatable)
            return self.completed(operation)
        finally:
            operation.release()

    def operation(
        self,
        file: OpenFile,
        op: int,
        data: "ReadableBuffer",
        out: "WriteableBuffer | None",
        iv: "ReadableBuffer | None",
    ) -> Operation:
        """What is to be submitted to ``file``; for AsyncQueue."""
        if file is not self._file:
            raise ValueError(f"this session of {self.name} is another device's")
        return Operation(self.id, self._shape, op, data, out, iv)

    def completed(self, operation: Operation) -> Outcome:
        """Take note of what the device has done; for AsyncQueue."""
        outcome = operation.outcome()
        self.next_iv, self.digest = outcome.next_iv, outcome.digest
        return outcome
