"""C layouts from annotations: a NamedTuple whose fields name C types becomes a ``struct.Struct``.

The ground under the three languages (abi, fuse, wire). It knows bytes and alignment, and nothing
of what a structure means.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

Width = Literal[32, 64]
Buffer = bytes | bytearray | memoryview

u8 = Annotated[int, "B"]
u16 = Annotated[int, "H"]
u32 = Annotated[int, "I"]
s32 = Annotated[int, "i"]
u64 = Annotated[int, "Q"]
pointer = Annotated[int, "P"]
"""An address: 4 or 8 bytes by the width of the program that passed it."""


RecordT = TypeVar("RecordT", bound=tuple[Any, ...])
"""A class made by ``typing.NamedTuple``."""


class Field(NamedTuple):
    """One member of a C structure. Offset and size in bytes."""

    name: str
    offset: int
    size: int
    code: str


class Layout(Generic[RecordT]):
    """The bytes of one record: natural alignment, tail padded to the widest member.

    ``order`` is ``"="`` for this machine's byte order or ``"<"`` for little endian; ``width`` is
    the size of a pointer in bits. 64-bit members are aligned to 8 bytes in both widths, as the
    kernel's ``aligned_u64`` is.
    """

    __slots__ = ("align", "fields", "format", "make", "pack_into", "record", "size", "unpack_from")

    def __init__(self, record: type[RecordT], width: Width = 64, order: str = "=") -> None:
        fields: list[Field] = []
        formats = order
        offset, self.align = 0, 1
        for name, code in _codes(record):
            code = code.replace("P", "Q" if width == 64 else "I")
            size = struct.calcsize("=" + code)
            align = 1 if code.endswith("s") else size
            padding = -offset % align
            fields.append(Field(name, offset + padding, size, code))
            formats += f"{padding}x{code}"
            offset += padding + size
            self.align = max(self.align, align)
        self.format = f"{formats}{-offset % self.align}x"
        compiled = struct.Struct(self.format)
        self.record = record
        self.fields = tuple(fields)
        self.size = compiled.size
        self.pack_into = compiled.pack_into
        self.unpack_from = compiled.unpack_from
        self.make: Callable[[Iterable[Any]], RecordT] = record._make  # type: ignore[attr-defined]

    def read(self, buffer: Buffer, offset: int = 0) -> RecordT:
        """The record at ``offset``; struct.error when the buffer ends before it does."""
        return self.make(self.unpack_from(buffer, offset))

    def bytes(self, record: RecordT) -> bytes:
        """The record as ``size`` bytes; struct.error for a value that does not fit its member."""
        packed = bytearray(self.size)
        self.pack_into(packed, 0, *record)
        return bytes(packed)

    def field(self, name: str) -> Field:
        """The member ``name``."""
        return next(field for field in self.fields if field.name == name)

    def __repr__(self) -> str:
        return f"Layout({self.record.__name__}, {self.size} bytes)"


def _codes(record: Any) -> Iterator[tuple[str, str]]:
    hints = get_type_hints(record, include_extras=True)
    for name in record._fields:
        if get_origin(hints[name]) is not Annotated:
            raise TypeError(f"{record.__name__}.{name} names no C type")
        yield name, get_args(hints[name])[1]
