"""A front end that may say anything to a back end in the same process, and knows what it said."""

import contextlib
import os
import select
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Any

from cuse_crypto.abi.algorithms import Cipher, Mac
from cuse_crypto.wire import messages
from cuse_crypto.wire.area import Area, new_file
from cuse_crypto.wire.connection import Connection, ConnectionLost, close_all
from cuse_crypto.wire.messages import BY_NAME, Feature, Handle, Hello, PeerError, Reply, Request
from cuse_crypto.wire.shared import SHORT
from cuse_crypto_backend.channel import HELLO_DEADLINE, Channel
from cuse_crypto_backend.engines.engine import AuthKind
from cuse_crypto_backend.server import Server
from tests.fuzz.choices import Choices

DEADLINE = 10.0
"""Seconds after which somebody hangs."""
ROOM = 1 << 20
HELLO = Hello(messages.MAGIC, messages.VERSION, 0, 0, messages.MAX_PAYLOAD, bytes(16))


@dataclass
class Asked:
    """A request; ``sound``: it must be answered. ``expected`` is all of ``dst``, if it is known."""

    name: str
    body: Any
    segments: tuple[bytes, ...] = ()
    rooms: tuple[int, ...] = ()
    sound: bool = True
    expected: bytes | None = None
    changes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def src(self) -> int:
        """Which of its segments is encrypted or decrypted."""
        return 2 if self.name == "AUTH" else 1

    def spoil(self, choices: Choices) -> bool:
        """Have some bytes of its head changed."""
        size = BY_NAME[self.name].payload_offset
        for _ in range(1 + choices.number() % 3):
            self.changes.append((choices.number() % size, choices.number()))
        return True

    def head(self, tag: int) -> bytes:
        """What comes before its segments."""
        row = BY_NAME[self.name]
        head = bytearray(row.payload_offset)
        lengths = tuple(map(len, self.segments))
        messages.pack_request(memoryview(head), row, tag, self.body, lengths, self.rooms)
        for at, byte in self.changes:
            head[at] = byte
        return bytes(head)

    def is_reversible(
        self, sessions: dict[tuple[int, int], tuple[Cipher | None, Mac | None]]
    ) -> bool:
        """There is a cipher that can make it undone."""
        cipher, _ = sessions.get((self.body.handle, self.body.ses), (None, None))
        return cipher is not None

    def back(self, made: bytes, tag: bytes) -> "Asked":
        """What decrypts ``made``, the result of this."""
        body, segments = self.body._replace(op=1), list(self.segments)
        if self.name == "AUTH" and body.kind == AuthKind.SRTP:
            before, after = body.offset, body.offset + len(made)
            segments[1] = segments[1][:before] + made + segments[1][after:]
            segments[3] = tag
        segments[self.src] = made
        return Asked(self.name, body, tuple(segments), self.rooms)


class Places:
    """What a front end may offer a back end to share: one right file, and what is none."""

    def __init__(self) -> None:
        self.file = new_file(messages.AREA_SIZE)
        self.area = Area(messages.AREA_SIZE, self.file).view
        self.reply = self.area[messages.AREA_REPLY :]
        small = new_file(4096)
        unsealed = os.memfd_create("cuse-crypto-fuzz")
        os.ftruncate(unsealed, messages.AREA_SIZE)
        device = os.open("/dev/null", os.O_RDWR)
        self.all = [self.file, small, unsealed, device, *os.pipe(), *self._sockets()]

    @staticmethod
    def _sockets() -> tuple[int, int]:
        ours, theirs = socket.socketpair()
        return ours.detach(), theirs.detach()

    def close(self) -> None:
        """Give them back."""
        close_all(self.all)


