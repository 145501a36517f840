"""One CIOCCRYPT or CIOCASYNCCRYPT: the structure, and the memory that it points to.

That memory is the device's until it has answered: ``release`` comes after that, not before.
"""

import ctypes
from typing import TYPE_CHECKING, NamedTuple

from cuse_crypto.abi.structs import CopFlag, crypt_op
from cuse_crypto.client.buffers import Pin, new_bytes

if TYPE_CHECKING:
    from cuse_crypto.client.buffers import ReadableBuffer, WriteableBuffer

MAX_SIZE = 0xFFFFFFFF
"""Bytes of one operation: lengths are ``__u32``."""


class Shape(NamedTuple):
    """What a session asks of its operations. Sizes in bytes."""

    name: str
    iv_size: int
    block_size: int
    digest_size: int


class Outcome(NamedTuple):
    """What an operation gave."""

    output: bytes
    """The result; b"" if it was written into the caller's buffer."""
    size: int
    """Bytes of the result."""
    next_iv: bytes | None
    """Where the chain goes on, if an ``iv`` was given."""
    digest: bytes
    """Of the plaintext, for a session with a mac."""


class Operation:
    """``data`` encrypted or decrypted into ``out``, or into a bytes object of its own.

    TypeError for what is no buffer, ValueError for sizes that ``shape`` does not allow.
    """

    def __init__(
        self,
        ses: int,
        shape: Shape,
        op: int,
        data: "ReadableBuffer",
        out: "WriteableBuffer | None",
        iv: "ReadableBuffer | None",
    ) -> None:
        self._pins: list[Pin] = []
        try:
            source = self._pin(Pin(data, "data"))
            check_size("data", source.size, shape.block_size)
            self._output = new_bytes(source.size) if out is None else b""
            if out is None:
                target = self._pin(Pin(self._output, "out"))
            else:
                target = self._pin(Pin(out, "out", writable=True))
                check_room(source, source.size, target, source.size)
            self._iv = _iv_memory(shape, iv)
        except BaseException:
            self.release()
            raise
        # Not what has overwritten its own input, or began where the device alone knows.
        in_place = source.address == target.address and source.size > 0
        self.repeatable = not in_place and (iv is not None or not shape.iv_size)
        self._digest = ctypes.create_string_buffer(shape.digest_size) if shape.digest_size else None
        self.request = crypt_op(
            ses=ses,
            op=op,
            flags=self._flags(),
            len=source.size,
            src=source.address,
            dst=target.address,
            mac=ctypes.addressof(self._digest) if self._digest else 0,
            iv=ctypes.addressof(self._iv) if self._iv else 0,
        )

    def _pin(self, pin: Pin) -> Pin:
        self._pins.append(pin)
        return pin

    def _flags(self) -> int:
        flags = 0
        if self._iv:
            flags |= CopFlag.WRITE_IV
        if self._digest:
            # With any other flag alone cryptodev-linux goes on with the hash of the last operation.
            flags |= CopFlag.RESET
        return flags

    def outcome(self) -> Outcome:
        """The result, once the device has answered without an error."""
        next_iv = self._iv.raw if self._iv else None
        digest = self._digest.raw if self._digest else b""
        return Outcome(self._output, self.request.len, next_iv, digest)

    def release(self) -> None:
        """Let go of the caller's objects. Again is harmless."""
        for pin in self._pins:
            pin.release()


def check_size(name: str, size: int, block_size: int = 1) -> None:
    """ValueError for a length that no operation can have."""
    if size % block_size:
        raise ValueError(f"the size of {name} is a multiple of {block_size}, not {size}")
    if size > MAX_SIZE:
        raise ValueError(f"{name} has at most {MAX_SIZE} bytes in one operation, not {size}")


def check_room(source: Pin, size: int, target: Pin, room: int) -> None:
    """ValueError for a target of fewer than ``room`` bytes, or one that meets ``source`` halfway.

    The driver would overwrite what it has not read yet.
    """
    if target.size < room:
        raise ValueError(f"out needs room for {room} bytes, and has {target.size}")
    if source.overlaps(size, target, room):
        raise ValueError("out is either data itself or does not overlap with it")


def _iv_memory(shape: Shape, iv: "ReadableBuffer | None") -> "ctypes.Array[ctypes.c_char] | None":
    if iv is None:
        return None
    with Pin(iv, "iv") as given:
        if given.size != shape.iv_size:
            raise ValueError(f"{shape.name} takes an iv of {shape.iv_size} bytes, not {given.size}")
        return ctypes.create_string_buffer(given.copy(), given.size) if given.size else None
