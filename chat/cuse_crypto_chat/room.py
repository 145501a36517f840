"""A room: any number of clients, a queue for each, and nobody waits for anybody.

It moves bytes, and knows nothing of either wire.
"""

from collections import deque
from collections.abc import Iterator

import trio

MAX_PART = 262144
"""Bytes that are handed to the kernel at once."""
GATHERING = 0.01
"""Seconds between two sendings to one client: in a busy room many messages go at once."""
STALLED = 30.0
"""Seconds for which a client may take nothing at all."""


class Member:
    """One client: what is to be sent to it is queued, ``limit`` bytes at most, then it is dropped.

    ``dropped`` says why it had to go; "" if it was not dropped. ``present`` once it takes part.
    """

    present = False

    def __init__(self, number: int, address: str, limit: int) -> None:
        self.number = number
        self.address = address
        self.dropped = ""
        self.scope = trio.CancelScope()
        self.serving = trio.CancelScope()
        """Of what listens to it; ``scope`` is around that and around what sends to it."""
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._filled = trio.Event()
        self._closed = False

    def put(self, data: bytes) -> None:
        """Queue bytes; a client that has too many queued already is dropped instead."""
        if self._size + len(data) > self._limit:
            self.drop("it did not keep up")
            return
        self._queue.append(data)
        self._size += len(data)
        self._filled.set()

    def drop(self, why: str) -> None:
        """End it; the first reason stays."""
        self.dropped = self.dropped or why
        self.scope.cancel()

    def close(self) -> None:
        """Nothing more will be queued: ``send_all`` returns when all is sent."""
        self._closed = True
        self._filled.set()

    async def send_all(self, stream: trio.SocketStream) -> None:
        """Send what is queued, and what will be, until ``close``."""
        while self._queue or not self._closed:
            if not self._queue:
                self._filled = trio.Event()
                await self._filled.wait()
                continue
            try:
                with trio.fail_after(STALLED):
                    await stream.send_all(self._take())
                if not self._closed:
                    await trio.sleep(GATHERING)
            except trio.TooSlowError:
                self.drop("it takes nothing any more")
            except trio.BrokenResourceError:
                self.drop("connection broken")

    def _take(self) -> bytes:
        parts = []
        size = 0
        while self._queue and size < MAX_PART:
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        self._size -= size
        return b"".join(parts)


class Room:
    """Who is here, by number; numbers are never given twice."""

    def __init__(self, max_members: int, queue_limit: int) -> None:
        self._max = max_members
        self._limit = queue_limit
        self._members: dict[int, Member] = {}
        self._last = 0

    def __iter__(self) -> Iterator[Member]:
        """Those who take part."""
        return (member for member in list(self._members.values()) if member.present)

    def enter(self, address: str) -> Member | None:
        """A new member; None if the room is full."""
        if len(self._members) >= self._max:
            return None
        self._last += 1
        member = Member(self._last, address, self._limit)
        self._members[member.number] = member
        return member

    def leave(self, member: Member) -> None:
        """It is not here any more."""
        del self._members[member.number]

    def tell(self, number: int, data: bytes) -> None:
        """Queue bytes for one member, if it takes part."""
        member = self._members.get(number)
        if member is not None and member.present:
            member.put(data)

    def tell_others(self, member: Member | None, data: bytes) -> None:
        """Queue bytes for everybody but this one."""
        for other in self:
            if other is not member:
                other.put(data)

    def end(self, data: bytes) -> None:
        """Queue the last bytes for everybody, and listen to nobody any more."""
        for member in list(self._members.values()):
            member.put(data)
            member.dropped = member.dropped or "the server ends"
            member.serving.cancel()


class Allowance:
    """Bytes per second that one client may send, and as many again at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left = rate * 2
        self._at = trio.current_time()

    async def spend(self, size: int) -> None:
        """Wait until so much is allowed."""
        now = trio.current_time()
        self._left = min(self._rate * 2, self._left + (now - self._at) * self._rate) - size
        self._at = now
        if self._left < 0:
            await trio.sleep(-self._left / self._rate)
