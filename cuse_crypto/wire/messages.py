"""The messages between front end and back end: one row each. No I/O.

A message is a header, the body of its row, one descriptor per segment, then the bytes of the
readable segments. A reply has the same shape. Little endian throughout; see PROTOCOL.md.
"""

import struct
from enum import IntFlag
from operator import gt
from typing import Annotated, Any, NamedTuple

from cuse_crypto.layout import Buffer, Layout, s32, u8, u16, u32, u64

VERSION = 3
Received = bytes | memoryview
MAGIC = 0x43455355
"""``USEC`` in the order of the bytes: what speaks first is a cuse-crypto front end."""
MAX_PAYLOAD = (64 << 20) + 65536
"""The largest sum of the segments of one message, in bytes: what can only be done as a whole (an
AEAD), and what goes with it."""
REPLY = 0x8000
"""Set in ``type`` of a reply."""
NO_SUCH_HANDLE = 116
"""``status`` ESTALE: the back end does not know the handle or session, and may be told again."""


class PeerError(Exception):
    """The peer broke the protocol; the connection is of no more use."""


class Feature(IntFlag):
    """What both ends may agree on in HELLO."""

    SHARED = 1
    """Segments lie in memory that both ends have, and heads go through a pair of pipes."""


class Header(NamedTuple):
    """Before every message. ``length`` counts all of it; ``tag`` comes back in the reply.

    ``status`` is 0 in a request and in a good reply; otherwise a Linux errno, and nothing follows.
    """

    length: u32
    type: u16
    readable: u8
    writable: u8
    tag: u32
    status: s32


class Hello(NamedTuple):
    """Who connects: queue number ``queue`` of the guest that ``guest`` names."""

    magic: u32
    version: u16
    queue: u16
    features: u32
    max_payload: u32
    guest: Annotated[bytes, "16s"]


class Welcome(NamedTuple):
    """What the back end agrees to, and which engine answers.

    ``place``: random bytes of its process. What it remembers is there and nowhere else.
    """

    version: u16
    reserved: u16
    features: u32
    max_payload: u32
    engine: Annotated[bytes, "16s"]
    place: Annotated[bytes, "16s"]


class Handle(NamedTuple):
    """An open file of the device, numbered by the front end."""

    handle: u64


class Session(NamedTuple):
    """A session of an open file, numbered by the front end."""

    handle: u64
    ses: u32
    reserved: u32 = 0


class NewSession(NamedTuple):
    """The algorithms of a session, by their cryptodev numbers; 0 for none."""

    handle: u64
    ses: u32
    cipher: u32
    mac: u32
    reserved: u32 = 0


class Crypt(NamedTuple):
    """One operation; ``op`` as in ``crypt_op``, ``flags``: 1 starts the hash, 2 finishes it."""

    handle: u64
    ses: u32
    op: u16
    flags: u16


class Auth(NamedTuple):
    """One authenticated operation; ``kind`` is 0 for AEAD, or a type of ``crypt_auth_op.flags``.

    ``offset`` is where ``src`` lies inside ``auth`` (SRTP).
    """

    handle: u64
    ses: u32
    op: u16
    kind: u16
    tag_size: u32
    offset: u32


class CopyHash(NamedTuple):
    """Session ``dst_ses`` takes over what ``src_ses`` has hashed."""

    handle: u64
    dst_ses: u32
    src_ses: u32


class Nothing(NamedTuple):
    """An empty body."""


HEADER = Layout(Header, order="<")
_HEADER_FIELDS = len(Header._fields)
_LENGTH = struct.Struct("<I")
_TYPE, _TYPE_OFFSET = struct.Struct("<H"), HEADER.field("type").offset


