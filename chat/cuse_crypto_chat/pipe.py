"""Lines in, lines out: the chat between other programs. What is no message goes to stderr."""

import json
import os
import sys

import trio

from cuse_crypto.errors import Failure
from cuse_crypto_chat.events import Alarm, Event, Notice, Said
from cuse_crypto_chat.screen import in_words
from cuse_crypto_chat.text import boundary, printable

PART = 65536
MAX_LINE = 65536
"""Bytes; a longer line becomes several."""


class Pipe:
    """Standard input and output; with ``as_json`` one object per event."""

    interactive = False

    def __init__(self, as_json: bool = False) -> None:
        self._json = as_json
        self._writing = trio.Lock()

    async def run(self, lines: "trio.MemorySendChannel[str]") -> None:
        """Read lines until the end of input."""
        async with lines:
            rest = b""
            while part := await trio.to_thread.run_sync(_read, abandon_on_cancel=True):
                *whole, rest = (rest + part).split(b"\n")
                if len(rest) > MAX_LINE:
                    end = boundary(rest, MAX_LINE)
                    whole, rest = [*whole, rest[:end]], rest[end:]
                for line in whole:
                    await lines.send(line.decode(errors="replace"))
            if rest:
                await lines.send(rest.decode(errors="replace"))

    async def show(self, event: Event) -> None:
        """Write one line. Failure when nobody reads any more."""
        if isinstance(event, Said) and event.own:
            return
        async with self._writing:
            await self._write(event)

    async def _write(self, event: Event) -> None:
        if self._json:
            await _write(1, json.dumps({"event": type(event).__name__.lower(), **event._asdict()}))
        elif isinstance(event, Said):
            await _write(1, printable(event.text))
        elif isinstance(event, Alarm | Notice):
            await _write(2, f"cuse-crypto chat: {in_words(event)}")

    def status(self, text: str) -> None:
        """A pipe has no place for it."""


def _read() -> bytes:
    return os.read(0, PART)


async def _write(fd: int, line: str) -> None:
    await trio.to_thread.run_sync(_write_all, fd, line.encode() + b"\n", abandon_on_cancel=True)


def _write_all(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        # Nor must Python fail to flush it at the end.
        sys.stdout = None
        raise Failure("nobody reads standard output any more") from None
