"""A program that takes part in a talk: it connects, connects again, and keeps what was typed."""

import time
from collections.abc import Awaitable, Callable

import trio

from cuse_crypto.errors import Failure
from cuse_crypto_chat.dial import Patience, Unreachable
from cuse_crypto_chat.events import Notice, Said
from cuse_crypto_chat.link import Goodbye, Link, Lost, WrongServer
from cuse_crypto_chat.outbox import Outbox
from cuse_crypto_chat.screen import Screen, clock
from cuse_crypto_chat.sealing import Sealer
from cuse_crypto_chat.session import Finished, Session
from cuse_crypto_chat.stream import Numbers
from cuse_crypto_chat.text import printable

HELP = "/who  who is here    /quit  leave    //text  say something that begins with a slash"
STATUS_INTERVAL = 0.2
"""Seconds."""

Dial = Callable[[], Awaitable[trio.SocketStream]]


class Client:
    """A member for as long as its program runs. ``dial`` may raise Unreachable; ``where`` names it.

    A server that was lost is looked for as long as ``patience`` says. With ``stay`` the end of
    input is not the end.
    """

    def __init__(
        self,
        dial: Dial,
        where: str,
        sealer: Sealer,
        name: str,
        screen: Screen,
        patience: Patience,
        stay: bool = False,
    ) -> None:
        self._dial = dial
        self._where = where
        self._sealer = sealer
        self._screen = screen
        self._patience = patience
        self._stay_on = stay
        self._outbox = Outbox(name)
        self._numbers = Numbers()
        self._session: Session | None = None
        self._leaving = trio.Event()
        self._idle = trio.CancelScope()
        self.connected = trio.Event()
        """A server has let us in, once."""
        self._expected: frozenset[bytes] = frozenset()

    async def run(self, ended: trio.Event) -> None:
        """Until the end of the talk, of the input, or until ``ended``. Failure."""
        put, lines = trio.open_memory_channel[str](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._screen.run, put)
            nursery.start_soon(self._take, lines)
            nursery.start_soon(self._leave_when, ended)
            nursery.start_soon(self._tell_status)
            await self._stay()
            nursery.cancel_scope.cancel()

    def _leave(self) -> None:
        self._leaving.set()
        self._idle.cancel()

    async def _leave_when(self, ended: trio.Event) -> None:
        await ended.wait()
        self._leave()

    async def _notice(self, text: str) -> None:
        await self._screen.show(Notice(text, time.time()))

    # What is typed

    async def _take(self, lines: "trio.MemoryReceiveChannel[str]") -> None:
        async for line in lines:
            if not self._screen.interactive:
                await self._outbox.add(line)
            elif line.startswith("/") and not line.startswith("//"):
                await self._command(line)
            elif line.strip():
                await self._say(line.removeprefix("/") if line.startswith("//") else line)
        if self._screen.interactive:
            self._leave()
        if not self._stay_on:
            self._outbox.close()

    async def _say(self, line: str) -> None:
        now = time.time()
        await self._screen.show(Said(self._outbox.name, line, now, now, own=True))
        await self._outbox.add(line)

    async def _command(self, line: str) -> None:
        match line.split():
            case ["/quit"]:
                self._leave()
            case ["/who"]:
                await self._notice(self._who())
            case _:
                await self._notice(HELP)

    def _who(self) -> str:
        if self._session is None:
            return "not connected"
        present = self._session.members.present()
        return ", ".join(
            [f"{self._outbox.name} (you)"]
            + [f"{one.name} (since {clock(one.since)})" for one in present]
        )

    async def _tell_status(self) -> None:
        while self._screen.interactive:
            here = len(self._session.members.present()) + 1 if self._session else 0
            parts = [self._outbox.name, f"{here} here" if here else "not connected"]
            if waiting := len(self._outbox):
                parts.append(f"{waiting} on the way")
            self._screen.status("  ".join(parts))
            await trio.sleep(STATUS_INTERVAL)

    # Connections

    async def _stay(self) -> None:
        """One connection after the other, until one of them ends the talk."""
        while not self._leaving.is_set():
            try:
                await self._one_connection()
                break
            except (Lost, Unreachable, WrongServer) as why:
                if not self.connected.is_set():
                    raise Failure(f"{self._where}: {_remedy(why)}") from None
                await self._try_again(why)

    async def _try_again(self, why: Exception) -> None:
        if isinstance(why, Lost):
            await self._notice(f"connection lost: {why}; connecting again")
        with trio.CancelScope() as self._idle:
            if not await self._patience.wait():
                raise Failure(
                    f"{self._where}: {why}; giving up; messages not sent: {len(self._outbox)}"
                )

    async def _one_connection(self) -> None:
        with trio.CancelScope() as self._idle:
            stream = await self._dial()
            async with stream:
                await self._talk(stream)

    async def _talk(self, stream: trio.SocketStream) -> None:
        link = Link(stream)
        try:
            await link.join()
            while isinstance(welcome := await link.entered(), str):
                await self._notice(welcome)
        except Goodbye as why:
            raise Failure(printable(str(why))) from None
        await self._entered()
        self._session = Session(
            link,
            welcome.members,
            self._sealer,
            self._outbox,
            self._numbers,
            self._screen,
            self._leaving,
            self._expected,
        )
        # From here on the session itself leaves, with a goodbye.
        self._idle = trio.CancelScope()
        try:
            await self._session.run()
        except Goodbye as why:
            await self._notice(f"the server says goodbye: {why}")
            self._check([])
        except Finished as finished:
            self._check(finished.unconfirmed)
        finally:
            self._expected = self._session.members.instances() or self._expected
            self._session = None

    async def _entered(self) -> None:
        self._patience.succeeded()
        if self.connected.is_set():
            await self._notice("connected again")
        self.connected.set()

    def _check(self, unconfirmed: list[str]) -> None:
        if self._leaving.is_set():
            return
        if len(self._outbox):
            raise Failure(f"{len(self._outbox)} messages were not sent; say them again")
        if unconfirmed and not self._screen.interactive:
            raise Failure(f"not confirmed, and perhaps not seen, by {', '.join(unconfirmed)}")


def _remedy(why: Exception) -> str:
    if isinstance(why, Unreachable):
        return f"{why}; is `cuse-crypto chat serve` running there, on this port?"
    return f"{why}; if a program of the course is there, use --wire classic"