class Message:
    """One kind of message: bodies, and the names of its segments.

    Readable segments travel with the request. Writable ones are capacities in the request, and
    travel with the reply.
    """

    def __init__(
        self,
        number: int,
        name: str,
        request: type[Any],
        reply: type[Any] = Nothing,
        readable: tuple[str, ...] = (),
        writable: tuple[str, ...] = (),
    ) -> None:
        self.type = number
        self.name = name
        self.request: Layout[Any] = Layout(request, order="<")
        self.reply: Layout[Any] = Layout(reply, order="<")
        self.readable = readable
        self.writable = writable
        self.counts = len(readable), len(writable)
        # All that comes before the segments is packed and unpacked at once.
        segments = len(readable) + len(writable)
        self.prefix = struct.Struct(f"{HEADER.format}{self.request.format[1:]}{segments}I")
        self.reply_prefix = struct.Struct(f"{HEADER.format}{self.reply.format[1:]}{len(writable)}I")
        self.payload_offset = self.prefix.size
        """Where the readable segments of a request begin, in bytes from its start."""
        self.reply_offset = self.reply_prefix.size
        """Where the segments of a good reply begin."""
        self.first = _HEADER_FIELDS + len(self.request.fields)
        """How many numbers come before the lengths of a request's segments."""
        self.split = self.first + len(readable)

    def __repr__(self) -> str:
        return f"Message({self.type}, {self.name})"


# fmt: off
MESSAGES = {row.type: row for row in (
    Message(1, "HELLO",       Hello, Welcome, writable=("algorithms",)),
    Message(2, "OPEN",        Handle),
    Message(3, "RELEASE",     Handle),
    Message(4, "NEW_SESSION", NewSession, readable=("key", "mackey")),
    Message(5, "END_SESSION", Session),
    Message(6, "CRYPT",       Crypt, readable=("iv", "src"), writable=("dst", "mac", "next_iv")),
    Message(7, "AUTH",        Auth, readable=("iv", "auth", "src", "tag"),
            writable=("dst", "tag", "next_iv")),
    Message(8, "COPY_HASH",   CopyHash),
    Message(9, "DESCRIBE",    Session, writable=("cipher", "mac")),
)}
# fmt: on
"""By type."""

BY_NAME = {row.name: row for row in MESSAGES.values()}

MAX_LENGTH = MAX_PAYLOAD + max(
    max(row.payload_offset, row.reply_offset) for row in MESSAGES.values()
)
"""The length of the longest message, in bytes."""

