"""The thread that has CRIOGETs answered, while workers go on.

    queued ──a place and a spare──> asked ──ready──> answered with 0 ─────────┐
      │                               ├──refused by its helper────────────────┤
      │ <──its helper dies────────────┤                                       │
      │                               └──that three times──> EOPNOTSUPP ──────┤
      └──off, no nursery──> EOPNOTSUPP                 its helper is dead: over

Only this thread moves them. Taking one out of the requests under way is the right to answer it:
this thread does, or the watchdog, which sees in any state that the caller dies (EINTR). A place is
held until the helper is dead, for it may hang in the caller's memory. That a helper has died is
seen before its caller is answered: an execve(2) that this releases must not be seized late. If this
process dies, callers that are not answered are asked for again by a successor, and helpers end by
themselves.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from cuse_crypto.frontend.crioget.helper import ANSWERED, REQUEST
from cuse_crypto.frontend.crioget.process import NurseryProcess, Spare
from cuse_crypto.frontend.inflight import InflightRequests

log = logging.getLogger(__name__)

SPARES = 3
"""Helpers that wait, forked ahead of time."""
OF_A_USER, IN_ALL = 4, 64
"""Helpers at work, at most."""
OVERDUE = 1.0
"""Seconds after which a helper ought to be dead. One that hangs in its caller's memory takes a
place of its user alone from then on."""
TRIES = 3
"""Helpers for one call, one after the other, that were not given the time to answer: others load
this machine, or the caller's user kills them."""
SWEPT = 64
"""Each time that another SWEPT of a user wait, those whose callers have died are taken out."""
PAUSE = 0.1
"""Seconds until another helper is ordered, when one could not be forked: the machine is full."""
_TOLD = 1000
_ANSWER = 512


class HandedOver(Exception):
    """The worker is done with this ioctl, which the broker answers."""


class Pending(NamedTuple):
    """A CRIOGET. ``uid``: the user who counts; ``answered`` is called with an errno or 0, before
    that is sent.
    """

    uid: int
    thread: int
    cmd: int
    arg: int
    unique: int
    answered: Callable[[int], None]
    tries: int = 1


class _Helper:
    """One at work, whose ``pending`` is None once that has been answered."""

    def __init__(self, spare: Spare, pending: Pending) -> None:
        self.spare, self.uid = spare, pending.uid
        self.pending: Pending | None = pending
        self._since = time.monotonic()

    @property
    def is_overdue(self) -> bool:
        return time.monotonic() - self._since > OVERDUE

    def said(self) -> tuple[int, str] | None:
        """Its answer: an errno, 0 where it is ready, and why; None where it has none."""
        try:
            data = self.spare.link.recv(_ANSWER, socket.MSG_DONTWAIT)
        except OSError:
            return None
        if len(data) < 4:
            return None
        return struct.unpack_from("=I", data)[0], data[4:].decode(errors="replace")


