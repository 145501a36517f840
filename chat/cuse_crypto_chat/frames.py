"""Frames: what a member and the server say to each other. No I/O; chat/WIRE.md has the format.

The server reads frames only. What is inside a RECORD it neither reads nor could.
"""

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from cuse_crypto_chat.records import MAX_RECORD, MIN_RECORD

VERSION = 1
MAGIC = b"cusechat"
ROOM = 0
"""``member`` of a RECORD that is for everybody. Members are numbered from 1."""
MAX_REASON = 512
"""Bytes of what the server has to say in words."""
MAX_MEMBERS = 4096
MAX_KEEPALIVE = 300
"""Seconds."""

HEADER = struct.Struct(">IBxxxI")
"""Length of the payload in bytes, type, member."""
JOIN = struct.Struct(">8sH")
"""Magic, version."""
WELCOME = struct.Struct(">HHI")
"""Version, seconds between signs of life, bytes of the largest record; then the members' numbers,
4 bytes each."""
TOKEN = struct.Struct(">Q")

End = Literal["member", "server"]


class PeerError(Exception):
    """The other end broke the protocol; the connection is of no more use."""


class FrameType(NamedTuple):
    """``sender`` is who may send it; sizes are those of the payload, in bytes."""

    number: int
    name: str
    sender: Literal["member", "server", "both"]
    least: int
    most: int


# fmt: off
TYPES = {row.number: row for row in (
    FrameType(1, "JOIN",    "member", JOIN.size, JOIN.size),
    FrameType(2, "WELCOME", "server", WELCOME.size, WELCOME.size + 4 * MAX_MEMBERS),
    FrameType(3, "RECORD",  "both",   MIN_RECORD, MAX_RECORD),
    FrameType(4, "LEFT",    "server", 0, MAX_REASON),
    FrameType(5, "PING",    "both",   TOKEN.size, TOKEN.size),
    FrameType(6, "PONG",    "both",   TOKEN.size, TOKEN.size),
    FrameType(7, "WAIT",    "server", 0, MAX_REASON),
    FrameType(8, "BYE",     "server", 0, MAX_REASON),
)}
# fmt: on
BY_NAME = {row.name: row for row in TYPES.values()}


class Frame(NamedTuple):
    """A frame as received."""

    name: str
    member: int
    payload: bytes


class Welcome(NamedTuple):
    """What a newcomer is told."""

    member: int
    """Its own number."""
    keepalive: int
    """Seconds."""
    members: tuple[int, ...]
    """Those who are there already: the server's word, no more."""


def pack(name: str, payload: bytes = b"", member: int = 0) -> bytes:
    """The bytes of a frame."""
    return HEADER.pack(len(payload), BY_NAME[name].number, member) + payload


def pack_reason(name: str, reason: str, member: int = 0) -> bytes:
    """A frame that says something in words, cut to what is allowed."""
    data = reason.encode(errors="replace")[:MAX_REASON]
    return pack(name, data.decode(errors="ignore").encode(), member)


def pack_join() -> bytes:
    """What a member says first."""
    return pack("JOIN", JOIN.pack(MAGIC, VERSION))


def check_join(payload: bytes) -> None:
    """PeerError, to be told to the peer, for who speaks something else."""
    magic, version = JOIN.unpack(payload)
    if magic != MAGIC:
        raise PeerError("this is a cuse-crypto chat")
    if version != VERSION:
        raise PeerError(f"this server speaks version {VERSION}, not {version}")


def pack_welcome(welcome: Welcome) -> bytes:
    """The answer to JOIN."""
    numbers = struct.pack(f">{len(welcome.members)}I", *welcome.members)
    fixed = WELCOME.pack(VERSION, welcome.keepalive, MAX_RECORD)
    return pack("WELCOME", fixed + numbers, welcome.member)


def unpack_welcome(frame: Frame) -> Welcome:
    """PeerError for another version, or what cannot be."""
    version, keepalive, largest = WELCOME.unpack_from(frame.payload)
    count, rest = divmod(len(frame.payload) - WELCOME.size, 4)
    if rest or not 0 < keepalive <= MAX_KEEPALIVE:
        raise PeerError(f"a WELCOME with {keepalive} s and {count} members")
    if version != VERSION or largest != MAX_RECORD:
        raise PeerError(f"a WELCOME of version {version}, for records of {largest} bytes")
    return Welcome(
        frame.member, keepalive, struct.unpack_from(f">{count}I", frame.payload, WELCOME.size)
    )


class FrameReader:
    """Bytes in, frames out. ``sender`` is who is at the other end.

    Holds at most one frame and what was fed last: a length is judged before its bytes are awaited.
    """

    def __init__(self, sender: End) -> None:
        self._sender = sender
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; the iterator must be exhausted. PeerError."""
        data = self._buffer + data if self._buffer else data
        at = 0
        while len(data) - at >= HEADER.size:
            length, number, member = HEADER.unpack_from(data, at)
            name = self._judge(number, length)
            end = at + HEADER.size + length
            if len(data) < end:
                break
            yield Frame(name, member, data[at + HEADER.size : end])
            at = end
        self._buffer = data[at:]

    def _judge(self, number: int, length: int) -> str:
        row = TYPES.get(number)
        if row is None or row.sender not in ("both", self._sender):
            raise PeerError(f"a frame of type {number}")
        if not row.least <= length <= row.most:
            raise PeerError(f"{row.name} of {length} bytes")
        return row.name
