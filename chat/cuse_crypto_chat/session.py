"""A member's side of one connection: records in and out, until it ends.

Every way to end is an exception: Lost may be followed by another connection, Goodbye and Finished
are orderly, Failure says what cannot be.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

import trio

from cuse_crypto.errors import Failure
from cuse_crypto_chat import frames, records
from cuse_crypto_chat.events import Notice
from cuse_crypto_chat.frames import Frame
from cuse_crypto_chat.link import Goodbye, Link, Lost, words
from cuse_crypto_chat.members import Confirm, Greet, Members, Outcome
from cuse_crypto_chat.outbox import Outbox
from cuse_crypto_chat.outgoing import Letter, Outgoing, now_ms
from cuse_crypto_chat.records import Alive, End, Greeting, Hello, RecordError, Text
from cuse_crypto_chat.screen import Screen
from cuse_crypto_chat.sealing import Sealer
from cuse_crypto_chat.stream import Numbers

T = TypeVar("T")

SETTLING = 3.0
"""Seconds for those who are there to greet us, before we say anything."""
FAREWELL = 5.0
"""Seconds for the others to confirm what we said last."""
SHORT_FAREWELL = 0.5
"""The same when somebody waits at a terminal for the end."""
ALIVE = 30.0
"""Seconds of silence after which we say that we are alive."""
TICK = 1.0
"""Seconds between looks at the clock."""
MAX_INBOX = 256
MAX_LETTERS = 256
BATCH = 64
"""Records that one visit to the device opens or seals."""
WRONG_SECRET = (
    "nobody in the room has this secret and room name; compare --secret-file and --room with theirs"
)


class Finished(Exception):
    """We have ended the talk; ``unconfirmed`` are those who may lack what we said last."""

    def __init__(self, unconfirmed: list[str]) -> None:
        super().__init__()
        self.unconfirmed = unconfirmed


ENDS = Lost, Goodbye, Finished, Failure


class Session:
    """One stay in a room. ``leave`` ends it soon, Outbox.close when all is said and confirmed.

    ``roster`` are the numbers of those who are there already: the server's word, no more. To them,
    and to the instances that are ``expected`` back, what is said waits a moment.
    """

    def __init__(
        self,
        link: Link,
        roster: Iterable[int],
        sealer: Sealer,
        outbox: Outbox,
        numbers: Numbers,
        screen: Screen,
        leave: trio.Event,
        expected: frozenset[bytes] = frozenset(),
    ) -> None:
        self._link = link
        self._sealer = sealer
        self._outbox = outbox
        self._screen = screen
        self._own = Outgoing()
        self.members = Members(self._own.stream, outbox.name, numbers)
        self._leave_soon = leave
        self._roster = set(roster)
        self._expected = expected
        self._settled = trio.Event()
        self._said_all = False
        self._ended = trio.Event()
        self._changed = trio.Event()
        self._passed_on = 0
        self._said_last = trio.current_time()
        self._put_in, self._inbox = trio.open_memory_channel[Frame](MAX_INBOX)
        self._post, self._letters = trio.open_memory_channel[Letter](MAX_LETTERS)
        self._scope = trio.CancelScope()
        self._why: Exception | None = None

    async def run(self) -> NoReturn:
        """Talk, and raise why it ended."""
        self._outbox.connected()
        self._post.send_nowait(Letter(Hello(self._outbox.instance, now_ms(), self._outbox.name)))
        self._take_note()
        tasks = self._read, self._open, self._send, self._say, self._settle, self._leave, self._tick
        with self._scope:
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(self._until_its_end, task)
        assert self._why is not None
        raise self._why

    async def _until_its_end(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except ENDS as why:
            self._why = self._why or why
            self._scope.cancel()

    async def _read(self) -> None:
        while True:
            frame = await self._link.receive()
            if frame.name == "PONG":
                self._passed_on = max(self._passed_on, *frames.TOKEN.unpack(frame.payload))
                self._outbox.passed_on(self._passed_on)
                self._pulse()
            else:
                await self._put_in.send(frame)

    async def _open(self) -> None:
        while True:
            batch = await _several(self._inbox)
            valid = [one.payload for one in batch if one.name == "RECORD" and _is_record(one)]
            plains = iter(await self._sealer.open(valid))
            for frame in batch:
                await self._show(self._taken(frame, plains))
                self._take_note(frame.member if frame.name == "LEFT" else 0)

    def _taken(self, frame: Frame, plains: Iterator[bytes | None]) -> Iterator[Outcome]:
        now = time.time()
        if frame.name == "LEFT":
            yield from self.members.left(frame.member, words(frame), now)
            return
        try:
            header, _ = records.read_header(frame.payload)
            plain = next(plains)
            refusal = self.members.refuses(header)
            body = None if refusal or plain is None else records.read_body(header, plain)
        except RecordError as error:
            refusal = f"what came is no record of this version ({error})"
        if refusal:
            yield from self.members.blame(refusal, now)
        else:
            yield from self.members.opened(frame.member, header, body, now)

    async def _show(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Greet | Confirm) and self._said_all:
                continue  # END is the last record.
            if isinstance(outcome, Greet):
                greeting = Greeting(0, self._outbox.instance, now_ms(), self._outbox.name)
                await self._post.send(Letter(greeting, outcome.member, outcome.stream))
            elif isinstance(outcome, Confirm):
                await self._post.send(Letter(outcome.seen, outcome.member, outcome.stream))
            else:
                await self._screen.show(outcome)

    def _take_note(self, gone: int = 0) -> None:
        """Of who was there before us, and has answered now or is gone."""
        self._roster -= self.members.answered | {gone}
        self.members.answered.clear()
        if not self._roster and self._expected <= self.members.instances():
            self._settled.set()
        self._pulse()

    async def _settle(self) -> None:
        with trio.move_on_after(SETTLING):
            await self._settled.wait()
        self._settled.set()
        if self.members.strangers_unread and not self.members.anybody_read:
            raise Failure(WRONG_SECRET)

    async def _say(self) -> None:
        await self._settled.wait()
        while self._outbox.unsent() or not self._outbox.closed:
            for message in self._outbox.unsent():
                self._outbox.left_as(message, 0)
                await self._post.send(Letter(message))
            if not self._outbox.unsent() and not self._outbox.closed:
                await self._outbox.wait()
        await self._farewell()

    async def _leave(self) -> None:
        await self._leave_soon.wait()
        self._outbox.close()
        await trio.sleep(SHORT_FAREWELL)
        raise Finished(self._unconfirmed())

    async def _farewell(self) -> NoReturn:
        """Say that it was all, and wait for as long as there is progress in its being confirmed."""
        if not self.members.present() and not self._screen.interactive:
            await self._screen.show(Notice("nobody else is here", time.time()))
        self._said_all = True
        await self._post.send(Letter(End(now_ms())))
        await self._ended.wait()
        progress = None
        while self._own.ended_as > self._passed_on or self._unconfirmed():
            if progress != (self._passed_on, len(self._unconfirmed())):
                progress = self._passed_on, len(self._unconfirmed())
                deadline = trio.current_time() + FAREWELL
            with trio.move_on_at(deadline) as waiting:
                await self._changed.wait()
            if waiting.cancelled_caught:
                break
        raise Finished(self._unconfirmed())

    def _unconfirmed(self) -> list[str]:
        return [one.name for one in self.members.present() if not one.confirmed_us]

    async def _send(self) -> None:
        while True:
            batch = await _several(self._letters)
            opened = []
            for letter in batch:
                opened.append(self._own.prepare(letter))
                if isinstance(letter.body, Text):
                    self._outbox.left_as(letter.body, self._own.sent)
            sealed = await self._sealer.seal(self._own.stream, opened)
            data = [
                frames.pack("RECORD", one, letter.member)
                for one, letter in zip(sealed, batch, strict=True)
            ]
            data.append(frames.pack("PING", frames.TOKEN.pack(self._own.sent)))
            await self._link.send(b"".join(data))
            if self._own.ended_as:
                self._ended.set()
            if any(letter.member == frames.ROOM for letter in batch):
                self._said_last = trio.current_time()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK)
            await self._show(self.members.overdue(time.time()))
            silent = trio.current_time() - self._said_last > ALIVE
            if silent and not self._said_all and not self._post.statistics().current_buffer_used:
                await self._post.send(Letter(Alive(now_ms())))

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _is_record(frame: Frame) -> bool:
    try:
        records.read_header(frame.payload)
    except RecordError:
        return False
    return True


async def _several(channel: "trio.MemoryReceiveChannel[T]") -> list[T]:
    """What is in the channel, up to a batch; waits for the first."""
    batch = [await channel.receive()]
    while len(batch) < BATCH:
        try:
            batch.append(channel.receive_nowait())
        except trio.WouldBlock:
            break
    return batch
