"""What is remembered of others: a stream while it lasts, and message numbers beyond it. No I/O."""

from collections import OrderedDict
from enum import Enum

from cuse_crypto_chat.records import Body, Header

MAX_INSTANCES = 4096


class State(Enum):
    """Of a stream: a stranger's, a member's, one that was cut or has ended."""

    STRANGER = 1
    MEMBER = 2
    ENDED = 3


class Stream:
    """What is known of one stream of another member."""

    def __init__(self, stream: bytes, member: int, now: float) -> None:
        self.id = stream
        self.member = member
        self.name = ""
        self.state = State.STRANGER
        self.since = self.heard = now
        self.next = 0
        self.confirmed_us = False
        self.instance = b""
        self.held: list[tuple[Header, Body]] = []
        self.held_cost = 0
        self.saw_hello = self.readable = False
        self.alarms = self.missing = 0
        self.said_silent = self.said_late = self.said_text = False


class Numbers:
    """The last message number of each instance, over all connections: none is shown twice."""

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, int] = OrderedDict()

    def take(self, instance: bytes, number: int) -> int | None:
        """How many are missing before this one; None if it was here already."""
        last = self._last.get(instance)
        if last is not None and number <= last:
            return None
        self._last[instance] = number
        self._last.move_to_end(instance)
        if len(self._last) > MAX_INSTANCES:
            self._last.popitem(last=False)
        return 0 if last is None else number - last - 1
