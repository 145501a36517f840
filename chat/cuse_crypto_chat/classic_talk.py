"""A talk between two on the classic wire, as the course's client and first server have it."""

import time

import trio

from cuse_crypto.errors import Failure
from cuse_crypto_chat import classic
from cuse_crypto_chat.classic import Assembler, CutMessage
from cuse_crypto_chat.classic_cipher import ClassicCipher
from cuse_crypto_chat.client import Dial
from cuse_crypto_chat.dial import Patience, Unreachable
from cuse_crypto_chat.events import Notice, Said
from cuse_crypto_chat.screen import Screen

PART = 65536
PARTING = 0.5
"""Seconds for the peer to end, when somebody waits at a terminal for it."""


class Broken(Exception):
    """The connection was lost."""


class Lines:
    """What is typed, from one connection to the next; a line that was not sent stays."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._put, self._typed = trio.open_memory_channel[str](0)
        self._kept: str | None = None
        self.ended = False

    async def run(self) -> None:
        """Read the screen until the end of input."""
        await self._screen.run(self._put)

    async def next(self) -> str | None:
        """The next line, the same again until ``sent``; None at the end of input."""
        if self._kept is None:
            try:
                self._kept = await self._typed.receive()
            except trio.EndOfChannel:
                self.ended = True
            else:
                if self._screen.interactive:
                    now = time.time()
                    await self._screen.show(Said("you", self._kept, now, now, own=True))
        return self._kept

    def sent(self) -> None:
        """The line is on its way."""
        self._kept = None


class Talk:
    """One connection: lines out, lines in, until the peer ends. Broken if it was cut off.

    With ``stay`` the end of our input is not told to the peer, who may still have something to say.
    """

    def __init__(
        self,
        stream: trio.SocketStream,
        cipher: ClassicCipher,
        screen: Screen,
        lines: Lines,
        stay: bool = False,
    ) -> None:
        self._stream = stream
        self._cipher = cipher
        self._screen = screen
        self._lines = lines
        self._stay = stay
        self._broken = ""

    async def run(self) -> None:
        """Talk."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, nursery.cancel_scope)
            await self._receive()
            nursery.cancel_scope.cancel()
        if self._broken:
            raise Broken(self._broken)

    async def _send(self, scope: trio.CancelScope) -> None:
        try:
            while (line := await self._lines.next()) is not None:
                data = await self._cipher.encrypt(list(classic.messages(line)))
                await self._stream.send_all(data)
                self._lines.sent()
            if self._stay:
                return
            await self._stream.send_eof()
        except trio.BrokenResourceError:
            self._broken = "connection lost"
            scope.cancel()
        if self._screen.interactive:
            await trio.sleep(PARTING)
            scope.cancel()

    async def _receive(self) -> None:
        assembler = Assembler()
        try:
            while data := bytes(await self._stream.receive_some(PART)):
                for message in await self._cipher.decrypt(assembler.feed(data)):
                    now = time.time()
                    await self._screen.show(Said("peer", classic.text(message), now, now))
            assembler.end()
        except trio.BrokenResourceError:
            self._broken = "connection lost"
        except CutMessage as error:
            self._broken = str(error)


class ClassicClient:
    """Connects, and connects again when the connection was cut off."""

    def __init__(
        self,
        dial: Dial,
        where: str,
        cipher: ClassicCipher,
        screen: Screen,
        patience: Patience,
        stay: bool = False,
    ) -> None:
        self._dial = dial
        self._where = where
        self._cipher = cipher
        self._screen = screen
        self._lines = Lines(screen)
        self._patience = patience
        self._stay_on = stay
        self._was_in = False

    async def run(self, ended: trio.Event) -> None:
        """Until the peer ends, the input has ended and the peer too, or until ``ended``."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lines.run)
            nursery.start_soon(_cancel_when, ended, nursery.cancel_scope)
            await self._notice(self._cipher.warning)
            await self._stay()
            nursery.cancel_scope.cancel()

    async def _stay(self) -> None:
        while True:
            try:
                async with await self._dial() as stream:
                    self._was_in = True
                    self._patience.succeeded()
                    await self._notice(f"connected to {self._where}")
                    await Talk(stream, self._cipher, self._screen, self._lines, self._stay_on).run()
                if not (self._lines.ended and self._screen.interactive):
                    await self._notice("peer left")
                return
            except (Broken, Unreachable) as why:
                if not self._was_in:
                    remedy = "is a chat server running there, on this port?"
                    raise Failure(f"{self._where}: {why}; {remedy}") from None
                if isinstance(why, Broken):
                    await self._notice(f"{why}; connecting again")
                if not await self._patience.wait():
                    raise Failure(f"{self._where}: {why}; giving up") from None

    async def _notice(self, text: str) -> None:
        await self._screen.show(Notice(text, time.time()))


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
