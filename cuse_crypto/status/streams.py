"""The trace: a queue for each reader, and what fills them while there is one.

A reader that stops reading blocks nobody: what its queue has no room for is dropped, counted, and
told in its stream.
"""

import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import trio

from cuse_crypto.board import DROPPED, TRACE, Board, RingReader
from cuse_crypto.linux.task import status
from cuse_crypto.status.events import Record, event_of, load
from cuse_crypto.status.lines import line_of
from cuse_crypto.status.wishes import Wishes

TICK = 0.02
"""Seconds between two looks at the rings."""
ROOM, ROOM_FOR_DATA = 1 << 20, 64 << 20
"""Bytes of a reader's queue, and of one that wants data; beyond one line of any length."""
BATCH = 10
"""Records between two chances for others."""
_KNOWN = 4096


class Stream:
    """One reader's queue."""

    def __init__(self) -> None:
        self.wishes = Wishes()
        self.changed = trio.Event()
        self.on_change: Callable[[], None] = lambda: None
        self.follows = False
        """Its reads end where nothing is there, instead of waiting."""
        self.ended = False
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0

    def put(self, line: bytes) -> None:
        """Append it if there is room."""
        self._tell()
        if not self.has_room:
            self._dropped += 1
            return
        self._append(line)

    def drop(self, count: int) -> None:
        """So many have been lost on their way."""
        self._dropped += count
        self._tell()

    @property
    def has_room(self) -> bool:
        """For one more line."""
        return self._size < (ROOM_FOR_DATA if self.wishes.data or self.wishes.keys else ROOM)

    @property
    def ready(self) -> bool:
        """A read has something to say, or there will never be anything."""
        return bool(self._lines) or self.ended

    def take(self, size: int) -> bytes:
        """At most ``size`` bytes of what is there."""
        parts, left = [], size
        while self._lines and left:
            line = self._lines.popleft()
            if len(line) > left:
                self._lines.appendleft(line[left:])
                line = line[:left]
            left -= len(line)
            parts.append(line)
        self._size -= size - left
        self._tell()
        return b"".join(parts)

    def clear(self) -> None:
        """Forget what is there."""
        self._lines.clear()
        self._size = self._dropped = 0

    def end(self) -> None:
        """Nothing comes any more."""
        self.ended = True
        self._wake()

    def _tell(self) -> None:
        """Say what was dropped, as soon as there is room for it."""
        if not (self._dropped and self.has_room):
            return
        dropped, self._dropped = self._dropped, 0
        text = json.dumps({"dropped": dropped}) if self.wishes.json else f"... {dropped} dropped"
        self._append(text.encode() + b"\n")

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        self._wake()

    def _wake(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()
        self.on_change()


class Streams:
    """All readers of one board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._rings = [RingReader(board, worker) for worker in range(board.ringed)]
        self._streams: list[Stream] = []
        self._wanted = trio.Event()
        self._dropped = 0
        self._held: list[Record] = []
        self._pids: OrderedDict[int, int] = OrderedDict()
        self._api = ""
        self.written = 0
        """Bytes of lines that were ever made, for the size of the file."""

    def open(self) -> Stream:
        """One more reader, from now on."""
        stream = Stream()
        if not self._streams:
            for ring in self._rings:
                ring.skip()
            self._held = []
            self._dropped = self._board.total(DROPPED)
            self._api = self._board.told().get("api", "cryptodev")
        self._streams.append(stream)
        self.wish()
        self._wanted.set()
        return stream

    def wish(self) -> None:
        """Readers, or what they want, have changed."""
        bits = 0
        for stream in self._streams:
            bits |= stream.wishes.bits
        self._board.words[TRACE] = bits

    def close(self, stream: Stream) -> None:
        """A reader has gone."""
        self._streams.remove(stream)
        self.wish()
        if not self._streams:
            # Records may have been of plaintext.
            self._board.forget()

    def end(self) -> None:
        """The readers are told that nothing comes any more."""
        for stream in self._streams:
            stream.end()

    async def run(self) -> None:
        """Fill the queues, while there are any."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._streams:
                await self._look()
                await trio.sleep(TICK)
            self._pids.clear()

    async def _look(self) -> None:
        records = self._in_order()
        for index, record in enumerate(records):
            self._hand_out(record)
            if not index % BATCH:
                await trio.lowlevel.checkpoint()
        dropped = self._board.total(DROPPED)
        if dropped > self._dropped:
            for stream in self._streams:
                stream.drop(dropped - self._dropped)
        self._dropped = dropped

    def _in_order(self) -> list[Record]:
        """What has come, but for what ended after the look began: of another ring, which was looked
        at before, there may be something that ended earlier. That is for the next look.
        """
        horizon = time.time_ns() - int(TICK * 1e9)
        records, self._held = self._held, []
        for data in (data for ring in self._rings for data in ring.take()):
            record = load(data)
            (records if _end(record) <= horizon else self._held).append(record)
        return sorted(records, key=_end)

    def _hand_out(self, record: Record) -> None:
        pid = self._pid(record.thread)
        lines: dict[tuple[bool, bool, bool], bytes] = {}
        for stream in self._streams:
            wishes = stream.wishes
            if not wishes.want(record, self._api, pid):
                continue
            if not stream.has_room:
                stream.drop(1)
                continue
            kind = wishes.json, wishes.data, wishes.keys
            if kind not in lines:
                event = event_of(record, self._api, pid, wishes.data, wishes.keys)
                text = json.dumps(event) if wishes.json else line_of(event)
                lines[kind] = text.encode() + b"\n"
                self.written += len(lines[kind])
            stream.put(lines[kind])

    def _pid(self, thread: int) -> int:
        """Of the process of a thread; the thread's own number when it has gone."""
        if thread not in self._pids:
            self._pids[thread] = _process_of(thread)
            if len(self._pids) > _KNOWN:
                self._pids.popitem(last=False)
        return self._pids[thread]


def _end(record: Record) -> int:
    return record.time + record.took


def _process_of(thread: int) -> int:
    try:
        return int(status(thread)[b"Tgid"])
    except (OSError, KeyError):
        return thread
