"""A full room: 200 clients, one of them frozen, two of them real terminals; what a room bears."""

import contextlib
import os
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from cuse_crypto_chat import frames
from cuse_crypto_chat.cipher import Crypto
from cuse_crypto_chat.frames import Frame, FrameReader
from cuse_crypto_chat.outgoing import Letter, Outgoing, now_ms
from cuse_crypto_chat.records import BY_BODY, HEADER, Alive, Greeting, Header, Hello, Text
from cuse_crypto_chat.screen import in_words
from cuse_crypto_chat.sealing import Sealer
from cuse_crypto_chat.secret import room_key
from tests.chatting import Member, member, run_chat, server
from tests.conftest import Service, start
from tests.ptys import ENTER, PAGE_UP, ROWS, Pty

pytestmark = pytest.mark.node

READERS = 2
"""Members of the test's process, who open all that they get."""
TERMINALS = 2
LIGHT = 194
OBSERVERS = FROZEN = 1
CLIENTS = READERS + TERMINALS + LIGHT + OBSERVERS + FROZEN
EACH = 10
STREAM = slice(12, 28)
"""Where a record names its stream."""
SECRET = b"correct horse battery staple"


ALIVE = bytes([BY_BODY[Alive].number])
PING, PONG = (frames.pack(name, bytes(frames.TOKEN.size)) for name in ("PING", "PONG"))


class Light:
    """A client that seals what it says, on the device, and keeps what it gets as it is.

    It greets those who greet it: the readers and the terminals, who were there before.
    """

    def __init__(self, name: str, sealer: Sealer) -> None:
        self.name = name
        self.own = Outgoing()
        self.texts = [f"{self.name} says {n}" for n in range(EACH)]
        self.sent: list[bytes] = []
        """Records."""
        self.texts_got: list[Frame] = []
        self.aside = [PING]
        """What else comes to all when it takes long: on a slow machine."""
        self.got = bytearray()
        """What comes once it talks itself, unread."""
        self.talking = False
        self._sealer = sealer
        self._sending = trio.Lock()

    async def join(self, port: int) -> None:
        self._stream = await trio.open_tcp_stream("127.0.0.1", port)
        await self._stream.send_all(frames.pack_join())
        await self._send(Letter(Hello(self.own.stream, now_ms(), self.name)))

    async def _send(self, *letters: Letter) -> list[bytes]:
        opened = [self.own.prepare(one) for one in letters]
        sealed = await self._sealer.seal(self.own.stream, opened)
        both = zip(sealed, letters, strict=True)
        data = [frames.pack("RECORD", record, letter.member) for record, letter in both]
        async with self._sending:
            await self._stream.send_all(b"".join(data))
        return sealed

    async def talk(self) -> None:
        texts = [Letter(Text(now_ms(), n, text)) for n, text in enumerate(self.texts, 1)]
        for letters in (texts[:5], texts[5:]):
            self.sent += await self._send(*letters)

    async def listen(self) -> None:
        reader = FrameReader("server")
        async with self._stream:
            while data := bytes(await self._stream.receive_some(1 << 18)):
                if PING in data:
                    async with self._sending:
                        await self._stream.send_all(PONG)
                if self.talking:
                    self.got += data
                    continue
                for frame in reader.feed(data):
                    if frame.name == "RECORD":
                        await self._take(frame)
                    if frame.name == "LEFT" or frame.payload[1:2] == ALIVE:
                        self.aside.append(frames.pack(frame.name, frame.payload, frame.member))

    def has_got(self, expected: bytes, aside: list[bytes]) -> bool:
        got = bytes(self.got)
        for one in aside:
            got = got.replace(one, b"")
        return got.endswith(expected)

    async def _take(self, frame: Frame) -> None:
        header = Header._make(HEADER.unpack_from(frame.payload))
        if header.kind == BY_BODY[Text].number:
            self.texts_got.append(frame)
        elif header.kind == BY_BODY[Greeting].number:
            greeting = Greeting(0, self.own.stream, now_ms(), self.name)
            await self._send(Letter(greeting, frame.member, header.stream))


