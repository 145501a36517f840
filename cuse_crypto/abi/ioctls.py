"""The ioctls of the cryptodev API: one row each, from which number, size and dispatch follow.

A row names the members that point to more of the caller's memory: ``readable`` is what the driver
reads, ``writable`` what it writes, each with the length that goes with it (a member of the same
structure, or a property of the session: ``iv_size``).
"""

from functools import cache
from typing import Any, NamedTuple

from cuse_crypto.abi.structs import (
    cphash_op,
    crypt_auth_op,
    crypt_op,
    number,
    session_info_op,
    session_op,
)
from cuse_crypto.layout import Layout, Width

CALLER_WRITES = 1
"""The caller writes, the driver reads."""
CALLER_READS = 2
"""The driver writes, the caller reads."""


class Segment(NamedTuple):
    """Memory of the caller, reached by the pointer member ``pointer``, ``length`` bytes long."""

    pointer: str
    length: str


class Ioctl(NamedTuple):
    """One request of the API."""

    name: str
    nr: int
    direction: int
    argument: type[Any]
    readable: tuple[Segment, ...] = ()
    writable: tuple[Segment, ...] = ()
    type: str = "c"
    compat_nr: int | None = None
    """Another ``nr`` for 32-bit programs: the driver's, where its header says otherwise."""

    def number(self, width: Width) -> int:
        """The request number that a program of that pointer width passes: ``_IOC(...)``."""
        return self._number(self.nr, width)

    def numbers(self, width: Width) -> set[int]:
        """All the numbers that are taken from a program of that pointer width."""
        taken = {self.number(width)}
        if width == 32 and self.compat_nr is not None:
            taken.add(self._number(self.compat_nr, width))
        return taken

    def _number(self, nr: int, width: Width) -> int:
        return self.direction << 30 | layout_of(self, width).size << 16 | ord(self.type) << 8 | nr


@cache
def layout_of(ioctl: Ioctl, width: Width) -> Layout[Any]:
    """The argument structure as a program of that pointer width lays it out."""
    return Layout(ioctl.argument, width)


# CIOCKEY has no row: the driver does not implement it, and it answers EINVAL like any unknown one.
# fmt: off
IOCTLS = (
    Ioctl("CRIOGET",       101, CALLER_READS | CALLER_WRITES, number),
    Ioctl("CIOCGSESSION",  102, CALLER_READS | CALLER_WRITES, session_op,
          readable=(Segment("key", "keylen"), Segment("mackey", "mackeylen"))),
    Ioctl("CIOCFSESSION",  103, CALLER_WRITES, number),
    Ioctl("CIOCCRYPT",     104, CALLER_READS | CALLER_WRITES, crypt_op,
          readable=(Segment("iv", "iv_size"), Segment("src", "len")),
          writable=(Segment("dst", "len"), Segment("mac", "digest_size"),
                    Segment("iv", "iv_size"))),
    Ioctl("CIOCASYMFEAT",  106, CALLER_READS, number),
    Ioctl("CIOCGSESSINFO", 107, CALLER_READS | CALLER_WRITES, session_info_op),
    Ioctl("CIOCAUTHCRYPT", 109, CALLER_READS | CALLER_WRITES, crypt_auth_op,
          readable=(Segment("iv", "iv_size"), Segment("auth_src", "auth_len"),
                    Segment("src", "len"), Segment("tag", "tag_len")),
          writable=(Segment("dst", "len"), Segment("tag", "tag_len"),
                    Segment("iv", "iv_size"))),
    Ioctl("CIOCASYNCCRYPT", 110, CALLER_WRITES, crypt_op,
          readable=(Segment("iv", "iv_size"), Segment("src", "len")),
          writable=(Segment("dst", "len"),), compat_nr=107),
    Ioctl("CIOCASYNCFETCH", 111, CALLER_READS, crypt_op,
          writable=(Segment("mac", "digest_size"), Segment("iv", "iv_size")), compat_nr=108),
    Ioctl("CIOCCPHASH",    112, CALLER_WRITES, cphash_op),
)
# fmt: on


def by_number(rows: tuple[Ioctl, ...], width: Width) -> dict[int, Ioctl]:
    """The rows by the number that a program of that pointer width passes."""
    return {taken: ioctl for ioctl in rows for taken in ioctl.numbers(width)}
