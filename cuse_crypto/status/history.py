"""What has happened between two looks at a status tree, and before: rates and latencies."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from cuse_crypto.status.client import Counter, Counters, Session

LENGTH = 300
"""Looks that are remembered."""


@dataclass
class Row:
    """One ioctl or one session: what of it is shown, by column; and its past, newest last."""

    cells: dict[str, float | str]
    throughput: deque[float] = field(default_factory=lambda: deque(maxlen=LENGTH))
    latency: deque[float] = field(default_factory=lambda: deque(maxlen=LENGTH))


class History:
    """Of one device. ``add`` after each look."""

    def __init__(self) -> None:
        self.ioctls: dict[str, Row] = {}
        self.sessions: dict[tuple[int, str], Row] = {}
        self.total = Row({})
        self._counters = Counters()
        self._sessions: dict[tuple[int, str], Session] = {}
        self._time: float | None = None

    def add(self, counters: Counters, sessions: Iterable[Session], time: float) -> None:
        """``time`` in seconds, of any clock that does not go back."""
        before, self._counters = self._counters, counters
        seconds = 0.0 if self._time is None else time - self._time
        self._time = time
        for name, counter in counters.ioctls.items():
            row = self.ioctls.setdefault(name, Row({}))
            _add_ioctl(row, name, counter, before.ioctls.get(name, Counter()), seconds)
        self._add_total(counters, before, seconds)
        found = {(one.file, one.session): one for one in sessions}
        for key, session in found.items():
            row = self.sessions.setdefault(key, Row({}))
            _add_session(row, session, self._sessions.get(key), seconds)
        self.sessions = {key: self.sessions[key] for key in found}
        self._sessions = found

    def _add_total(self, counters: Counters, before: Counters, seconds: float) -> None:
        now, then = _sum(counters), _sum(before)
        if seconds:
            self.total.throughput.append((now.count - then.count) / seconds)
            self.total.latency.append(_mean(now, then))
            self.total.cells["bytes"] = (now.bytes - then.bytes) / seconds


def _sum(counters: Counters) -> Counter:
    rows = counters.ioctls.values()
    return Counter(
        sum(row.count for row in rows),
        sum(row.bytes for row in rows),
        sum(row.seconds for row in rows),
    )


def _mean(now: Counter, then: Counter) -> float:
    """Microseconds."""
    count = now.count - then.count
    return (now.seconds - then.seconds) / count * 1e6 if count > 0 else 0.0


def _add_ioctl(row: Row, name: str, now: Counter, then: Counter, seconds: float) -> None:
    rate = (now.count - then.count) / seconds if seconds else 0.0
    mean = _mean(now, then) if seconds else 0.0
    row.cells = {
        "ioctl": name,
        "per s": rate,
        "MB/s": (now.bytes - then.bytes) / seconds / 1e6 if seconds else 0.0,
        "mean us": mean,
        "p99 us": _percentile(now, then, 0.99) if seconds else 0.0,
        "count": float(now.count),
        "errors": float(now.failed),
    }
    if seconds:
        row.throughput.append(rate)
        row.latency.append(mean)


def _percentile(now: Counter, then: Counter, share: float) -> float:
    """Microseconds that at least ``share`` did not exceed, to a power of two."""
    before = dict(then.buckets)
    total = now.count - then.count
    for limit, count in now.buckets:
        if total > 0 and count - before.get(limit, 0) >= share * total:
            return limit * 1e6 if limit != float("inf") else 0.0
    return 0.0


def _add_session(row: Row, now: Session, then: Session | None, seconds: float) -> None:
    known = then is not None and seconds > 0
    rate = (now.operations - then.operations) / seconds if known and then else 0.0
    row.cells = {
        "pid": float(now.pid),
        "uid": float(now.uid),
        "command": now.command,
        "algorithm": now.algorithm,
        "per s": rate,
        "MB/s": (now.bytes - then.bytes) / seconds / 1e6 if known and then else 0.0,
        "operations": float(now.operations),
        "seconds": float(now.age),
    }
    if known:
        row.throughput.append(rate)
