"""Records: what members seal for each other. No I/O and no cipher; chat/WIRE.md has the format.

A record is a header in the clear, which is authenticated, and a sealed body in one of few sizes.
"""

import struct
from typing import Any, NamedTuple

VERSION = 1
STREAM_SIZE = 16
"""Bytes of the fresh random value that names the records of one sender on one connection."""
NOBODY = bytes(STREAM_SIZE)
TAG_SIZE = 16
MAX_TEXT = 65536
"""Bytes of one message."""
SIZES = 256, 1024, 4096, 16384, 66048
"""Bytes of a body before it is sealed: all that its length tells."""

HEADER = struct.Struct(">BBHQ16s16s")
LENGTH = struct.Struct(">I")
NONCE = struct.Struct(">IQ")
"""0 for the room and 1 for one member, then the sequence: no nonce comes twice with one key."""
MIN_RECORD = HEADER.size + SIZES[0] + TAG_SIZE
MAX_RECORD = HEADER.size + SIZES[-1] + TAG_SIZE


class RecordError(Exception):
    """It is no record, or not one that a member of this version makes."""


class Header(NamedTuple):
    """In the clear, and the associated data of the sealing."""

    version: int
    kind: int
    reserved: int
    sequence: int
    """Counts a sender's records, from 0: those for the room, and those for one member, apart."""
    stream: bytes
    """The sender's."""
    to: bytes
    """The stream that a direct record is for; zeros for the room."""


class Hello(NamedTuple):
    """The first record of a stream. ``instance`` stays when a program connects again."""

    instance: bytes
    time: int
    name: str


class Greeting(NamedTuple):
    """To one who is new: naming its fresh stream, it proves that its sender is there now.

    ``next`` is the sequence of the sender's next record for the room.
    """

    next: int
    instance: bytes
    time: int
    name: str


class Text(NamedTuple):
    """A message. ``number`` counts those of an instance, from 1, over all its connections."""

    time: int
    number: int
    text: str


class Alive(NamedTuple):
    """Nothing was said for a while: what was withheld before is noticed by it."""

    time: int


class End(NamedTuple):
    """The last record of a stream. A stream that ends without it was cut."""

    time: int


class Seen(NamedTuple):
    """To one who ended: its records up to before ``next`` were read, all but ``missing``."""

    next: int
    missing: int


Body = Hello | Greeting | Text | Alive | End | Seen


class Kind:
    """A row: a body of fixed members, then text in UTF-8 if there is one member more."""

    def __init__(self, number: int, name: str, body: type[Any], fixed: str, direct: bool) -> None:
        self.number = number
        self.name = name
        self.body = body
        self.fixed = struct.Struct(">" + fixed)
        self.direct = direct
        self.fields: tuple[str, ...] = body._fields
        self.has_text = len(self.fields) > len(self.fixed.unpack(bytes(self.fixed.size)))


# fmt: off
KINDS = {row.number: row for row in (
    Kind(1, "HELLO",    Hello,    "16sQ",  direct=False),
    Kind(2, "GREETING", Greeting, "Q16sQ", direct=True),
    Kind(3, "TEXT",     Text,     "QQ",    direct=False),
    Kind(4, "ALIVE",    Alive,    "Q",     direct=False),
    Kind(5, "END",      End,      "Q",     direct=False),
    Kind(6, "SEEN",     Seen,     "QQ",    direct=True),
)}
# fmt: on
BY_BODY = {row.body: row for row in KINDS.values()}


class Opened(NamedTuple):
    """A record that is not sealed yet, or not any more."""

    header: bytes
    nonce: bytes
    plain: bytes


def prepare(body: Body, stream: bytes, sequence: int, to: bytes = NOBODY) -> Opened:
    """A record ready to be sealed. ValueError for a body that is too long."""
    kind = BY_BODY[type(body)]
    header = HEADER.pack(VERSION, kind.number, 0, sequence, stream, to)
    return Opened(header, NONCE.pack(kind.direct, sequence), _pad(_pack_body(kind, body)))


def read_header(record: bytes) -> tuple[Header, bytes]:
    """The header of a sealed record, and its nonce. RecordError if it is none."""
    if len(record) - HEADER.size - TAG_SIZE not in SIZES:
        raise RecordError(f"a record of {len(record)} bytes")
    header = Header._make(HEADER.unpack_from(record))
    kind = KINDS.get(header.kind)
    if header.version != VERSION or kind is None or header.reserved:
        raise RecordError(f"a record of version {header.version} and kind {header.kind}")
    if kind.direct == (header.to == NOBODY):
        raise RecordError(f"{kind.name} for the wrong circle")
    return header, NONCE.pack(kind.direct, header.sequence)


def read_body(header: Header, plain: bytes) -> Body:
    """What was sealed. RecordError for what only a broken program seals."""
    kind = KINDS[header.kind]
    (length,) = LENGTH.unpack_from(plain)
    data, padding = plain[LENGTH.size : LENGTH.size + length], plain[LENGTH.size + length :]
    if len(data) != length or any(padding):
        raise RecordError(f"{kind.name} padded wrongly")
    if length < kind.fixed.size or (length > kind.fixed.size and not kind.has_text):
        raise RecordError(f"{kind.name} of {length} bytes")
    fields = kind.fixed.unpack_from(data)
    try:
        text = (data[kind.fixed.size :].decode(),) if kind.has_text else ()
    except UnicodeDecodeError:
        raise RecordError(f"{kind.name} with bytes that are no UTF-8") from None
    body: Body = kind.body(*fields, *text)
    return body


def _pack_body(kind: Kind, body: Body) -> bytes:
    if not kind.has_text:
        return kind.fixed.pack(*body)
    *fields, text = body
    data = str(text).encode()
    if len(data) > MAX_TEXT:
        raise ValueError(f"a message has at most {MAX_TEXT} bytes, not {len(data)}")
    return kind.fixed.pack(*fields) + data


def _pad(body: bytes) -> bytes:
    framed = LENGTH.pack(len(body)) + body
    return framed.ljust(next(size for size in SIZES if size >= len(framed)), b"\0")
