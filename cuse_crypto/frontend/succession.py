"""Taking over the node of a front end that has died, or that has made way for this one.

The kernel sends once more what the predecessor has not answered. By ledger and marks each request
is executed once, whether it had begun or not.
"""

import ctypes
import errno
import logging
import os
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.frontend import marks
from cuse_crypto.frontend.arena import Arena
from cuse_crypto.frontend.estate import LEDGER, LOCK, NODE, Estate
from cuse_crypto.frontend.files import OpenFiles
from cuse_crypto.frontend.ledger import Ledger, LedgerError
from cuse_crypto.frontend.marks import UNDO, WHOLE, Mark
from cuse_crypto.frontend.memory import writev
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.channel import Channel
from cuse_crypto.fuse.node import DEV, Attributes, Node, adopt
from cuse_crypto.fuse.protocol import FUSE_UNIQUE_RESEND, IN_HEADER, OPCODES, layouts
from cuse_crypto.linux.proc import state

log = logging.getLogger(__name__)

_DONE = layouts("FUSE_IOCTL")[1].bytes(protocol.fuse_ioctl_out(0))
PATIENCE = 2.0
"""Seconds for a node that could not be taken over to go."""
FATAL = 5
"""Front ends in a row that crash with one request, before it is taken for the reason."""
CORPSE = 0.2
"""Seconds for the threads of a predecessor to end that a page has woken."""
_VECTOR = struct.Struct("=2Q")


class Inherited(NamedTuple):
    """A predecessor's node, its ledger, what the kernel has sent once more, and whether it
    crashed.
    """

    node: Node
    ledger: Ledger
    again: list[bytes]
    crashed: bool


def inherit(name: str, estate: Estate) -> Inherited | None:
    """What there is to take over; None, with nothing left of it, if that cannot be."""
    report = estate.keep_crash_report()
    if report:
        log.error("the front end before this one crashed:\n%s", report)
    kind, found = estate.kind, estate.descriptors
    if kind is None or LEDGER not in found or (kind == "mounted" and LOCK not in found):
        estate.refuse()
        if kind:
            _wait_for_end(DEV / name)
        return None
    node = None
    try:
        ledger = Ledger(os.dup(found[LEDGER]))
        known = ledger.header
        attributes = Attributes(known.mode, known.uid, known.gid)
        lock = os.dup(found[LOCK]) if LOCK in found else -1
        node = adopt(name, kind, attributes, os.dup(found[f"{NODE}.{kind}"]), lock)
        inherited = Inherited(node, ledger, _again(node), bool(report))
    except (OSError, LedgerError) as problem:
        log.error("what was open is lost: %s", getattr(problem, "strerror", None) or problem)
        if node:
            node.close()
        estate.refuse()
        _wait_for_end(DEV / name)
        return None
    for fd in (found.pop(key, -1) for key in (LEDGER, LOCK, f"{NODE}.{kind}")):
        if fd >= 0:
            os.close(fd)
    return inherited


def _wait_for_end(path: Path) -> None:
    """A cuse node goes with the last descriptor, which whoever kept it is about to close."""
    end = time.monotonic() + PATIENCE
    while path.exists() and time.monotonic() < end:
        time.sleep(0.01)


def _again(node: Node) -> list[bytes]:
    """All that is not answered; OSError where the kernel has some that it cannot send again."""
    channel = node.channel
    try:
        channel.send_again()
        return channel.take()
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    messages = channel.take()
    while lost := node.waiting() - sum(map(_is_answered, messages)):
        more = channel.take()
        if not more:
            reason = f"{lost} requests, which this kernel does not send once more (Linux 6.9 does)"
            raise OSError(errno.EOPNOTSUPP, reason)
        messages += more
    return messages


def _is_answered(message: bytes) -> bool:
    row = OPCODES.get(IN_HEADER.read(message).opcode)
    return row is None or row.answered


class Unfinished(NamedTuple):
    """An operation of which ``done`` bytes are done, or WHOLE, once what ``mark`` names is written
    again; ``iv`` is the next.
    """

    mark: Mark
    arena: Arena

    @property
    def done(self) -> int:
        """Bytes, or a value of marks."""
        return self.mark.done

    @property
    def iv(self) -> bytes:
        """For the next part."""
        return self.mark.state[-1]


