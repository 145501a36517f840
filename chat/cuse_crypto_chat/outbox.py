"""What was typed, until the server has said that it has passed it on; over all connections."""

import os

import trio

from cuse_crypto_chat.outgoing import now_ms
from cuse_crypto_chat.records import MAX_TEXT, STREAM_SIZE, Text
from cuse_crypto_chat.text import pieces

MAX_WAITING = 256
"""Messages; whoever types more waits."""


class Outbox:
    """The messages of one member, numbered from 1; ``instance`` stays for its life."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.instance = os.urandom(STREAM_SIZE)
        self.closed = False
        """Nothing more will be added."""
        self._number = 0
        self._messages: dict[int, Text] = {}
        self._sent_as: dict[int, int] = {}
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    async def add(self, line: str) -> None:
        """Number a line, as several messages if it is longer than 64 KiB. Waits for room."""
        for piece in pieces(line.encode(errors="replace"), MAX_TEXT):
            while len(self) >= MAX_WAITING:
                await self.wait()
            self._number += 1
            self._messages[self._number] = Text(now_ms(), self._number, piece.decode())
            self._pulse()

    def close(self) -> None:
        """The end of input."""
        self.closed = True
        self._pulse()

    def connected(self) -> None:
        """A new connection: nothing has left on it."""
        self._sent_as.clear()

    def unsent(self) -> list[Text]:
        """What has not left on the present connection."""
        return [one for number, one in self._messages.items() if number not in self._sent_as]

    def left_as(self, message: Text, count: int) -> None:
        """It leaves as the record of this count on the present connection."""
        self._sent_as[message.number] = count

    def passed_on(self, count: int) -> None:
        """The server has passed on the first ``count`` records of the present connection."""
        for number in [one for one, sent in self._sent_as.items() if 0 < sent <= count]:
            del self._sent_as[number], self._messages[number]
        self._pulse()

    async def wait(self) -> None:
        """Wait until something has changed."""
        await self._changed.wait()

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
