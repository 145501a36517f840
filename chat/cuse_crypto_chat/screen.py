"""What shows a talk and takes its lines: a terminal, or a pipe."""

import time
from typing import Protocol

import trio

from cuse_crypto_chat.events import Alarm, Cut, Event, Joined, Left, Notice, Said
from cuse_crypto_chat.text import printable

LATE = 60.0
"""Seconds between sending and coming that are worth showing."""


class Screen(Protocol):
    """``interactive`` if a person types: then lines may be commands."""

    interactive: bool

    async def run(self, lines: "trio.MemorySendChannel[str]") -> None:
        """Put what is typed into ``lines`` until the end of input, and close it then."""

    async def show(self, event: Event) -> None:
        """Show one event; waits where the reader is slow."""

    def status(self, text: str) -> None:
        """How things are now."""


def clock(seconds: float) -> str:
    """The time of the day, here."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def in_words(event: Event) -> str:
    """An event as one line without anything that could drive a terminal; no time of day."""
    match event:
        case Said(who, text, came, sent):
            late = f" (sent {clock(sent)})" if abs(came - sent) > LATE else ""
            line = f"{who}: {text}{late}" if who else text
        case Joined(who, _, here):
            line = f"{who} is here" if here else f"{who} joined"
        case Left(who):
            line = f"{who} left"
        case Cut(who, _, why):
            line = f"{who} was cut off, without a goodbye ({why})"
        case Alarm(text) | Notice(text):
            line = text
    return printable(line)
