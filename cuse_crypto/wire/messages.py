"""The messages between front end and back end: one row each. No I/O.

A message is a header, the body of its row, one descriptor per segment, then the bytes of the
readable segments. A reply has the same shape. Little endian throughout; see PROTOCOL.md.
"""

import struct
from enum import IntFlag
from typing import Annotated, Any, NamedTuple

from cuse_crypto.layout import Buffer, Layout, s32, u8, u16, u32, u64

VERSION = 1
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
    """What both ends may agree on in HELLO. None is defined in version 1."""


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
    """What the back end agrees to, and which engine answers."""

    version: u16
    reserved: u16
    features: u32
    max_payload: u32
    engine: Annotated[bytes, "16s"]


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
_DESCRIPTOR_SIZE = 4


class Message(NamedTuple):
    """One kind of message: bodies, and the names of its segments.

    Readable segments travel with the request. Writable ones are capacities in the request, and
    travel with the reply.
    """

    type: int
    name: str
    request: Layout[Any]
    reply: Layout[Any]
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()

    @property
    def payload_offset(self) -> int:
        """Where the readable segments of a request begin, in bytes from its start."""
        descriptors = len(self.readable) + len(self.writable)
        return HEADER.size + self.request.size + _DESCRIPTOR_SIZE * descriptors

    @property
    def reply_offset(self) -> int:
        """Where the segments of a good reply begin."""
        return HEADER.size + self.reply.size + _DESCRIPTOR_SIZE * len(self.writable)


def _row(
    number: int,
    name: str,
    request: type[Any],
    reply: type[Any] = Nothing,
    readable: tuple[str, ...] = (),
    writable: tuple[str, ...] = (),
) -> Message:
    layouts = Layout(request, order="<"), Layout(reply, order="<")
    return Message(number, name, *layouts, readable, writable)


# fmt: off
MESSAGES = {row.type: row for row in (
    _row(1, "HELLO",       Hello, Welcome, writable=("algorithms",)),
    _row(2, "OPEN",        Handle),
    _row(3, "RELEASE",     Handle),
    _row(4, "NEW_SESSION", NewSession, readable=("key", "mackey")),
    _row(5, "END_SESSION", Session),
    _row(6, "CRYPT",       Crypt, readable=("iv", "src"), writable=("dst", "mac")),
    _row(7, "AUTH",        Auth, readable=("iv", "auth", "src", "tag"), writable=("dst", "tag")),
    _row(8, "COPY_HASH",   CopyHash),
    _row(9, "DESCRIBE",    Session, writable=("cipher", "mac")),
)}
# fmt: on
"""By type."""

BY_NAME = {row.name: row for row in MESSAGES.values()}


class Request(NamedTuple):
    """A request as received. ``readable`` are parts of the buffer it was received in."""

    message: Message
    tag: int
    body: Any
    readable: list[memoryview]
    writable: tuple[int, ...]


