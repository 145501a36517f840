"""Which workers hang in the memory of a caller, as the watchdog sees it every tick.

The fast path keeps no account of what it does, so it is looked at from outside. A worker hangs
when it has served the same request for LOOKS ticks, has not been waiting for the back end at any of
them, and the kernel says that it copies. It counts as such until that request is done, for more
pages like that may follow. It hangs, too, when it waits for a session whose operation hangs so.

One that has waited as long for a session whose operation goes on *waits*: no memory is the reason,
but it serves no other caller.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from cuse_crypto.abi.structs import crypt_op
from cuse_crypto.frontend.files import OpenFiles, lock_waiters
from cuse_crypto.frontend.marshal import ARGUMENT
from cuse_crypto.frontend.turns import HUNG
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.protocol import IN_HEADER, layouts
from cuse_crypto.layout import Layout
from cuse_crypto.linux.proc import is_copying

LOOKS = 5
"""Ticks of the watchdog in a row."""
_IOCTL = protocol.BY_NAME["FUSE_IOCTL"].number
_IOCTL_IN = layouts("FUSE_IOCTL")[0]
_SESSION = ARGUMENT + Layout(crypt_op).field("ses").offset
"""Where ``ses`` is in the request of any operation."""


class Exchange(Protocol):
    """A queue, as far as it matters here."""

    waiting: bool
    """For the back end."""


class Suspect(Protocol):
    """A worker, as far as it matters here."""

    queue: Exchange
    thread: int
    serving: bool
    turn: int | None

    @property
    def request(self) -> memoryview:
        """The request that it serves."""


class Caller(NamedTuple):
    """Who has made a request."""

    thread: int
    uid: int


class Copy(NamedTuple):
    """A request that was being served without the back end at some tick."""

    unique: int
    caller: Caller
    """Read with ``unique``: what the worker serves later may be another user's."""
    looks: int
    """Ticks in a row."""
    hangs: bool = False


class Hung(NamedTuple):
    """What was found: workers by user; those of them that have begun a turn; users with too many
    slow copies; the callers; and the workers by user that wait for a session.
    """

    by_user: Counter[int]
    in_turn: Counter[int]
    slow: set[int]
    callers: dict[int, Caller]
    """By the request's ``unique``."""
    waits: Counter[int]


class HungWorkers:
    """The state between two ticks. In one thread."""

    def __init__(self, workers: Collection[Suspect], files: OpenFiles, share: int) -> None:
        """``share``: copies of one user at once that are too many, at two ticks in a row."""
        self._workers, self._files, self._share = workers, files, share
        self._seen: dict[Suspect, Copy] = {}
        self._many: set[int] = set()

    def look(self) -> Hung:
        """What hangs now."""
        seen, self._seen = self._seen, {}
        for worker in list(self._workers):
            if not worker.serving:
                continue
            now, before = _serves(worker), seen.get(worker)
            same = before if before and before[:2] == now else Copy(*now, 0)
            if same.hangs or not worker.queue.waiting:
                self._seen[worker] = same._replace(looks=same.looks + 1)
        late = [worker for worker, copy in self._seen.items() if copy.looks > LOOKS]
        copying = [worker for worker in late if self._hangs(worker)]
        waiting = [(worker, lock_waiters.get(worker.thread)) for worker in late]
        behind = self._behind(copying, waiting)
        waits = [worker for worker, one in waiting if one and worker not in behind]
        return self._found(copying + behind, waits)

    def _hangs(self, worker: Suspect) -> bool:
        copy = self._seen[worker]
        self._seen[worker] = copy = copy._replace(hangs=copy.hangs or self._copies(worker))
        return copy.hangs

    def _copies(self, worker: Suspect) -> bool:
        """By the word of the kernel, and for the caller that was seen: it may be at another one's
        request by now.
        """
        return is_copying(worker.thread) and _serves(worker) == self._seen[worker][:2]

    def _behind(
        self, copying: Sequence[Suspect], waiting: Sequence[tuple[Suspect, object]]
    ) -> list[Suspect]:
        """Those that wait for the session of one that hangs in a copy."""
        sessions = [self._session(worker) for worker in copying]
        return [worker for worker, one in waiting if one and any(one is it for it in sessions)]

    def _session(self, worker: Suspect) -> object:
        """The session that its ioctl is about, if it is an operation."""
        request = worker.request
        if IN_HEADER.read(request).opcode != _IOCTL:
            return None
        file = self._files.get(_IOCTL_IN.read(request, IN_HEADER.size).fh)
        ses = int.from_bytes(request[_SESSION : _SESSION + 4], "little")
        return file.sessions.get(ses) if file else None

    def _found(self, hung: Sequence[Suspect], waits: Sequence[Suspect]) -> Hung:
        in_turn: Counter[int] = Counter()
        callers: dict[int, Caller] = {}
        for worker in hung:
            copy = self._seen[worker]
            in_turn[copy.caller.uid] += worker.turn is not None
            callers[copy.unique] = copy.caller
        return Hung(self._users(hung), in_turn, self._slow(), callers, self._users(waits))

    def _users(self, workers: Iterable[Suspect]) -> Counter[int]:
        return Counter(self._seen[worker].caller.uid for worker in workers)

    def _slow(self) -> set[int]:
        """Users to be restricted before a worker counts as one that hangs: with HUNG copies that
        were under way at the tick before, or with a share of any copies, now and at that tick.
        """
        many = self._users_with(self._share, list(self._seen))
        before, self._many = self._many, many
        old = [worker for worker, copy in self._seen.items() if copy.looks > 1]
        return (many & before) | self._users_with(HUNG, old)

    def _users_with(self, number: int, workers: Sequence[Suspect]) -> set[int]:
        """Users for whom at least ``number`` of the workers copy, by the word of the kernel."""
        many = {uid for uid, count in self._users(workers).items() if count >= number}
        suspects = [worker for worker in workers if self._seen[worker].caller.uid in many]
        copies = self._users(worker for worker in suspects if self._copies(worker))
        return {uid for uid, count in copies.items() if count >= number}


def _serves(worker: Suspect) -> tuple[int, Caller]:
    """The request, and its caller."""
    header = IN_HEADER.read(worker.request)
    return header.unique, Caller(header.pid, header.uid)