@contextlib.contextmanager
def frozen(port: int) -> Iterator[socket.socket]:
    """A client that has joined and does not read."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.sendall(frames.pack_join())
        yield sock


@contextlib.asynccontextmanager
async def closed_in_the_end(crypto: Crypto) -> AsyncIterator[None]:
    try:
        yield
    finally:
        crypto.close()


async def until_there(member: Member, count: int) -> None:
    await member.screen.until(lambda s: len(s.joined()) == count)


@contextlib.asynccontextmanager
async def terminals(port: int, device: Service, secret: Path) -> AsyncIterator[list[Pty]]:
    with contextlib.ExitStack() as stack:
        command = "chat", "connect", "127.0.0.1", port, "--device", device.path
        yield [
            stack.enter_context(Pty(*command, "--secret-file", secret, "--name", f"terminal{n}"))
            for n in range(TERMINALS)
        ]


def test_two_hundred(openssl_device: Service, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    key = room_key(bytearray(SECRET), "lobby")
    service = start("chat", "serve", "--host", "127.0.0.1", "--port", "0")
    port = int(service.ready.split()[-1])
    try:
        run_chat(partial(two_hundred, openssl_device, port, key, secret), 240)
    finally:
        assert service.stop() == 0


async def two_hundred(device: Service, port: int, key: bytes, secret: Path) -> None:
    async def tell(text: str) -> None:
        raise AssertionError(text)

    crypto = Crypto(os.fspath(device.path), tell)
    light = [Light(f"light{number}", Sealer(crypto, key)) for number in range(LIGHT)]
    observer = Light("observer", Sealer(crypto, key))
    async with (
        closed_in_the_end(crypto),
        terminals(port, device, secret) as ptys,
        trio.open_nursery() as nursery,
        contextlib.AsyncExitStack() as stack,
    ):
        readers = [
            await stack.enter_async_context(member(port, f"reader{n}", device.path, key))
            for n in range(READERS)
        ]
        stack.enter_context(frozen(port))
        for one in readers:
            await until_there(one, READERS + TERMINALS - 1)
        for each in [observer, *light]:
            await each.join(port)
            nursery.start_soon(each.listen)
        for one in readers:
            await until_there(one, READERS + TERMINALS + LIGHT + OBSERVERS - 1)
        for pty in ptys:
            await trio.to_thread.run_sync(pty.shows, f"{CLIENTS - FROZEN} here")
        await few_talk(readers, ptys)
        for each in light:
            each.talking = True
        for each in light:
            nursery.start_soon(each.talk)
        for one in readers:
            count = (READERS + TERMINALS + LIGHT - 1) * EACH
            await one.screen.until(lambda s: len(s.texts()) == count)  # noqa: B023
        await check_light(light, observer)
        for one in readers:
            check_reader(one, light)
        last = [in_words(one) for one in readers[0].screen.events[-LIGHT * EACH :]]
        for pty in ptys:
            await trio.to_thread.run_sync(check_terminal, pty, last)
        nursery.cancel_scope.cancel()


async def few_talk(readers: list[Member], ptys: list[Pty]) -> None:
    """Those who read all say their messages first, so that the others' come last, for all alike."""
    for one, reader in enumerate(readers):
        reader.screen.say(*said_by(f"reader{one}"))
    for one, pty in enumerate(ptys):
        for text in said_by(f"terminal{one}"):
            pty.type(text + ENTER)
    for reader in readers:
        count = (READERS + TERMINALS - 1) * EACH
        await reader.screen.until(lambda s: len(s.texts()) == count)  # noqa: B023


def said_by(name: str) -> list[str]:
    return [f"{name} says {number}" for number in range(EACH)]


async def check_light(light: list[Light], observer: Light) -> None:
    """Each got what the observer got, in the same order, but for its own; none lacks a message."""
    with trio.move_on_after(20):
        while len(observer.texts_got) < (READERS + TERMINALS + LIGHT) * EACH:
            await trio.sleep(0.05)
    last = observer.texts_got[-LIGHT * EACH :]
    by_sender = defaultdict(list)
    for frame in last:
        by_sender[frame.payload[STREAM]].append(frame.payload)
    whole = [(one.payload[STREAM], frames.pack(one.name, one.payload, one.member)) for one in last]
    for each in light:
        assert by_sender[each.own.stream] == each.sent
        expected = b"".join(data for sender, data in whole if sender != each.own.stream)
        with trio.move_on_after(20):
            while not each.has_got(expected, observer.aside):
                await trio.sleep(0.05)
        assert each.has_got(expected, observer.aside)


def check_reader(reader: Member, light: list[Light]) -> None:
    assert not reader.screen.alarms()
    for one in light:
        assert reader.screen.texts(one.name) == one.texts
    names = [f"reader{n}" for n in range(READERS)] + [f"terminal{n}" for n in range(TERMINALS)]
    assert sum(reader.screen.texts(name) == said_by(name) for name in names) == len(names) - 1


def check_terminal(pty: Pty, last: list[str]) -> None:
    """The last page, and the page before it."""
    rows = [line.replace(": ", " ", 1) for line in last]
    height = ROWS - 2
    pty.until(lambda _: [line[6:] for line in pty.lines()[:height]] == rows[-height:])
    pty.type(PAGE_UP)
    until = 1 - height
    pty.until(lambda _: [line[6:] for line in pty.lines()[:height]] == rows[until - height : until])


def test_who_does_not_read_is_dropped_and_nobody_else_notices(openssl_device: Service) -> None:
    async def main() -> None:
        async with (
            server(queue=1 << 17) as port,
            member(port, "alice", openssl_device.path) as alice,
            member(port, "bob", openssl_device.path) as bob,
        ):
            await alice.screen.until_joined("bob")
            with frozen(port) as sock:
                texts = [f"{number} " + "x" * 60000 for number in range(100)]
                for text in texts:
                    alice.screen.say(text)
                    await bob.screen.until(lambda s: s.texts() and s.texts()[-1] == text)  # noqa: B023
                assert bob.screen.texts() == texts
                await trio.to_thread.run_sync(until_closed, sock)

    run_chat(main)


def until_closed(sock: socket.socket) -> None:
    sock.settimeout(10)
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass
