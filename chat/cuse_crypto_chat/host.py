"""A server: listens, gives each client its place in the room, and says goodbye in the end.

What is said on a connection is the business of its ``Wire``.
"""

import contextlib
import errno
import os
import socket
from functools import partial
from typing import Protocol

import trio

from cuse_crypto.errors import Failure
from cuse_crypto_chat.dial import watch
from cuse_crypto_chat.journal import Log
from cuse_crypto_chat.room import Member, Room

FULL = "Too many connected clients right now. Try again later."
BACKLOG = 128
PARTING = 2.0
"""Seconds for a client to take what it is told last."""
REFUSING = 64
"""Clients that may be refused at the same time; more are closed without a word."""
WAITING = 16
"""Clients that may wait for their turn."""
PART = 65536


class Wire(Protocol):
    """What a server says and hears on the connections of one room."""

    async def refusal(self) -> bytes:
        """For whom there is no place."""

    async def keep_waiting(self, stream: trio.SocketStream) -> None:
        """For who must wait; is cancelled when its turn comes."""

    async def serve(self, stream: trio.SocketStream, member: Member) -> None:
        """Until the client ends; sets ``member.dropped`` if it had to."""

    async def left(self, member: Member) -> None:
        """Tell the others."""

    async def goodbye(self) -> bytes:
        """What everybody is told when the server ends."""


class Host:
    """Serves a room. ``at_once`` is 1 where one talks with the server's own terminal."""

    def __init__(self, wire: Wire, room: Room, log: Log, at_once: int = 0) -> None:
        self._wire = wire
        self._room = room
        self._log = log
        self._turn = trio.CapacityLimiter(at_once) if at_once else None
        self._waiting: set[trio.CancelScope] = set()
        self._refused = 0

    async def run(self, listeners: "list[trio.SocketListener]", ended: trio.Event) -> None:
        """Until ``ended``; then everybody is told."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as listening:
                serve = partial(trio.serve_listeners, handler_nursery=connections)
                listening.start_soon(serve, self.accept, listeners)
                await ended.wait()
                listening.cancel_scope.cancel()
            self._room.end(await self._wire.goodbye())
            for waiting in self._waiting:
                waiting.cancel()
            connections.cancel_scope.deadline = trio.current_time() + PARTING

    async def accept(self, stream: trio.SocketStream) -> None:
        """One client, from its first to its last byte."""
        async with stream:
            with contextlib.suppress(OSError, trio.BrokenResourceError):
                watch(stream)
                if self._turn is None:
                    await self.serve(stream, address(stream))
                elif len(self._waiting) >= WAITING:
                    await self._refuse(stream, address(stream))
                elif await self._wait(stream, self._turn):
                    try:
                        await self.serve(stream, address(stream))
                    finally:
                        self._turn.release()

    async def _wait(self, stream: trio.SocketStream, turn: trio.CapacityLimiter) -> bool:
        """Wait for one's turn; False if it will not come."""
        with contextlib.suppress(trio.WouldBlock):
            turn.acquire_nowait()
            return True
        async with trio.open_nursery() as nursery:
            self._waiting.add(nursery.cancel_scope)
            try:
                nursery.start_soon(self._wire.keep_waiting, stream)
                await turn.acquire()
                nursery.cancel_scope.cancel()
                return True
            finally:
                self._waiting.remove(nursery.cancel_scope)
        return False

    async def serve(self, stream: trio.SocketStream, where: str) -> None:
        """Give a client a place, and serve it there."""
        member = self._room.enter(where)
        if member is None:
            await self._refuse(stream, where)
            return
        try:
            with member.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(member.send_all, stream)
                    with member.serving:
                        await self._wire.serve(stream, member)
                    member.close()
                    nursery.cancel_scope.deadline = trio.current_time() + PARTING
                if member.dropped:
                    await part(stream)
        finally:
            self._room.leave(member)
            if member.present:
                with trio.CancelScope(shield=True):
                    await self._wire.left(member)

    async def _refuse(self, stream: trio.SocketStream, where: str) -> None:
        if self._refused < REFUSING:
            self._refused += 1
            try:
                self._log(f"{where} refused: too many are connected; see --max-clients")
                with trio.move_on_after(PARTING):
                    await stream.send_all(await self._wire.refusal())
                    await part(stream)
            finally:
                self._refused -= 1


async def part(stream: trio.SocketStream) -> None:
    """End a connection such that the other side reads all that it was sent.

    Closing with bytes unread would reset it, and take away what has not been read there.
    """
    with trio.move_on_after(PARTING), contextlib.suppress(trio.BrokenResourceError):
        await stream.send_eof()
        while await stream.receive_some(PART):
            pass


def address(stream: trio.SocketStream) -> str:
    """``127.0.0.1:4711`` of the other end; an IPv4 address that came by IPv6 as what it is."""
    name = stream.socket.getpeername()
    if not isinstance(name, tuple):
        return "this terminal"
    host = name[0].removeprefix("::ffff:")
    return f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"


def listen(host: str, port: int) -> list[trio.SocketListener]:
    """Sockets for the addresses of ``host``; ``::`` is IPv4 as well, by one socket. Failure."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise Failure(f"--host {host}: {why}; name an address of this machine") from None
    listeners = []
    try:
        for family, _, _, _, where in infos:
            listeners.append(_listener(family, (str(where[0]), port)))
            # Port 0 is a free one, the same for all addresses.
            port = listeners[0].socket.getsockname()[1]
    except OSError as error:
        for one in listeners:
            one.socket.close()
        if error.errno == errno.EAFNOSUPPORT and host == "::":
            return listen("0.0.0.0", port)
        remedy = (
            "choose another --port" if error.errno == errno.EADDRINUSE else "see --host, --port"
        )
        raise Failure(f"{host} port {port}: {os.strerror(error.errno or 0)}; {remedy}") from None
    return listeners


def _listener(family: int, where: tuple[str, int]) -> trio.SocketListener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, where[0] != "::")
        sock.bind(where)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
