"""Which workers hang in the memory of a caller, as the watchdog sees it every tick.

The fast path keeps no account of what it does, so it is looked at from outside. A worker hangs
when it has served the same request for LOOKS ticks, has not been waiting for the back end at any of
them, and the kernel says that it copies; or when it waits for a session whose operation hangs so.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from cuse_crypto.abi.structs import crypt_op
from cuse_crypto.frontend.files import OpenFiles, lock_waiters
from cuse_crypto.frontend.marshal import ARGUMENT
from cuse_crypto.frontend.turns import HUNG
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.protocol import IN_HEADER, fuse_in_header, layouts
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
    requests: int
    """So many have been made of it."""


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
    requests: int
    caller: Caller
    """Read with ``unique``: what the worker serves later may be another user's."""
    looks: int = 1
    """So many ticks in a row."""


class Hung(NamedTuple):
    """What was found: workers by user; those of them that have begun a turn; users with too many
    slow copies; and the callers.
    """

    by_user: Counter[int]
    in_turn: Counter[int]
    slow: set[int]
    callers: dict[int, Caller]
    """By the request's ``unique``."""


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
            if worker.serving and not worker.queue.waiting:
                header, requests = IN_HEADER.read(worker.request), worker.queue.requests
                now, before = Copy(header.unique, requests, _caller(header)), seen.get(worker)
                same = before is not None and before[:3] == now[:3]
                self._seen[worker] = (
                    now._replace(looks=before.looks + 1) if before and same else now
                )
        late = [worker for worker, copy in self._seen.items() if copy.looks > LOOKS]
        copying = [worker for worker in late if is_copying(worker.thread)]
        hung = copying + self._behind(copying, late)
        return self._found(hung)

    def _behind(self, copying: Sequence[Suspect], late: Sequence[Suspect]) -> list[Suspect]:
        """Those that wait for the session of one that hangs in a copy."""
        sessions = [self._session(worker) for worker in copying]
        waits = [(worker, lock_waiters.get(worker.thread)) for worker in late]
        return [worker for worker, one in waits if one and any(one is other for other in sessions)]

    def _session(self, worker: Suspect) -> object:
        """The session that its ioctl is about, if it is an operation."""
        request = worker.request
        if IN_HEADER.read(request).opcode != _IOCTL:
            return None
        file = self._files.get(_IOCTL_IN.read(request, IN_HEADER.size).fh)
        ses = int.from_bytes(request[_SESSION : _SESSION + 4], "little")
        return file.sessions.get(ses) if file else None

    def _found(self, hung: Sequence[Suspect]) -> Hung:
        by_user: Counter[int] = Counter()
        in_turn: Counter[int] = Counter()
        callers: dict[int, Caller] = {}
        for worker in hung:
            copy = self._seen[worker]
            by_user[copy.caller.uid] += 1
            in_turn[copy.caller.uid] += worker.turn is not None
            callers[copy.unique] = copy.caller
        return Hung(by_user, in_turn, self._slow(), callers)

    def _slow(self) -> set[int]:
        """Users to be restricted before a worker counts as one that hangs: with HUNG copies that
        were under way at the tick before, or with a share of any copies, now and at that tick.
        """
        many = self._users_with(self._share, list(self._seen))
        before, self._many = self._many, many
        old = [worker for worker, copy in self._seen.items() if copy.looks > 1]
        return (many & before) | self._users_with(HUNG, old)

    def _users_with(self, number: int, workers: Sequence[Suspect]) -> set[int]:
        """Users for whom so many of the workers copy, by the word of the kernel."""
        by_user: dict[int, list[Suspect]] = {}
        for worker in workers:
            by_user.setdefault(self._seen[worker].caller.uid, []).append(worker)
        return {
            uid
            for uid, found in by_user.items()
            if len(found) >= number and sum(is_copying(one.thread) for one in found) >= number
        }


def _caller(header: fuse_in_header) -> Caller:
    return Caller(header.pid, header.uid)
