"""What one user may have at a node, so that others get their share.

A user is the uid that opened the file, not one that uses it later. BUSY alone is of the caller's
uid: see turns.
"""

import errno
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

log = logging.getLogger(__name__)


class Limit(NamedTuple):
    """A row: its option, and the counter of what it has refused, are called ``name``."""

    name: str
    default: int
    """0 for none."""
    errno: int
    """That the caller meets; 0 where it waits."""
    what: str


FILES = Limit("max-files", 1024, errno.EMFILE, "open files")
SESSIONS = Limit("max-sessions", 4096, errno.ENOSPC, "sessions")
BYTES = Limit("max-bytes", 0, errno.EMSGSIZE, "bytes in one operation")
RATE = Limit("max-rate", 0, errno.EAGAIN, "ioctls in a second")
BUSY = Limit("max-busy", 0, 0, "ioctls at once")
LIMITS = FILES, SESSIONS, BYTES, RATE, BUSY

RESERVED = 2
"""Workers that BUSY leaves to others, where nothing is said."""
MOST_TOLD = 4096
"""Users and limits of which it is remembered that the log has told of them."""


class Limits:
    """The limits of one node, and the accounts of its users."""

    def __init__(self, values: Mapping[Limit, int] | None = None, workers: int = 16) -> None:
        self.values = {row: row.default for row in LIMITS} | dict(values or {})
        self.values[BUSY] = self.values[BUSY] or max(1, workers - RESERVED)
        self.met: Counter[str] = Counter()
        """How often each has been met, by name."""
        self._accounts: dict[int, Account] = {}
        self._told: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def meet(self, row: Limit, uid: int) -> None:
        """This user has met a limit: counted, and told once."""
        self.met[row.name] += 1
        if (row.name, uid) in self._told:
            return
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told.add((row.name, uid))
        log.warning(
            "uid %d %s: more than %d %s (--%s)",
            *(uid, "is refused" if row.errno else "waits", self.values[row], row.what, row.name),
            extra={"uid": uid, "errno": row.errno},
        )

    def open(self, uid: int) -> "Account":
        """The account of who opens a file; OSError(EMFILE) if it has too many."""
        with self._lock:
            account = self._accounts.get(uid) or Account(uid, self)
            account.take(FILES)
            self._accounts[uid] = account
            return account

    def restore(self, uid: int) -> "Account":
        """As ``open``, of a file that is open already: that cannot be too many."""
        with self._lock:
            account = self._accounts.setdefault(uid, Account(uid, self))
            account.take(FILES, forced=True)
            return account

    def close(self, account: "Account") -> None:
        """An open file is gone; an account without files is forgotten."""
        with self._lock:
            account.give(FILES)
            if account.is_idle:
                self._accounts.pop(account.uid, None)

    def report(self) -> None:
        """Say at the end what was met."""
        for name, count in self.met.items():
            log.info("--%s was met %d times", name, count)


class Account:
    """What one user has. Root is refused nothing, for it can end the service."""

    def __init__(self, uid: int, limits: Limits) -> None:
        self.uid = uid
        self._limits = limits
        self._values = limits.values if uid else dict.fromkeys(LIMITS, 0)
        self._has: Counter[Limit] = Counter()
        self._allowance, self._since = float(self._values[RATE]), time.monotonic()
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """It has nothing but sessions of a file that is being closed."""
        return not self._has[FILES]

    def take(self, row: Limit, forced: bool = False) -> None:
        """One more; OSError where that is too many, unless it is ``forced``."""
        with self._lock:
            if not forced:
                self._check(row, self._has[row] + 1)
            self._has[row] += 1

    def give(self, row: Limit) -> None:
        """One less."""
        with self._lock:
            self._has[row] -= 1

    def check(self, row: Limit, amount: int) -> None:
        """OSError where that is too much at once."""
        if self._values[row]:
            with self._lock:
                self._check(row, amount)

    def spend(self) -> None:
        """One more ioctl; OSError where this second has had too many."""
        rate = self._values[RATE]
        if not rate:
            return
        with self._lock:
            now = time.monotonic()
            grown = self._allowance + (now - self._since) * rate
            self._allowance, self._since = min(grown, rate), now
            self._check(RATE, rate + 1 if self._allowance < 1 else 1)
            self._allowance -= 1

    def _check(self, row: Limit, amount: int) -> None:
        most = self._values[row]
        if most and amount > most:
            self._limits.meet(row, self.uid)
            raise OSError(row.errno, f"{os.strerror(row.errno)}: more than --{row.name}")