class Reply(NamedTuple):
    """A reply as received. ``segments`` are parts of the buffer it was received in."""

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

    ``readable`` are lengths and ``writable`` capacities in bytes. Returns the length of the whole.
    """
    if len(readable) != len(message.readable) or len(writable) != len(message.writable):
        raise ValueError(f"{message.name} has other segments")
    length = message.payload_offset + sum(readable)
    counts = len(readable), len(writable)
    HEADER.pack_into(buffer, 0, length, message.type, *counts, tag, 0)
    message.request.pack_into(buffer, HEADER.size, *body)
    _pack_descriptors(buffer, HEADER.size + message.request.size, readable + writable)
    return length


def pack_reply(
    buffer: memoryview, message: Message, tag: int, body: Any, segments: tuple[int, ...] = ()
) -> int:
    """Write all but the segments, which belong at ``message.reply_offset``. Returns the length."""
    length = message.reply_offset + sum(segments)
    HEADER.pack_into(buffer, 0, length, message.type | REPLY, len(segments), 0, tag, 0)
    message.reply.pack_into(buffer, HEADER.size, *body)
    _pack_descriptors(buffer, HEADER.size + message.reply.size, segments)
    return length


def pack_error(buffer: memoryview, message: Message, tag: int, status: int) -> int:
    """Write the reply that says only that it failed, with this errno. Returns its length."""
    HEADER.pack_into(buffer, 0, HEADER.size, message.type | REPLY, 0, 0, tag, status)
    return HEADER.size


def read_header(buffer: Buffer) -> Header:
    """The header of a message; PeerError when its length cannot be right."""
    header = HEADER.read(buffer)
    if not HEADER.size <= header.length <= max_length():
        raise PeerError(f"a message of {header.length} bytes")
    return header


def max_length() -> int:
    """The length of the longest message, in bytes."""
    longest = max(max(row.payload_offset, row.reply_offset) for row in MESSAGES.values())
    return longest + MAX_PAYLOAD


def unpack_request(buffer: memoryview, header: Header) -> Request:
    """The request in ``buffer``, which holds all of it. PeerError if it is none."""
    message = MESSAGES.get(header.type)
    if message is None:
        raise PeerError(f"a request of type {header.type:#x}")
    if (header.readable, header.writable) != (len(message.readable), len(message.writable)):
        raise PeerError(f"{message.name} with {header.readable}+{header.writable} segments")
    if header.status or header.length < message.payload_offset:
        raise PeerError(f"{message.name} of {header.length} bytes with status {header.status}")
    body = message.request.read(buffer, HEADER.size)
    at = HEADER.size + message.request.size
    lengths = _read_descriptors(buffer, at, header.readable + header.writable)
    readable, writable = lengths[: header.readable], lengths[header.readable :]
    if sum(writable) > MAX_PAYLOAD:
        raise PeerError(f"{message.name} asks for {sum(writable)} bytes")
    segments = _segments(buffer, message, message.payload_offset, readable, header.length)
    return Request(message, header.tag, body, segments, writable)


def unpack_reply(
    buffer: memoryview, header: Header, message: Message, tag: int, writable: tuple[int, ...]
) -> Reply:
    """The reply to the request ``tag`` with those capacities. PeerError if it is not that."""
    if header.type != message.type | REPLY or header.tag != tag:
        raise PeerError(
            f"type {header.type:#x} tag {header.tag} is no reply to {message.name} {tag}"
        )
    if header.status:
        if header.length != HEADER.size or not 0 < header.status < 512:
            raise PeerError(f"{message.name} failed with status {header.status} and more")
        return Reply(header.status, None, [])
    if (header.readable, header.writable) != (len(message.writable), 0):
        raise PeerError(f"the reply to {message.name} has {header.readable} segments")
    if header.length < message.reply_offset:
        raise PeerError(f"the reply to {message.name} has {header.length} bytes")
    body = message.reply.read(buffer, HEADER.size)
    lengths = _read_descriptors(buffer, HEADER.size + message.reply.size, header.readable)
    if any(length > capacity for length, capacity in zip(lengths, writable, strict=True)):
        raise PeerError(f"the reply to {message.name} has segments of {lengths} bytes")
    segments = _segments(buffer, message, message.reply_offset, lengths, header.length)
    return Reply(0, body, segments)


def _pack_descriptors(buffer: memoryview, at: int, lengths: tuple[int, ...]) -> None:
    struct.pack_into(f"<{len(lengths)}I", buffer, at, *lengths)


def _read_descriptors(buffer: memoryview, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}I", buffer, at)


def _segments(
    buffer: memoryview, message: Message, at: int, lengths: tuple[int, ...], end: int
) -> list[memoryview]:
    if at + sum(lengths) != end:
        raise PeerError(f"{message.name} of {end} bytes has segments of {lengths}")
    segments = []
    for length in lengths:
        segments.append(buffer[at : at + length])
        at += length
    return segments
