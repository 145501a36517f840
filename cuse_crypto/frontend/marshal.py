"""From an ioctl to messages and back: the machinery that all ioctls share.

Nothing here knows how a request arrives or is answered. What each ioctl does stands in sessions,
crypt, authcrypt and asynchronous beside this file, as a method of the row's name.
"""

import contextlib
import errno
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.ioctls import Ioctl
from cuse_crypto.frontend.arena import PAGE, READ, SCRATCH
from cuse_crypto.frontend.files import OpenFile, Session, wipe
from cuse_crypto.frontend.limits import SESSIONS
from cuse_crypto.frontend.memory import CallerMemory, Piece, Range
from cuse_crypto.frontend.queue import ATTEMPTS, BackendGone, NotRepeated, Queue
from cuse_crypto.fuse.protocol import IN_HEADER, IoctlFlag, layouts
from cuse_crypto.layout import Layout, Width
from cuse_crypto.wire import messages
from cuse_crypto.wire.messages import Message, Reply

ARGUMENT = READ + IN_HEADER.size + layouts("FUSE_IOCTL")[0].size
"""Where the caller's structure lies in the arena: the kernel puts it there when it copies it."""
SMALL = SCRATCH + PAGE
"""Where small results are put, to be copied to the caller."""


class StateLost(OSError):
    """A hash under way died with its back end."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "the hash under way is lost with its back end")


@dataclass(slots=True)
class Call:
    """One ioctl under way: who asks for what, and how to reach its memory."""

    file: OpenFile
    thread: int
    arg: int
    layout: Layout[Any]
    memory: CallerMemory
    claim: Callable[[], None]
    """To be called before the first visible effect, and between parts of a long operation; raises
    when the caller has been given another answer."""
    done: int = 0
    """Bytes of the operation that a predecessor has done."""
    iv: bytes = b""
    """Where it goes on then, as long as the longest one: others may have used its session since."""

    def store(self, view: memoryview, member: str, value: int | bytes) -> None:
        """Change one member of the argument, which goes back as it came otherwise."""
        field = self.layout.field(member)
        if isinstance(value, bytes):
            data = value
        else:
            # The end of a buffer may lie beyond the last address.
            data = (value & (1 << 8 * field.size) - 1).to_bytes(field.size, sys.byteorder)
        at = ARGUMENT + field.offset
        view[at : at + len(data)] = data

    @property
    def structure(self) -> Piece:
        """The argument, to be written back."""
        return Piece(self.arg, ARGUMENT, self.layout.size)


class Marshal:
    """The ioctls of one worker, which owns the queue and its arena."""

    def __init__(self, rows: tuple[Ioctl, ...], queue: Queue) -> None:
        """``rows``: the table; each is a method of a class that inherits this one."""
        widths: tuple[Width, Width] = (32, 64)
        self._rows = {width: ioctls.by_number(rows, width) for width in widths}
        self._view = queue.arena.view
        self._queue = queue

    def ioctl(self, cmd: int, flags: int, call: Call) -> None:
        """Do one ioctl; OSError with the errno that the caller is to see.

        ``call.layout`` is filled in here.
        """
        width: Width = 32 if flags & IoctlFlag.COMPAT else 64
        row = self._rows[width].get(cmd)
        if row is None:
            raise OSError(errno.EINVAL, "no such ioctl")
        call.layout = ioctls.layout_of(row, width)
        # A restricted ioctl brings the structure along, in the same place.
        if flags & IoctlFlag.UNRESTRICTED and row.direction & ioctls.CALLER_WRITES:
            call.memory.copy_from_user([Range(call.arg, call.layout.size)], ARGUMENT)
        getattr(self, row.name)(call, call.layout.read(self._view, ARGUMENT))

    def open(self, file: OpenFile) -> None:
        """Tell the back end of an open file; OSError if it cannot have one."""
        checked(self._queue.control("OPEN", messages.Handle(file.fh)))

    def release(self, file: OpenFile) -> None:
        """Tell the back end that an open file is gone.

        It is told first: what it has of the file is room for others. An operation may be under way
        whose caller was killed, and hang in its memory: this does not wait for it.
        """
        file.released = True
        try:
            checked(self._queue.control("RELEASE", messages.Handle(file.fh), patient=False))
        finally:
            for ses in list(file.sessions):
                self._forget(file, ses, wait=False)

    def _exchange(
        self,
        file: OpenFile,
        session: Session,
        message: Message,
        body: Any,
        readable: tuple[int, ...],
        writable: tuple[int, ...],
        repeatable: bool = True,
    ) -> Reply:
        """Have the back end work on what lies in the arena; a forgotten session is made again.

        StateLost where that, or repeating, would go on with a hash that is not there any more.
        """
        sizes = body, readable, writable
        place = b"" if repeatable else session.place
        try:
            answer = self._queue.exchange(message, *sizes, repeatable, place)
            for _ in range(ATTEMPTS):
                if answer.status != messages.NO_SUCH_HANDLE:
                    break
                if not repeatable:
                    raise StateLost
                self._tell(file, session)
                answer = self._queue.exchange(message, *sizes, repeatable)
        except NotRepeated as error:
            session.hashing = False
            raise StateLost from error
        except (BackendGone, StateLost):
            session.hashing = False
            raise
        return checked(answer)

    def _control(
        self, file: OpenFile, session: Session, name: str, body: Any, writable: tuple[int, ...] = ()
    ) -> Reply:
        """A small message about a session, which is made again if the back end has forgotten it."""
        reply = self._queue.control(name, body, writable=writable)
        for _ in range(ATTEMPTS):
            if reply.status != messages.NO_SUCH_HANDLE:
                break
            self._tell(file, session)
            reply = self._queue.control(name, body, writable=writable)
        return checked(reply)

    def _tell(self, file: OpenFile, session: Session) -> None:
        """Make the session in the back end, and the open file too if it has forgotten it."""
        cipher, mac = session.cipher, session.mac
        numbers = cipher.id if cipher else 0, mac.id if mac else 0
        body = messages.NewSession(file.fh, session.ses, *numbers)
        keys = session.keys()
        try:
            reply = self._queue.control("NEW_SESSION", body, *keys)
            for _ in range(ATTEMPTS):
                if reply.status != messages.NO_SUCH_HANDLE or file.released:
                    break
                self.open(file)
                reply = self._queue.control("NEW_SESSION", body, *keys)
                if file.released:
                    self.release(file)
        finally:
            wipe(*keys)
        checked(reply)

    def _end(self, file: OpenFile, ses: int) -> None:
        """Forget a session here and there; a back end that is gone has forgotten it already."""
        self._forget(file, ses)
        with contextlib.suppress(BackendGone):
            self._queue.control("END_SESSION", messages.Session(file.fh, ses), patient=False)

    def _forget(self, file: OpenFile, ses: int, wait: bool = True) -> None:
        session = file.remove(ses)
        if session:
            session.end(wait)
            file.account.give(SESSIONS)

    def _put(self, address: int, data: bytes, at: int = SMALL) -> Piece:
        """``data`` laid at ``at`` of the arena, to be copied to the caller's ``address``."""
        self._view[at : at + len(data)] = data
        return Piece(address, at, len(data))


def checked(reply: Reply) -> Reply:
    """The reply, or the OSError that it brings."""
    if reply.status:
        raise OSError(reply.status, "said by the back end")
    return reply


def ranges(pieces: Sequence[Piece]) -> list[Range]:
    """Where the pieces go."""
    return [Range(address, length) for address, _, length in pieces]
