"""Chats inside a test: a server, members with a screen that remembers, and a proxy that meddles."""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import trio

from cuse_crypto.errors import Failure
from cuse_crypto_chat import frames
from cuse_crypto_chat.cipher import Crypto
from cuse_crypto_chat.client import Client
from cuse_crypto_chat.dial import Patience, dial
from cuse_crypto_chat.events import Alarm, Event, Joined, Notice, Said
from cuse_crypto_chat.frames import HEADER, FrameReader
from cuse_crypto_chat.host import Host, listen
from cuse_crypto_chat.relay import Relay
from cuse_crypto_chat.room import Room
from cuse_crypto_chat.sealing import Sealer

KEY = bytes(range(32))
"""Of a room: what a secret gives, without the time that it takes."""
SECONDS = 20.0


def run_chat(main: Callable[[], Awaitable[None]], seconds: float = SECONDS) -> None:
    """Run an async test; it fails when it takes longer."""

    async def limited() -> None:
        with trio.fail_after(seconds):
            await main()

    trio.run(limited)


class Screen:
    """Remembers events; what is said on it comes from the test."""

    interactive = False

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = trio.Event()
        self._put, self._said = trio.open_memory_channel[str](10000)

    async def run(self, lines: "trio.MemorySendChannel[str]") -> None:
        async with lines:
            async for line in self._said:
                await lines.send(line)

    async def show(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()
        await trio.lowlevel.checkpoint()

    def status(self, text: str) -> None: ...

    def say(self, *lines: str) -> None:
        for line in lines:
            self._put.send_nowait(line)

    def end(self) -> None:
        self._put.close()

    def texts(self, who: str | None = None) -> list[str]:
        said = [one for one in self.events if isinstance(one, Said)]
        return [one.text for one in said if who in (None, one.who)]

    def joined(self) -> list[str]:
        return [one.who for one in self.events if isinstance(one, Joined)]

    def alarms(self) -> list[str]:
        return [one.text for one in self.events if isinstance(one, Alarm)]

    def notices(self) -> list[str]:
        return [one.text for one in self.events if isinstance(one, Notice)]

    async def until(self, condition: Callable[["Screen"], object]) -> None:
        while not condition(self):
            await self._changed.wait()

    async def until_joined(self, *names: str) -> None:
        await self.until(
            lambda s: {one.who for one in s.events if isinstance(one, Joined)} >= set(names)
        )


class Member:
    """A client in the test's process; ``ended`` makes it leave."""

    def __init__(self, client: Client, screen: Screen) -> None:
        self.client = client
        self.screen = screen
        self.ended = trio.Event()
        self.done = trio.Event()
        self.failure = ""

    async def run(self) -> None:
        try:
            await self.client.run(self.ended)
        except* Failure as group:
            self.failure = str(_leaf(group))
        self.done.set()

    async def fails(self) -> str:
        """Wait for its end; what it failed with."""
        await self.done.wait()
        return self.failure


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def server(ended: trio.Event | None = None, **options: int) -> AsyncIterator[int]:
    """A relay on a free port of the loopback."""
    room = Room(options.get("max_clients", 250), options.get("queue", 4 << 20))
    host = Host(Relay(room, lambda text: None, options.get("rate", 1 << 30)), room, print)
    listeners = listen("127.0.0.1", options.get("port", 0))
    async with trio.open_nursery() as nursery:
        ended = trio.Event() if ended is None else ended
        nursery.start_soon(host.run, listeners, ended)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def member(
    port: int, name: str, device: os.PathLike[str], key: bytes = KEY, patience: float = 30
) -> AsyncIterator[Member]:
    """A member that has connected; it is cancelled, without a goodbye, in the end."""
    screen = Screen()

    async def tell(text: str) -> None:
        await screen.show(Notice(text, 0))

    crypto = Crypto(os.fspath(device), tell)
    reach = partial(dial, "127.0.0.1", port)
    client = Client(reach, f"port {port}", Sealer(crypto, key), name, screen, Patience(patience))
    one = Member(client, screen)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            yield one
            nursery.cancel_scope.cancel()
    finally:
        crypto.close()


Meddle = Callable[[int, bytes], list[bytes]]
"""Given the count of a frame that carries a record, from 0, and the frame: what goes on instead."""


class Proxy:
    """Passes frames on, remembers all bytes, and meddles with the records that clients send.

    ``from_server`` meddles with those that they get.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.recorded = b""
        self.from_client: Meddle = lambda count, frame: [frame]
        self.from_server: Meddle = lambda count, frame: [frame]
        self._scopes: list[trio.CancelScope] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        listeners = listen("127.0.0.1", 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._handle, listeners)
            yield listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()

    def lose(self) -> None:
        """End all connections that there are now."""
        for scope in self._scopes:
            scope.cancel()

    async def _handle(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            await client.aclose()
            return
        async with client, server, trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            self._scopes.append(scope)
            up = FrameReader("member")
            down = FrameReader("server")
            nursery.start_soon(
                self._copy, client, server, up, lambda *a: self.from_client(*a), scope
            )
            nursery.start_soon(
                self._copy, server, client, down, lambda *a: self.from_server(*a), scope
            )

    async def _copy(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        reader: FrameReader,
        meddle: Meddle,
        scope: trio.CancelScope,
    ) -> None:
        count = 0
        with contextlib.suppress(trio.BrokenResourceError, Cut):
            while data := await source.receive_some(65536):
                self.recorded += data
                for name, number, payload in list(reader.feed(bytes(data))):
                    out = [frames.pack(name, payload, number)]
                    if name == "RECORD":
                        out = meddle(count, out[0])
                        count += 1
                    await self._send(target, out)
        scope.cancel()

    async def _send(self, target: trio.SocketStream, out: list[bytes]) -> None:
        for one in out:
            await target.send_all(one)
            if len(one) < HEADER.size or len(one) < HEADER.size + HEADER.unpack_from(one)[0]:
                raise Cut


class Cut(Exception):
    """A frame of which only a part was passed on: the connection ends there."""