class Broker:
    """Answers what ``submit`` is given."""

    def __init__(
        self,
        nursery: NurseryProcess | None,
        inflight: InflightRequests,
        reply: Callable[[int, int], None],
    ) -> None:
        """``nursery``: None where CRIOGET is off; ``inflight``: all requests under way; ``reply``:
        sends an errno or 0 as the answer to one.
        """
        self._nursery, self._inflight, self._reply = nursery, inflight, reply
        self._incoming: deque[Pending] = deque()
        self._queues: dict[int, deque[Pending]] = {}
        """By user; the first one's turn is next."""
        self._spares: deque[Spare] = deque()
        self._ordered = 0
        self._may_order = 0.0
        """When the next helper may be ordered, in seconds of time.monotonic()."""
        self._links: dict[int, _Helper] = {}
        self._pidfds: dict[int, _Helper] = {}
        """Helpers at work, by either descriptor."""
        self._busy: Counter[int] = Counter()
        """Their number, by user."""
        self._told: set[tuple[int, str]] = set()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.epoll()
        self._poll.register(self._wakeup, select.EPOLLIN)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    def submit(self, pending: Pending) -> None:
        """From any thread; does not wait."""
        self._incoming.append(pending)
        if self._thread is None:
            self._start()
        os.eventfd_write(self._wakeup, 1)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="crioget", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Nothing more is answered from here; the nursery ends, and helpers by themselves."""
        with self._starting:
            self._closed = True
        os.eventfd_write(self._wakeup, 1)
        if self._thread:
            self._thread.join()
        if self._nursery:
            self._nursery.close()

    def _run(self) -> None:
        if self._nursery:
            self._poll.register(self._nursery, select.EPOLLIN)
        while not self._closed:
            self._order()
            for fd, _ in self._poll.poll(self._timeout()):
                self._heard(fd)
            self._sort_in()
            self._begin()

    def _timeout(self) -> float | None:
        """Seconds until something has to be done though nothing is heard; None for never."""
        pause = self._may_order - time.monotonic()
        if pause > 0:
            return pause
        # Who is overdue leaves a place without a word.
        return OVERDUE if self._queues else None

    def _heard(self, fd: int) -> None:
        if fd == self._wakeup:
            os.eventfd_read(self._wakeup)
        elif helper := self._links.get(fd):
            self._answered(helper)
        elif helper := self._pidfds.get(fd):
            self._died(helper)
        elif self._nursery and fd == self._nursery.fileno():
            self._take_spare(self._nursery)

    def _order(self) -> None:
        if self._nursery is None or time.monotonic() < self._may_order:
            return
        with contextlib.suppress(OSError):
            while self._ordered + len(self._spares) < SPARES:
                self._nursery.order()
                self._ordered += 1

    def _take_spare(self, nursery: NurseryProcess) -> None:
        try:
            self._spares.append(nursery.take())
            self._ordered -= 1
        except OSError as error:
            if error.errno != errno.ECHILD:
                self._ordered -= 1
                self._may_order = time.monotonic() + PAUSE
                self._refuse_all(f"cannot be helped: no process ({error.strerror})")
                return
            log.error("CRIOGET is off: its nursery was killed; restart this device")
            self._poll.unregister(nursery)
            self._nursery = None

    def _sort_in(self) -> None:
        while self._incoming:
            pending = self._incoming.popleft()
            queue = self._queues.setdefault(pending.uid, deque())
            queue.append(pending)
            if len(queue) % SWEPT == 0:
                for one in [one for one in queue if self._is_gone(one)]:
                    queue.remove(one)
                    self._answer(one, errno.EINTR)

    def _begin(self) -> None:
        """Have as many helpers at work as there may be: in turn one of each user's."""
        if self._nursery is None:
            self._refuse_all("")
        while self._spares and (uid := self._next_user()) is not None:
            queue = self._queues.pop(uid)
            pending = queue.popleft()
            if queue:
                # Behind all others.
                self._queues[uid] = queue
            if self._is_gone(pending):
                self._answer(pending, errno.EINTR)
            else:
                self._ask(pending)

    def _next_user(self) -> int | None:
        if not self._queues or len(self._pidfds) - self._overdue() >= IN_ALL:
            return None
        return next((uid for uid in self._queues if self._busy[uid] < OF_A_USER), None)

    def _overdue(self) -> int:
        if len(self._pidfds) < IN_ALL:
            return 0
        return sum(helper.is_overdue for helper in self._pidfds.values())

    def _ask(self, pending: Pending) -> None:
        spare = self._spares.popleft()
        helper = _Helper(spare, pending)
        # A spare that was killed is seen to have died.
        with contextlib.suppress(OSError):
            spare.link.send(REQUEST.pack(pending.thread, pending.cmd, pending.arg))
        self._busy[pending.uid] += 1
        self._links[spare.link.fileno()] = self._pidfds[spare.pidfd] = helper
        self._poll.register(spare.link, select.EPOLLIN | select.EPOLLONESHOT)
        self._poll.register(spare.pidfd, select.EPOLLIN)

    def _answered(self, helper: _Helper) -> None:
        """It says something, or has closed its socket on its way to its end."""
        said = helper.said()
        pending = helper.pending
        if said is None or pending is None:
            return
        error, cause = said
        if not error and helper.is_overdue:
            # It may wait no more. If it does, it leaves a caller with an error alone.
            error, cause = errno.EOPNOTSUPP, "was kept waiting: this machine is overloaded"
        helper.pending = None
        self._answer(pending, error, cause)
        if not error:
            with contextlib.suppress(OSError):
                helper.spare.link.send(ANSWERED)

    def _died(self, helper: _Helper) -> None:
        self._answered(helper)
        if helper.pending:
            self._try_again(helper.pending)
        spare = helper.spare
        del self._links[spare.link.fileno()], self._pidfds[spare.pidfd]
        # With the last descriptor of a file the kernel forgets to poll it.
        spare.close()
        self._busy[helper.uid] -= 1
        if not self._busy[helper.uid]:
            del self._busy[helper.uid]

    def _try_again(self, pending: Pending) -> None:
        if pending.tries < TRIES:
            again = pending._replace(tries=pending.tries + 1)
            self._queues.setdefault(pending.uid, deque()).appendleft(again)
        else:
            cause = "could not be seized in time, or its helpers were killed"
            self._answer(pending, errno.EOPNOTSUPP, cause)

    def _refuse_all(self, cause: str) -> None:
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            for pending in queue:
                self._answer(pending, errno.EOPNOTSUPP, cause)

    def _is_gone(self, pending: Pending) -> bool:
        return pending.unique not in self._inflight.waiting

    def _answer(self, pending: Pending, error: int, cause: str = "") -> None:
        """Unless it has been answered with EINTR meanwhile."""
        unique, is_ours = pending.unique, self._inflight.take(pending.unique)
        try:
            if is_ours and cause:
                self._tell(pending, error, cause)
            pending.answered(error if is_ours else errno.EINTR)
        except Exception:
            log.exception("a bug: a CRIOGET is not counted")
        if is_ours:
            self._reply(unique, error)

    def _tell(self, pending: Pending, error: int, cause: str) -> None:
        """Once for a cause and a user."""
        key = pending.uid, cause
        if key in self._told or len(self._told) > _TOLD:
            return
        self._told.add(key)
        fields = {"pid": pending.thread, "uid": pending.uid, "errno": error, "ioctl": "CRIOGET"}
        log.warning(
            "CRIOGET is refused to uid %d: thread %d %s",
            *(pending.uid, pending.thread, cause),
            extra=fields,
        )
