"""The other members as this one knows them: what came from whom, in order, and whether it is new.

No I/O and no cipher: whoever has opened a record brings it here, and is told what to show and
whom to answer. Every rule of chat/WIRE.md about order, freshness and ends is in this file.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from cuse_crypto_chat.events import Alarm, Cut, Event, Joined, Left, Said
from cuse_crypto_chat.records import (
    NOBODY,
    Alive,
    Body,
    End,
    Greeting,
    Header,
    Hello,
    Seen,
    Text,
)
from cuse_crypto_chat.stream import Numbers, State, Stream
from cuse_crypto_chat.text import clean_name

MAX_STREAMS = 8192
"""With so many streams, the oldest that has proven nothing yet is forgotten for a new one."""
MAX_ENDED = 65536
"""Streams that have ended, which must not come back while we are here."""
MAX_HELD = 4 << 20
"""Bytes of records, of all strangers together, that wait for greetings."""
HELD_COST = 512
"""Bytes that a short one takes."""
MAX_ALARMS = 20
"""About one stream; after that it is not listened to any more."""
SILENCE = 90.0
"""Seconds after which a silent member is spoken of: it should have said that it is alive."""
UNPROVEN = 10.0
"""Seconds that a stranger may take to prove that it is there now."""
ANOTHER_SECRET = (
    "somebody here has another secret or another room, or is tampered with; "
    "you cannot read each other"
)
LATE = 60.0
"""Seconds between the sender's clock and ours that are worth a word."""


class Greet(NamedTuple):
    """To be sent: a greeting to this stream, by way of this member number."""

    stream: bytes
    member: int


class Confirm(NamedTuple):
    """To be sent to this stream, by way of this member number."""

    stream: bytes
    member: int
    seen: Seen


Outcome = Event | Greet | Confirm