class Succession:
    """What a predecessor has left undone. To be made before anybody reads from the kernel."""

    def __init__(
        self, channel: Channel, files: OpenFiles, estate: Estate, crashed: bool = False
    ) -> None:
        """``files`` has the predecessor's ledger; open files and sessions are restored to it.

        ``crashed``: by itself, and was not killed.
        """
        self.unfinished: dict[int, Unfinished] = {}
        """By ``unique``."""
        self._lock = threading.Lock()
        self._channel, self._files, self._estate = channel, files, estate
        numbers = estate.descriptors
        self._arenas = [Arena(numbers[own], numbers[shared]) for own, shared in estate.arenas()]
        self._names = estate.arena_names()
        self._crashed = crashed

    def begin(self, messages: Sequence[bytes]) -> list[bytes]:
        """Answer what is as good as done; the rest of ``messages`` (see Channel.take), to be
        executed as if it were new, but for ``unfinished``.

        No caller's memory is touched here: the page may be one for which the predecessor waits.
        """
        resent = {unique: message for message in messages if (unique := _resent(message))}
        answered = self._refuse_fatal(resent)
        begun = {unique: one for unique, one in self._begun().items() if unique in resent}
        for mark, _ in begun.values():
            _settle(mark, self._files.ledger)
        self._files.restore()
        for unique, (mark, arena) in begun.items():
            if unique in answered or mark.done == UNDO:
                continue
            if mark.done == WHOLE and not mark.vectors:
                self._channel.reply(IN_HEADER.read(resent[unique]).unique, 0, _DONE)
                answered.add(unique)
            else:
                self.unfinished[unique] = Unfinished(mark, arena)
        # The kernel knows nothing of files whose open has not been answered.
        for file in self._files.opened_by(resent.keys()):
            self._files.release(file.fh)
        self._wake_pollers()
        self.ended()
        left = [message for message in messages if _resent(message) not in answered]
        # What others have begun on the same session comes after what is half done.
        return sorted(left, key=lambda message: _resent(message) not in self.unfinished)

    def finish(self, one: Unfinished) -> bool:
        """Write again what may be half written; whether that was all. OSError(EFAULT) if the
        caller's memory does not take it.

        A thread of the predecessor that hung in the same page is dead, and writes the pages before
        that one when it comes, once more: the same bytes. It is waited for, so that it does not
        write them after the answer.
        """
        if one.mark.vectors:
            if not _written(one.mark, one.arena):
                raise OSError(errno.EFAULT, "bad address")
            self._wait_for_predecessor()
        return one.done == WHOLE

    def _wait_for_predecessor(self) -> None:
        pid, end = self._files.ledger.predecessor, time.monotonic() + CORPSE
        while pid and state(pid) == "Z" and time.monotonic() < end:
            time.sleep(0.001)

    def ended(self, unique: int = 0) -> None:
        """The predecessor's memory is not needed any more, once all of ``unfinished`` has ended."""
        with self._lock:
            self.unfinished.pop(unique, None)
            if not self.unfinished:
                names, self._names, self._arenas = self._names, [], []
                self._estate.drop(names)

    def _refuse_fatal(self, resent: Mapping[int, bytes]) -> set[int]:
        """Those that have been under way when too many front ends crashed: EIO.

        One that was killed did not die of a request.
        """
        left = self._files.ledger.suspect(resent if self._crashed else ())
        fatal = {unique for unique, times in left.items() if times >= FATAL}
        for unique in fatal:
            log.error("a request is given up that was under way when %d front ends died", FATAL)
            header = IN_HEADER.read(resent[unique])
            self._channel.reply(header.unique, errno.EIO)
        return fatal

    def _begun(self) -> dict[int, tuple[Mark, Arena]]:
        """The last word on each request of which there is a mark, by ``unique``."""
        begun: dict[int, tuple[Mark, Arena]] = {}
        for arena in self._arenas:
            for mark in marks.read(arena):
                known = begun.get(mark.unique)
                if known is None or known[0].progress < mark.progress:
                    begun[mark.unique] = mark, arena
        return begun

    def _wake_pollers(self) -> None:
        """They may wait for results that will not come."""
        for file in self._files:
            for handle in file.pollers:
                self._channel.notify_poll(handle)
            file.pollers = set()


def _settle(mark: Mark, ledger: Ledger) -> None:
    """Have the session as the operation leaves it, or as it was before; unless it has ended since,
    or another operation has changed it.
    """
    if not mark.slot or mark.done not in (UNDO, WHOLE) or ledger.number(mark.slot) != mark.ses:
        return
    (*_, marked, _), (*_, found, _) = mark.state, ledger.state(mark.slot)
    since = (found - marked - (mark.done == UNDO)) & 0xFFFFFFFF
    if since in (0, 0xFFFFFFFF):
        ledger.save(mark.slot, mark.state)


def _resent(message: bytes) -> int:
    """The ``unique`` under which the predecessor had it; 0 if it is a new one."""
    unique = protocol.unique_of(memoryview(message))
    return unique & ~FUSE_UNIQUE_RESEND if unique & FUSE_UNIQUE_RESEND else 0


def _written(mark: Mark, arena: Arena) -> bool:
    """Do what the vectors of ``mark`` say; False if the caller's memory does not take it."""
    size = mark.vectors * _VECTOR.size
    at = mark.local - arena.address
    local = b"".join(
        _VECTOR.pack(address - mark.base + arena.address, length)
        for address, length in _VECTOR.iter_unpack(arena.view[at : at + size])
    )
    vectors = ctypes.create_string_buffer(local, size)
    total = sum(length for _, length in _VECTOR.iter_unpack(local))
    address = ctypes.addressof(vectors)
    copied = writev(mark.pid, address, mark.vectors, mark.remote, mark.vectors, 0)
    return bool(copied == total)
