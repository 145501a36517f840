"""Whose ioctl is done now, so that no user keeps the workers from the others.

A user here is the uid of the calling thread. Of each user's ioctls ``most`` are done at once; those
beyond wait here and hold no worker.

A worker that copies a caller's memory may sleep for as long as the caller likes: the page may be
one of a file system whose server does not answer, or of a userfaultfd, and no call tells in
advance. A user is *restricted* while that happens to its ioctls, and PENALTY seconds longer. While
any user is, nothing goes by the fast path, which counts nothing:

    free         ``most`` at once; half of that for each user in whose memory workers hang now, or
                 whose ioctls wait for a session
    restricted   all restricted users together have ``shared`` workers, in rotation; a user with
                 HUNG workers that hang begins nothing

free -> restricted, and back: the watchdog alone, by ``update``. The workers that hang are replaced
(see crew), up to MOST_HUNG of all users; then no restricted user begins anything. Before the
watchdog sees it, the first user can hold all workers, the next ones half of them, a quarter, one. A
crash leaves nothing: the successor finds out again.
"""

import errno
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from cuse_crypto.fuse.protocol import IN_HEADER

HUNG = 2
"""Workers of one user that may hang before it begins nothing more."""
MOST_HUNG = 256
"""Workers of all users that may hang, each of them replaced."""
PENALTY = 10.0
"""Seconds for which a user stays restricted."""
MOST_WAITING, MOST_BYTES = 8192, 64 << 20
"""Ioctls of one user that wait here, and bytes of these; those beyond are EAGAIN. The kernel brings
up to 16 KiB with one, and 128 KiB where it copies."""


class Turns:
    """The turns of all users of a node. For several threads."""

    def __init__(
        self, most: int, shared: int, on_wait: Callable[[int], None] = lambda uid: None
    ) -> None:
        """``on_wait`` is told of each user whose ioctl has to wait for another of its own."""
        self.most, self.shared = most, shared
        self.restricted: dict[int, float] = {}
        """Restricted users, and until when, in seconds of time.monotonic()."""
        self._on_wait = on_wait
        self._busy: Counter[int] = Counter()
        self._hung: Mapping[int, int] = {}
        self._hung_in_turn: Counter[int] = Counter()
        self._holding = 0
        """Users whose ioctls hold workers, and do nothing there."""
        self._waiting: dict[int, dict[int, bytes]] = {}
        """Messages by user and ``unique``, the longest waiting first."""
        self._bytes: Counter[int] = Counter()
        """Of the messages of each user that waits."""
        self._lock = threading.Lock()

    def begin(self, uid: int, unique: int, message: memoryview) -> bool:
        """Whether this ioctl may be done now; else ``finish`` or ``update`` gives it later.

        OSError(EAGAIN) where too many wait.
        """
        with self._lock:
            if self._may_begin(uid):
                self._busy[uid] += 1
                return True
            waiting = self._waiting.setdefault(uid, {})
            if len(waiting) >= MOST_WAITING or self._bytes[uid] >= MOST_BYTES:
                raise OSError(errno.EAGAIN, "too many ioctls of this user wait")
            waiting[unique] = bytes(message)
            self._bytes[uid] += len(message)
            if self._busy[uid] >= self.most:
                self._on_wait(uid)
            return False

    def finish(self, uid: int) -> bytes | None:
        """One is done; the next to be done in its place, if any may be: its turn has begun."""
        with self._lock:
            self._busy[uid] -= 1
            if not self._busy[uid]:
                del self._busy[uid]
            return self._next()

    def forget(self, unique: int) -> None:
        """Its caller has been let go."""
        with self._lock:
            uid = next((uid for uid, waiting in self._waiting.items() if unique in waiting), None)
            if uid is not None:
                self._pop(uid, unique)

    def hangs(self, uid: int) -> bool:
        """Whether a worker hangs in this user's memory now."""
        return uid in self._hung

    def update(
        self,
        hung: Mapping[int, int],
        in_turn: Counter[int],
        slow: set[int],
        waits: Collection[int],
        now: float,
    ) -> list[bytes]:
        """What the watchdog sees: by user, workers that hang, and those among them that have begun
        a turn; users with too many slow copies; users whose ioctls wait for a session. Returns
        what may be done now: its turn has begun.
        """
        with self._lock:
            self._hung, self._hung_in_turn = hung, in_turn
            self._holding = len({*hung, *waits})
            self.restricted.update(dict.fromkeys({*hung, *slow}, now + PENALTY))
            for uid in [uid for uid, until in self.restricted.items() if until <= now]:
                del self.restricted[uid]
            return list(iter(self._next, None))

    def _may_begin(self, uid: int) -> bool:
        if self._busy.get(uid, 0) >= max(1, self.most >> self._holding):
            return False
        if uid not in self.restricted:
            return True
        if self._hung.get(uid, 0) >= HUNG or sum(self._hung.values()) >= MOST_HUNG:
            return False
        used = sum(self._busy.get(one, 0) - self._hung_in_turn[one] for one in self.restricted)
        return used < self.shared

    def _next(self) -> bytes | None:
        uid = next((uid for uid in self._waiting if self._may_begin(uid)), None)
        if uid is None:
            return None
        self._busy[uid] += 1
        return self._pop(uid, next(iter(self._waiting[uid])))

    def _pop(self, uid: int, unique: int) -> bytes:
        waiting = self._waiting.pop(uid)
        message = waiting.pop(unique)
        if waiting:
            # To the end: users that wait for the same workers take turns.
            self._waiting[uid] = waiting
            self._bytes[uid] -= len(message)
        else:
            del self._bytes[uid]
        return message


def uid_of(message: bytes | memoryview) -> int:
    """The caller's, of a request of the kernel."""
    uid: int = IN_HEADER.read(message).uid
    return uid
