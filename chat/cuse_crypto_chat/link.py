"""A member's connection to a server: frames in and out, signs of life, and how it ends."""

from collections import deque

import trio

from cuse_crypto_chat import frames
from cuse_crypto_chat.frames import Frame, FrameReader, PeerError, Welcome
from cuse_crypto_chat.text import printable

PART = 65536
FIRST_ANSWER = 10.0
"""Seconds for a server's first frame."""
SENDING = 30.0
"""Seconds for the server to take what we send."""
MISSED = 3
"""Signs of life that may be missing."""


class Lost(Exception):
    """The connection is gone, and may be made again."""


class Goodbye(Exception):
    """The server ends the talk in an orderly way, and says why."""


class WrongServer(Exception):
    """Whoever is there does not speak this."""


class Link:
    """A stream of frames. One task may receive; any may send."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._reader = FrameReader("server")
        self._frames: deque[Frame] = deque()
        self._sending = trio.Lock()
        self._keepalive = FIRST_ANSWER
        self._missed_allowed = 1

    async def join(self) -> None:
        """Ask to be let in; ``entered`` has the answer."""
        await self.send(frames.pack_join())

    async def entered(self) -> Welcome | str:
        """The welcome, or what the server says while one waits: then call it again.

        Goodbye if it lets nobody in, WrongServer, Lost.
        """
        try:
            frame = await self._next()
            if frame.name == "WAIT":
                self._missed_allowed = MISSED
                return words(frame)
            if frame.name != "WELCOME":
                raise PeerError(f"{frame.name} before WELCOME")
            welcome = frames.unpack_welcome(frame)
        except PeerError as error:
            raise WrongServer(f"it speaks something else ({error})") from None
        self._keepalive, self._missed_allowed = welcome.keepalive, MISSED
        return welcome

    async def receive(self) -> Frame:
        """The next RECORD, LEFT or PONG. Goodbye, Lost."""
        try:
            frame = await self._next()
            if frame.name not in ("RECORD", "LEFT", "PONG"):
                raise PeerError(f"{frame.name} after WELCOME")
        except PeerError as error:
            raise Lost(f"the server broke the protocol: {error}") from None
        return frame

    async def send(self, data: bytes) -> None:
        """Lost if the server does not take it in time."""
        async with self._sending:
            try:
                with trio.fail_after(SENDING):
                    await self._stream.send_all(data)
            except trio.TooSlowError:
                raise Lost("the server takes nothing any more") from None
            except trio.BrokenResourceError as error:
                raise Lost(_cause(error)) from None

    async def _next(self) -> Frame:
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.name == "BYE":
                    raise Goodbye(words(frame))
                if frame.name != "PING":
                    return frame
                await self.send(frames.pack("PONG", frame.payload))
            self._frames.extend(self._reader.feed(await self._bytes()))

    async def _bytes(self) -> bytes:
        for attempt in range(self._missed_allowed):
            if attempt:
                await self.send(frames.pack("PING", frames.TOKEN.pack(0)))
            with trio.move_on_after(self._keepalive):
                try:
                    data = bytes(await self._stream.receive_some(PART))
                except trio.BrokenResourceError as error:
                    raise Lost(_cause(error)) from None
                if not data:
                    raise Lost("the server closed the connection")
                return data
        raise Lost("the server does not answer")


def words(frame: Frame) -> str:
    """What the server says in a frame, printable."""
    return printable(frame.payload.decode(errors="replace"))


def _cause(error: trio.BrokenResourceError) -> str:
    cause = error.__cause__
    return (cause.strerror if isinstance(cause, OSError) else None) or "connection broken"
