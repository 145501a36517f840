"""The servers that one can start: a room on either wire, or a talk with the server's terminal."""

import socket
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from cuse_crypto_chat.classic_cipher import ClassicCipher
from cuse_crypto_chat.classic_room import ClassicRoom
from cuse_crypto_chat.classic_talk import Broken, Lines, Talk
from cuse_crypto_chat.client import Client
from cuse_crypto_chat.dial import Patience
from cuse_crypto_chat.events import Notice
from cuse_crypto_chat.host import Host, Wire, address, listen
from cuse_crypto_chat.journal import Journal
from cuse_crypto_chat.relay import Relay
from cuse_crypto_chat.room import Member, Room
from cuse_crypto_chat.screen import Screen
from cuse_crypto_chat.sealing import Sealer

PAIR = 2
"""Members of a talk with the server's own terminal."""


class Settings(NamedTuple):
    """Where to listen, and what one client may cost: bytes queued, and bytes per second."""

    host: str
    port: int
    max_clients: int
    queue: int
    rate: float


Announce = Callable[[str], Awaitable[None]]


async def serve_room(
    settings: Settings, cipher: ClassicCipher | None, announce: Announce, ended: trio.Event
) -> None:
    """A room until ``ended``: on the classic wire if there is a cipher, else on the default one."""
    journal = Journal()
    room = Room(settings.max_clients, settings.queue)
    wire: Wire
    if cipher is None:
        wire = Relay(room, journal.log, settings.rate)
    else:
        wire = ClassicRoom(room, cipher, journal.log, settings.rate)
        journal.log(cipher.warning)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run)
        await _host(Host(wire, room, journal.log), settings, announce, ended)
        nursery.cancel_scope.cancel()


async def _host(host: Host, settings: Settings, announce: Announce, ended: trio.Event) -> None:
    listeners = listen(settings.host, settings.port)
    port = listeners[0].socket.getsockname()[1]
    await announce(f"ready: {settings.host} port {port}")
    await host.run(listeners, ended)


async def talk_sealed(
    settings: Settings,
    sealer: Sealer,
    name: str,
    screen: Screen,
    announce: Announce,
    ended: trio.Event,
) -> None:
    """The default wire, with this terminal as one of two members; the next when one leaves."""
    room = Room(PAIR, settings.queue)
    log = _quiet
    host = Host(Relay(room, log, settings.rate), room, log, at_once=PAIR - 1)
    over = trio.Event()
    async with trio.open_nursery() as nursery:

        async def dial() -> trio.SocketStream:
            ours, theirs = (_stream(one) for one in socket.socketpair())
            nursery.start_soon(_serve_and_close, host, theirs)
            return ours

        client = Client(dial, "this server", sealer, name, screen, Patience(0), stay=True)
        nursery.start_soon(_host, host, settings, announce, over)
        await client.run(ended)
        over.set()
        nursery.cancel_scope.deadline = trio.current_time() + 1


async def _serve_and_close(host: Host, stream: trio.SocketStream) -> None:
    async with stream:
        await host.serve(stream, "this terminal")


def _stream(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def _quiet(text: str) -> None:
    """The terminal is taken by the talk, which tells who comes and goes itself."""


async def talk_classic(
    settings: Settings,
    cipher: ClassicCipher,
    screen: Screen,
    announce: Announce,
    ended: trio.Event,
) -> None:
    """The classic wire, with this terminal at one end; the next client when one leaves."""
    lines = Lines(screen)
    wire = _OneToOne(cipher, screen, lines)
    host = Host(wire, Room(1, settings.queue), _quiet, at_once=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run_lines, lines, screen.interactive, ended)
        await screen.show(Notice(cipher.warning, time.time()))
        await _host(host, settings, announce, ended)
        nursery.cancel_scope.cancel()


async def _run_lines(lines: Lines, interactive: bool, ended: trio.Event) -> None:
    await lines.run()
    if interactive:
        ended.set()


class _OneToOne:
    """The course's first server: one peer at a time, whom this terminal talks with."""

    def __init__(self, cipher: ClassicCipher, screen: Screen, lines: Lines) -> None:
        self._cipher = cipher
        self._screen = screen
        self._lines = lines

    async def refusal(self) -> bytes:
        return b""

    async def goodbye(self) -> bytes:
        return b""

    async def keep_waiting(self, stream: trio.SocketStream) -> None:
        """The course's clients are told nothing."""

    async def serve(self, stream: trio.SocketStream, member: Member) -> None:
        """Talk with one client."""
        await self._notice(f"connected to {address(stream)}")
        try:
            await Talk(stream, self._cipher, self._screen, self._lines, stay=True).run()
            await self._notice("peer left")
        except Broken as why:
            await self._notice(str(why))

    async def left(self, member: Member) -> None:
        """There is nobody else to tell."""

    async def _notice(self, text: str) -> None:
        await self._screen.show(Notice(text, time.time()))