SPARE = 4096
"""Bytes behind the longest message that whoever writes it may use as well."""
AREA_REPLY = -(-(MAX_LENGTH + SPARE) // 65536) * 65536
"""Where replies lie in shared memory; requests lie at 0."""
AREA_SIZE = 2 * AREA_REPLY


class Request(NamedTuple):
    """A request as received. ``readable`` are parts of the memory that it is in."""

    message: Message
    tag: int
    body: Any
    readable: list[memoryview]
    writable: tuple[int, ...]


class Reply(NamedTuple):
    """A reply as received. ``segments`` are parts of the memory that it is in."""

    status: int
    body: Any
    segments: list[memoryview]


def pack_request(
    buffer: memoryview,
    message: Message,
    tag: int,
    body: Any,
    readable: tuple[int, ...] = (),
    writable: tuple[int, ...] = (),
) -> int:
    """Write all but the readable bytes, which belong at ``message.payload_offset``.

    ``readable`` are lengths and ``writable`` capacities in bytes, as many as the message has.
    Returns the length of the whole.
    """
    length = message.payload_offset + sum(readable)
    message.prefix.pack_into(
        buffer, 0, length, message.type, *message.counts, tag, 0, *body, *readable, *writable
    )
    return length


def pack_reply(
    buffer: memoryview, message: Message, tag: int, body: Any, segments: tuple[int, ...] = ()
) -> int:
    """Write all but the segments, which belong at ``message.reply_offset``. Returns the length."""
    length = message.reply_offset + sum(segments)
    number = message.type | REPLY
    message.reply_prefix.pack_into(
        buffer, 0, length, number, len(segments), 0, tag, 0, *body, *segments
    )
    return length


def pack_error(buffer: memoryview, message: Message, tag: int, status: int) -> int:
    """Write the reply that says only that it failed, with this errno. Returns its length."""
    HEADER.pack_into(buffer, 0, HEADER.size, message.type | REPLY, 0, 0, tag, status)
    return HEADER.size


def read_length(buffer: Buffer) -> int:
    """The length of the message whose header is in ``buffer``; PeerError if it cannot be right."""
    length: int = _LENGTH.unpack_from(buffer)[0]
    if not HEADER.size <= length <= MAX_LENGTH:
        raise PeerError(f"a message of {length} bytes")
    return length


def unpack_request(received: Received, area: memoryview | None = None) -> Request:
    """The request that ``received`` is, or the head of; then its segments are in ``area``.

    PeerError if it is none. Nothing but segments is read from ``area``, which the peer may change
    at any time.
    """
    message = MESSAGES.get(_TYPE.unpack_from(received, _TYPE_OFFSET)[0])
    if message is None or len(received) < message.payload_offset:
        raise PeerError(f"no request: {bytes(received[: HEADER.size]).hex()}")
    fields = message.prefix.unpack_from(received)
    split, first = message.split, message.first
    length, _, readable, writables, tag, status = fields[:_HEADER_FIELDS]
    if (readable, writables) != message.counts or status:
        raise PeerError(f"{message.name} with {readable}+{writables} segments, status {status}")
    writable = fields[split:]
    if sum(writable) > MAX_PAYLOAD:
        raise PeerError(f"{message.name} asks for {sum(writable)} bytes")
    place = _place(received, area, length, message.payload_offset)
    segments = _segments(place, message, message.payload_offset, length, fields[first:split])
    return Request(
        message, tag, message.request.make(fields[_HEADER_FIELDS:first]), segments, writable
    )


def unpack_reply(
    received: Received,
    message: Message,
    tag: int,
    writable: tuple[int, ...],
    area: memoryview | None = None,
) -> Reply:
    """The reply to the request ``tag`` with those capacities, as in unpack_request.

    PeerError if it is not that.
    """
    length, kind, count, writables, echoed, status = HEADER.unpack_from(received)
    if kind != message.type | REPLY or echoed != tag:
        raise PeerError(f"type {kind:#x} tag {echoed} is no reply to {message.name} {tag}")
    if status:
        if length != HEADER.size or len(received) != length or not 0 < status < 512:
            raise PeerError(f"{message.name} failed with status {status} and more")
        return Reply(status, None, [])
    if (count, writables) != (message.counts[1], 0):
        raise PeerError(f"the reply to {message.name} has {count} segments")
    if len(received) < message.reply_offset:
        raise PeerError(f"the reply to {message.name} has {len(received)} bytes")
    fields = message.reply_prefix.unpack_from(received)
    first = len(fields) - count
    lengths = fields[first:]
    if any(map(gt, lengths, writable)):
        raise PeerError(f"the reply to {message.name} has segments of {lengths} bytes")
    place = _place(received, area, length, message.reply_offset)
    segments = _segments(place, message, message.reply_offset, length, lengths)
    return Reply(0, message.reply.make(fields[_HEADER_FIELDS:first]), segments)


def _place(received: Received, area: memoryview | None, length: int, offset: int) -> memoryview:
    """What holds the segments of a message of ``length``: itself, or the shared area."""
    if len(received) == length:
        return memoryview(received)
    if area is None or len(received) != offset or length > len(area):
        raise PeerError(f"a message of {length} bytes came as {len(received)}")
    return area


def _segments(
    place: memoryview, message: Message, at: int, length: int, lengths: tuple[int, ...]
) -> list[memoryview]:
    if at + sum(lengths) != length:
        raise PeerError(f"{message.name} of {length} bytes has segments of {lengths}")
    segments = []
    for size in lengths:
        segments.append(place[at : at + size])
        at += size
    return segments