class Members:
    """All streams but our own. Methods give what to show and to send, in order."""

    def __init__(self, own: bytes, name: str, numbers: Numbers) -> None:
        self.own = own
        self._own_name = name
        self._numbers = numbers
        self._streams: OrderedDict[bytes, Stream] = OrderedDict()
        self._ended: set[bytes] = set()
        self._blamed = 0
        self._held = 0
        self.strangers_unread = 0
        """Streams of which no record could be opened: another secret, or another room."""
        self.anybody_read = False
        self.answered: set[int] = set()
        """Numbers of members who have greeted us, or whom we cannot read; for the taking."""

    def present(self) -> list[Stream]:
        """The members who have proven themselves and have not ended."""
        return [one for one in self._streams.values() if one.state is State.MEMBER]

    def instances(self) -> frozenset[bytes]:
        """The programs of those who are present."""
        return frozenset(one.instance for one in self.present())

    def refuses(self, header: Header) -> str:
        """Why a record need not even be opened; "" if it must be."""
        if header.stream == self.own:
            return "the server sent a record of ours back to us; it is not shown"
        if header.stream in self._ended:
            return "a record came from a connection that has ended; it is not shown"
        if header.to not in (NOBODY, self.own):
            return "the server sent us a record that is for somebody else"
        if len(self._ended) >= MAX_ENDED:
            return "too many have come and gone; connect again to see who is new"
        return ""

    def blame(self, text: str, now: float) -> Iterator[Outcome]:
        """An alarm that is nobody's in particular: the server can cause any number of them."""
        self._blamed += 1
        if self._blamed <= MAX_ALARMS:
            yield Alarm(text, now)
        if self._blamed == MAX_ALARMS:
            yield Alarm("more of that will not be told", now)

    def opened(
        self, member: int, header: Header, body: Body | None, now: float
    ) -> Iterator[Outcome]:
        """A record, opened; ``body`` is None if it could not be."""
        stream, is_new = self._find(header.stream, member, now)
        if is_new:
            yield Greet(stream.id, member)
        if body is None:
            yield from self._unreadable(stream, is_new, header, now)
            return
        stream.readable = self.anybody_read = True
        stream.heard = now
        if isinstance(body, Greeting):
            yield from self._greeting(stream, body, now)
        elif isinstance(body, Seen):
            yield from self._confirmed(stream, body, now)
        elif stream.state is State.STRANGER:
            self._hold(stream, header, body)
        else:
            yield from self._in_order(stream, header, body, now)

    def left(self, member: int, why: str, now: float) -> Iterator[Outcome]:
        """The server says that this member is gone."""
        for stream in [one for one in self._streams.values() if one.member == member]:
            if stream.state is State.MEMBER:
                yield Cut(stream.name, now, why)
            self._end(stream)

    def overdue(self, now: float) -> Iterator[Outcome]:
        """Who should have been heard of."""
        for stream in self._streams.values():
            if stream.said_silent:
                continue
            if stream.state is State.MEMBER and now - stream.heard > SILENCE:
                stream.said_silent = True
                text = f"nothing came from {stream.name} for {SILENCE:.0f} s; it may be withheld"
                yield Alarm(text, now)
            elif (
                stream.state is State.STRANGER and stream.readable and now - stream.since > UNPROVEN
            ):
                stream.said_silent = True
                yield Alarm("records come that nobody here vouches for; they may be old", now)

    def _find(self, name: bytes, member: int, now: float) -> tuple[Stream, bool]:
        if name in self._streams:
            return self._streams[name], False
        if len(self._streams) >= MAX_STREAMS:
            self._forget_a_stranger()
        stream = self._streams[name] = Stream(name, member, now)
        return stream, True

    def _forget_a_stranger(self) -> None:
        for stream in self._streams.values():
            if stream.state is State.STRANGER:
                self._end(stream)
                return

    def _unreadable(
        self, stream: Stream, is_new: bool, header: Header, now: float
    ) -> Iterator[Outcome]:
        if stream.state is State.MEMBER:
            text = f"record {header.sequence} of {stream.name} was changed on its way"
            yield from self._alarm(stream, f"{text}; it is not shown", now)
        elif is_new:
            self.strangers_unread += 1
            self.answered.add(stream.member)
            yield from self.blame(ANOTHER_SECRET, now)

    def _confirmed(self, stream: Stream, body: Seen, now: float) -> Iterator[Outcome]:
        if stream.state is State.MEMBER and not stream.confirmed_us:
            stream.confirmed_us = True
            if body.missing:
                what = "1 record" if body.missing == 1 else f"{body.missing} records"
                yield Alarm(f"{stream.name} lacks {what} of what we sent", now)

    def _hold(self, stream: Stream, header: Header, body: Body) -> None:
        # Only what is seen from its very first record on can be shown before it is proven fresh.
        if isinstance(body, Hello) and header.sequence == 0:
            stream.saw_hello = True
        cost = HELD_COST + (len(body.text) if isinstance(body, Text) else 0)
        if stream.saw_hello and self._held + cost <= MAX_HELD:
            stream.held.append((header, body))
            stream.held_cost += cost
            self._held += cost

    def _release(self, stream: Stream) -> list[tuple[Header, Body]]:
        held, stream.held = stream.held, []
        self._held -= stream.held_cost
        stream.held_cost = 0
        return held

    def _greeting(self, stream: Stream, body: Greeting, now: float) -> Iterator[Outcome]:
        if stream.state is not State.STRANGER:
            yield from self._alarm(stream, f"a greeting of {stream.name} came twice", now)
            return
        stream.state = State.MEMBER
        self.answered.add(stream.member)
        stream.instance = body.instance
        stream.name = self._display_name(body.name, stream)
        stream.next = 0 if stream.saw_hello else body.next
        yield Joined(stream.name, now, here=not stream.saw_hello)
        for header, held in self._release(stream):
            if stream.state is State.MEMBER:
                yield from self._in_order(stream, header, held, now)
        if stream.state is State.MEMBER and stream.next < body.next:
            yield from self._missing(stream, body.next, now)

    def _in_order(
        self, stream: Stream, header: Header, body: Body, now: float
    ) -> Iterator[Outcome]:
        if header.sequence < stream.next:
            text = f"record {header.sequence} of {stream.name} came again or out of order"
            yield from self._alarm(stream, f"{text}; it is not shown", now)
            return
        stream.said_silent = False
        if header.sequence > stream.next:
            yield from self._missing(stream, header.sequence, now)
            if stream.state is not State.MEMBER:
                return
        stream.next = header.sequence + 1
        if isinstance(body, Text):
            yield from self._text(stream, body, now)
        elif isinstance(body, End):
            yield Left(stream.name, now)
            yield Confirm(stream.id, stream.member, Seen(stream.next, stream.missing))
            self._end(stream)
        elif isinstance(body, Alive):
            yield from self._clock(stream, body, now)

    def _clock(self, stream: Stream, body: Alive, now: float) -> Iterator[Outcome]:
        if abs(now - body.time / 1000) > LATE and not stream.said_late:
            stream.said_late = True
            yield Alarm(f"the clock of {stream.name} differs, or its records are delayed", now)

    def _text(self, stream: Stream, body: Text, now: float) -> Iterator[Outcome]:
        before = self._numbers.take(stream.instance, body.number)
        if before is None:
            return
        if before and not stream.said_text:
            what = "1 message" if before == 1 else f"{before} messages"
            yield from self._alarm(stream, f"{what} of {stream.name} did not reach us", now)
        stream.said_text = True
        yield Said(stream.name, body.text, now, body.time / 1000)

    def _missing(self, stream: Stream, until: int, now: float) -> Iterator[Outcome]:
        count = until - stream.next
        stream.next = until
        stream.missing += count
        what = "1 record is" if count == 1 else f"{count} records are"
        yield from self._alarm(stream, f"{what} missing of what {stream.name} sent", now)

    def _alarm(self, stream: Stream, text: str, now: float) -> Iterator[Outcome]:
        stream.alarms += 1
        yield Alarm(text, now)
        if stream.alarms >= MAX_ALARMS:
            yield Alarm(f"{stream.name} is not listened to any more", now)
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        if stream.state is State.MEMBER:
            self._ended.add(stream.id)
        stream.state = State.ENDED
        self._release(stream)
        self._streams.pop(stream.id, None)

    def _display_name(self, name: str, stream: Stream) -> str:
        """Names are chosen freely: the second of two equal ones is told apart."""
        name = clean_name(name)
        taken = {one.name for one in self.present() if one is not stream} | {self._own_name}
        return f"{name}~{stream.id.hex()[:6]}" if name in taken else name
