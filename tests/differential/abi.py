"""What a caller and the device say to each other: ioctl numbers, structures, memory.

Of 64-bit programs, from the record of the driver; nothing of the project is imported. Sizes are in
bytes, addresses are the caller's.
"""

import struct
from errno import EFAULT
from typing import NamedTuple

UPDATE, FINAL, WRITE_IV, NO_ZC, TLS, SRTP, RESET = (1 << bit for bit in range(7))
# fmt: off
NUMBERS = {
    "CIOCGSESSION": 0xC0306366, "CIOCFSESSION": 0x40046367, "CIOCCRYPT": 0xC0306368,
    "CIOCASYMFEAT": 0x8004636A, "CIOCGSESSINFO": 0xC10C636B, "CIOCAUTHCRYPT": 0xC048636D,
    "CIOCASYNCCRYPT": 0x4030636E, "CIOCASYNCFETCH": 0x8030636F, "CIOCCPHASH": 0x40086370,
}
"""Of 64-bit programs."""
FORMS = {
    "CIOCGSESSION": struct.Struct("=3I4xQI4xQI4x"), "CIOCFSESSION": struct.Struct("=I"),
    "CIOCCRYPT": struct.Struct("=IHHI4x4Q"), "CIOCASYNCCRYPT": struct.Struct("=IHHI4x4Q"),
    "CIOCASYNCFETCH": struct.Struct("=IHHI4x4Q"), "CIOCAUTHCRYPT": struct.Struct("=IHHII4QI4xQI4x"),
    "CIOCGSESSINFO": struct.Struct("=I64s64s64s64sHxxI"), "CIOCCPHASH": struct.Struct("=2I"),
    "CIOCASYMFEAT": struct.Struct("=I"),
}
# fmt: on
SES_AT, AUTH_LEN_AT, AUTH_TAG_AT, AUTH_TAG_LEN_AT = 40, 8, 40, 48


class Refused(Exception):
    """The errno of an ioctl that fails."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


Write = tuple[int, bytes]
"""Bytes for an address."""


class Memory:
    """The caller's: from ``base`` on what may be written, then what may be read, then nothing."""

    def __init__(self, base: int, data: bytearray, writable: int) -> None:
        self.base, self.data, self.writable = base, data, writable
        self.unsure: list[Write] = []
        """After a fault: what may have been written before it, or not."""

    def read(self, address: int, size: int, error: int = EFAULT) -> bytes:
        """Refused with ``error`` if a byte is missing."""
        at = address - self.base
        if size and not 0 <= at <= at + size <= len(self.data):
            raise Refused(error)
        return bytes(self.data[at : at + size]) if size else b""

    def can_write(self, address: int, size: int) -> bool:
        """All of it."""
        return not size or 0 <= address - self.base <= self.writable - size

    def write(self, *writes: Write, first: int = EFAULT) -> None:
        """In this order; Refused at the first that is not there, with ``first`` for number one."""
        for index, (address, data) in enumerate(writes):
            if not self.can_write(address, len(data)):
                self.unsure = list(writes[: index + 1])
                raise Refused(EFAULT if index else first)
        for address, data in writes:
            self.data[address - self.base : address - self.base + len(data)] = data


class Crypt(NamedTuple):
    """``struct crypt_op``."""

    ses: int
    op: int
    flags: int
    len: int
    src: int
    dst: int
    mac: int
    iv: int


class Auth(NamedTuple):
    """``struct crypt_auth_op``."""

    ses: int
    op: int
    flags: int
    len: int
    auth_len: int
    auth_src: int
    src: int
    dst: int
    tag: int
    tag_len: int
    iv: int
    iv_len: int