class Peer:
    """One connection, and the thread that serves it; not ``open`` if it came to nothing."""

    def __init__(self, server: Server, places: Places, choices: Choices, shared: bool) -> None:
        self._places = places
        self._tag = 0
        self._buffer = memoryview(bytearray(ROOM))
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours, DEADLINE)
        channel = Channel(server.engine, server.guests, Connection(theirs, HELLO_DEADLINE))
        self._thread = threading.Thread(target=_run, args=[channel], daemon=True)
        self._thread.start()
        self._fds: list[int] = []
        self._shared = shared
        self.handles: set[int] = set()
        self.spoiled = False
        self.open = True
        if choices.chance(8):
            self._strange(choices)
        else:
            self._meet(choices.number() % 4)

    def _meet(self, guest: int) -> None:
        features = Feature(0)
        offered: tuple[int, ...] = ()
        if self._shared:
            reading, writing = os.pipe()
            self._fds = [reading, writing]
            features, offered = Feature.SHARED, (self._places.file, writing)
        hello = HELLO._replace(features=features, guest=bytes([guest] * 16))
        reply, given = self._hello(hello, offered)
        assert reply is not None
        assert (reply.status, reply.body.features) == (0, features)
        if self._shared:
            os.close(self._fds.pop())
            self._fds += given
            self._poll = select.poll()
            self._poll.register(self._fds[0], select.POLLIN)

    def _hello(
        self, body: Any, offered: tuple[int, ...], asked: Asked | None = None
    ) -> tuple[Reply | None, list[int]]:
        asked = asked or Asked("HELLO", body, (), (1024,))
        self._connection.send(memoryview(asked.head(0)), descriptors=offered)
        if asked.changes:
            self._connection.socket.shutdown(socket.SHUT_WR)
        try:
            received, given = self._connection.receive_first(self._buffer, 2)
        except ConnectionLost:
            return None, []
        if received is None:
            return None, given
        if asked.changes:
            return None, given
        return messages.unpack_reply(received, BY_NAME["HELLO"], 0, asked.rooms), given

    def _strange(self, choices: Choices) -> None:
        """A HELLO with something wrong, then a request, and the end."""
        self.open = False
        offered = tuple(choices.pick(self._places.all) for _ in range(choices.number() % 4))
        said = HELLO._replace(features=choices.number() % 4, guest=choices.take(16))
        if choices.chance(4):
            said = said._replace(magic=choices.number(2))
        if choices.chance(4):
            said = said._replace(version=choices.number() % 4, queue=choices.number(2))
        asked = Asked("HELLO", said, (), (1024,))
        if choices.chance(4):
            asked.rooms = (choices.number(),)
        if choices.chance(4):
            asked.spoil(choices)
        reply, self._fds = self._hello(None, offered, asked)
        if reply and not reply.status:
            head = Asked("OPEN", Handle(1)).head(1)
            with contextlib.suppress(OSError):
                if self._fds:
                    os.write(self._fds[0], head)
                else:
                    self._connection.send(memoryview(head))

    def ask(self, asked: Asked) -> Reply | None:
        """The one reply to it, or None if the connection has ended because of it."""
        self._tag += 1
        head = asked.head(self._tag)
        self.spoiled |= bool(asked.changes)
        payload = b"".join(asked.segments)
        request = self._understood(head, payload)
        if request is None or request.message.name == "HELLO":
            self._say(head, payload)
            self._end()
            return None
        if request.message.name == "OPEN":
            self.handles.add(request.body.handle)
        self._say(head, payload)
        received = self._hear()
        assert received is not None, f"{asked} was not answered"
        area = self._places.reply if self._shared else None
        return messages.unpack_reply(received, request.message, request.tag, request.writable, area)

    def _understood(self, head: bytes, payload: bytes) -> Request | None:
        """How a back end has to understand that; None if it cannot."""
        claimed, whole = struct.unpack_from("<I", head)[0], head + payload
        try:
            messages.read_length(head)
            if self._shared and claimed > len(head):
                return messages.unpack_request(head, self._places.area)
            return messages.unpack_request(whole) if claimed == len(whole) else None
        except PeerError:
            return None

    def _say(self, head: bytes, payload: bytes) -> None:
        if self._shared:
            self._places.area[len(head) : len(head) + len(payload)] = payload
            os.write(self._fds[1], head)
        else:
            self._connection.send(memoryview(head + payload))

    def _hear(self) -> bytes | memoryview | None:
        """A reply; None for the end."""
        if not self._shared:
            try:
                return self._connection.receive(self._buffer)
            except ConnectionLost:
                return None
        assert self._poll.poll(DEADLINE * 1000), "no answer"
        return os.read(self._fds[0], SHORT) or None

    def nonsense(self, data: bytes) -> bool:
        """What is no request: the end of the connection. False."""
        with contextlib.suppress(ConnectionLost):
            self._say(data[:SHORT], data[SHORT:])
        self._end()
        return False

    def _end(self) -> None:
        """Say no more, and hear no more than some answers before the end."""
        self.open = False
        if self._shared:
            os.close(self._fds.pop())
        else:
            with contextlib.suppress(OSError):
                self._connection.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(PeerError):
            while self._hear() is not None:
                pass

    def forget(self) -> bool:
        """Nothing of it is left; False if one cannot be sure of that."""
        if self.spoiled:
            return False
        for handle in self.handles:
            reply = self.ask(Asked("RELEASE", Handle(handle)))
            assert reply is not None
            assert reply.status == 0
        self.handles.clear()
        waiting = self._fds[0] if self._shared else self._connection.socket
        assert not select.select([waiting], [], [], 0)[0], "more than one answer"
        return True

    def close(self) -> None:
        """End it; its thread must see that."""
        self.open = False
        close_all(self._fds)
        self._connection.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the end of the connection was not seen"


def _run(channel: Channel) -> None:
    with contextlib.suppress(PeerError):
        channel.run()
