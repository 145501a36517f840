"""The ioctls of the cryptodev API: one row each, from which number, size and dispatch follow.

A row names the members that point to more of the caller's memory: ``readable`` is what the driver
reads, ``writable`` what it writes, each with the length that goes with it (a member of the same
structure, or a property of the session: ``iv_size``).
"""

from functools import cache
from typing import Any, NamedTuple

from cuse_crypto.abi.structs import crypt_op, session_id, session_op
from cuse_crypto.layout import Layout, Width

_IOC_WRITE = 1
"""The caller writes, the driver reads."""
_IOC_READ = 2
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

    def number(self, width: Width) -> int:
        """The request number that a program of that pointer width passes: ``_IOC(...)``."""
        size = layout_of(self, width).size
        return self.direction << 30 | size << 16 | ord("c") << 8 | self.nr


@cache
def layout_of(ioctl: Ioctl, width: Width) -> Layout[Any]:
    """The argument structure as a program of that pointer width lays it out."""
    return Layout(ioctl.argument, width)


# fmt: off
IOCTLS = (
    Ioctl("CIOCGSESSION", 102, _IOC_READ | _IOC_WRITE, session_op,
          readable=(Segment("key", "keylen"), Segment("mackey", "mackeylen"))),
    Ioctl("CIOCFSESSION", 103, _IOC_WRITE, session_id),
    Ioctl("CIOCCRYPT",    104, _IOC_READ | _IOC_WRITE, crypt_op,
          readable=(Segment("iv", "iv_size"), Segment("src", "len")),
          writable=(Segment("dst", "len"), Segment("iv", "iv_size"))),
)
# fmt: on


def by_number(width: Width) -> dict[int, Ioctl]:
    """The rows by the number that a program of that pointer width passes."""
    return {ioctl.number(width): ioctl for ioctl in IOCTLS}
