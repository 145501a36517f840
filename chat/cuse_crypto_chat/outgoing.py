"""Our own stream: a fresh name, and two counters. No I/O and no cipher."""

import os
import time
from typing import NamedTuple

from cuse_crypto_chat import records
from cuse_crypto_chat.records import NOBODY, Body, End, Greeting, Opened


def now_ms() -> int:
    """Milliseconds since 1970, as records carry them."""
    return time.time_ns() // 1_000_000


class Letter(NamedTuple):
    """A record on its way: for everybody, or for the member of this number and stream."""

    body: Body
    member: int = 0
    stream: bytes = NOBODY


class Outgoing:
    """Numbers records in the order in which they are to leave."""

    def __init__(self) -> None:
        self.stream = os.urandom(records.STREAM_SIZE)
        self._sequences = {False: 0, True: 0}
        self.sent = 0
        """Records, of both kinds."""
        self.ended_as = 0
        """The count of the last record."""

    @property
    def next(self) -> int:
        """The sequence of the next record for the room."""
        return self._sequences[False]

    def prepare(self, letter: Letter) -> Opened:
        """The record, ready to be sealed under the key of ``stream``."""
        direct = letter.stream != NOBODY
        body = letter.body
        if isinstance(body, Greeting):
            body = body._replace(next=self.next)
        opened = records.prepare(body, self.stream, self._sequences[direct], letter.stream)
        self._sequences[direct] += 1
        self.sent += 1
        if isinstance(body, End):
            self.ended_as = self.sent
        return opened
