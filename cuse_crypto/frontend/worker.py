"""A worker: a thread that takes one request after another, has it done, and answers it.

It has memory and a queue to the back end of its own.
"""

import errno
import logging
import os
import select
import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from cuse_crypto.abi import ioctls
from cuse_crypto.frontend.apis import APIS
from cuse_crypto.frontend.asynchronous import poll_mask
from cuse_crypto.frontend.crew import PATIENCE, SAMPLE
from cuse_crypto.frontend.doing import describing
from cuse_crypto.frontend.express import Express
from cuse_crypto.frontend.files import OpenFile
from cuse_crypto.frontend.inode import Inode
from cuse_crypto.frontend.limits import RATE, Account
from cuse_crypto.frontend.marks import Marks
from cuse_crypto.frontend.marshal import Call
from cuse_crypto.frontend.memory import (
    DirectMemory,
    RetriedMemory,
    Retry,
    Unreachable,
    why_not_direct,
)
from cuse_crypto.frontend.queue import BackendGone, Queue
from cuse_crypto.frontend.tickets import Answered, Ticket
from cuse_crypto.frontend.watch import Watch
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.protocol import FUSE_UNIQUE_RESEND, Fopen, IoctlFlag, Request, layouts
from cuse_crypto.journal import here
from cuse_crypto.layout import Buffer, Layout
from cuse_crypto.wire.area import KEPT

if TYPE_CHECKING:
    from cuse_crypto.frontend.server import Server

log = logging.getLogger(__name__)

_IOCTL_OUT = layouts("FUSE_IOCTL")[1]
_NO_LAYOUT = Layout(protocol.fuse_interrupt_in)
"""Until the ioctl's number is looked up."""
_DONE = _IOCTL_OUT.bytes(protocol.fuse_ioctl_out(0))
_OPEN_OUT = layouts("FUSE_OPEN")[1]
_OPEN_FLAGS = Fopen.DIRECT_IO | Fopen.NONSEEKABLE | Fopen.STREAM | Fopen.NOFLUSH
_MAY_TAKE_LONG = {protocol.BY_NAME[name].number for name in ("FUSE_OPEN", "FUSE_IOCTL")}
_GIVES_BACK = next(row for row in ioctls.IOCTLS if row.name == "CIOCFSESSION").number(64)


class Worker(Inode):
    """One thread: methods are named after the request that they answer, and give its body."""

    def __init__(self, server: "Server", queue: Queue) -> None:
        self._server = server
        self._channel = server.node.channel
        self._attributes = server.node.attributes
        self._ledger = server.files.ledger
        self._queue = queue
        self._arena = queue.arena
        self._marks = Marks(self._arena)
        self._memory = DirectMemory(self._arena, self._marks)
        self._account: Account | None = None
        """Whose ioctl is being done here."""
        self._bed = threading.Lock()
        self._bed.acquire()
        rows, calls = APIS[server.api]
        self._watch = Watch(server.board, rows, queue, self._marks)
        server.counters.append(self._watch.counters)
        self._express = Express(server, queue, self._watch)
        self._marshal = calls(rows, queue)
        self._released: OpenFile | None = None
        self._handlers: dict[int, Callable[[Request], Buffer]] = {
            row.number: getattr(self, row.name)
            for row in protocol.OPCODES.values()
            if hasattr(self, row.name)
        }

    def run(self) -> None:
        """Serve until the channel ends."""
        crew, patrol, queue = self._server.crew, self._server.patrol, self._queue
        fd, buffer = self._channel.fd, self._arena.read_buffer
        here.doing = describing(buffer, self._server.api)
        vector, express, readers = [buffer], self._express.serve, crew.readers
        if self._server.limits.values[RATE]:
            # What goes the short way is not counted.
            express = _never
        look_behind = crew.watcher()
        awake, needless = True, 0
        while awake:
            while crew.pile and not crew.all_busy():
                self._work_off()
            readers.append(None)
            if crew.pile and len(readers) > 1:
                readers.pop()
                continue
            try:
                size = os.readv(fd, vector)
            except OSError:
                size = self._channel.read(buffer)
            readers.pop()
            if not size:
                break
            if not patrol.running:
                patrol.start()
            if crew.is_full and self._carry(buffer[:size]):
                continue
            if not queue.requests % SAMPLE:
                look_behind()
            try:
                if not express(size):
                    self._serve_in_turn(size)
            except Exception:
                log.exception("a bug, answered with EIO")
                unique = protocol.unique_of(buffer)
                self._server.short.pop(unique, None)
                self._channel.reply(unique, errno.EIO)
            if queue.longest > KEPT:
                self._arena.trim()
                queue.longest = 0
            needless = needless + 1 if readers else 0
            if needless > PATIENCE or len(readers) > 1:
                needless, awake = 0, crew.rest(self._bed)
        crew.dismiss()
        self._server.abandon()
        queue.close()

    def _serve_in_turn(self, size: int) -> None:
        """Answer the request in the arena, and what waited for its user to be done with one."""
        buffer = self._arena.read_buffer
        waited = size
        while waited:
            self._serve_safely(buffer[:waited])
            account, self._account = self._account, None
            message = account.finish() if account else None
            waited = len(message) if message else 0
            if message:
                buffer[:waited] = message
                self._account = account

    def _serve_safely(self, message: memoryview) -> None:
        """Answer one request, whatever happens; a bug must not take the next one along."""
        try:
            self._serve(message)
        except Exception:
            log.exception("a bug, answered with EIO")
            self._channel.reply(protocol.unique_of(message), errno.EIO)

    def _serve(self, message: memoryview) -> None:
        """Answer one request; the only place that does, but for Server._let_go and Express."""
        try:
            request = protocol.decode(message)
        except protocol.ProtocolError as problem:
            log.error("from the kernel: %s", problem)
            return
        unique, opcode = request.header.unique, request.opcode
        handler = self._handlers.get(opcode.number)
        body: Buffer = b""
        error = 0
        try:
            if handler:
                body = handler(request)
            else:
                error = opcode.unhandled
        except Answered:
            self._watch.end(errno.EINTR)
            return
        except Exception as failure:
            error = errno_of(failure)
        self._watch.end(error)
        if opcode.answered:
            self._channel.reply(unique, error, body)
        self._end_resumed(unique)
        if self._released:
            file, self._released = self._released, None
            crew = self._server.crew
            if crew.all_busy():
                crew.carry(file)
            else:
                self._release(file)

    def _claim_resumed(self, ticket: Ticket) -> None:
        """Half of it is written: nobody else may answer it any more."""
        try:
            ticket.claim()
        except Answered:
            self._end_resumed(ticket.unique)
            raise

    def _end_resumed(self, unique: int) -> None:
        if self._server.succession.unfinished:
            self._server.succession.ended(_first(unique))

    def _release(self, file: OpenFile) -> None:
        """What comes after the answer to a release."""
        try:
            self._marshal.release(file)
        except OSError as failure:
            log.debug("the back end was not told of a release: %s", failure)

    def _carry(self, message: memoryview) -> bool:
        """Leave an open or an ioctl to others, when they are all at work; False if they are not."""
        crew, tickets = self._server.crew, self._server.tickets
        header = protocol.IN_HEADER.read(message)
        if header.opcode not in _MAY_TAKE_LONG or not crew.all_busy():
            return False
        tickets[header.unique] = Ticket(header.unique, header.pid)
        crew.carry(bytes(message))
        return True

    def _work_off(self) -> None:
        """Do what lies on the pile for longest."""
        try:
            item = self._server.crew.pile.popleft()
        except IndexError:
            return
        if not isinstance(item, bytes):
            self._release(item)
            return
        message = self._arena.read_buffer[: len(item)]
        message[:] = item
        ticket = self._server.tickets.pop(protocol.unique_of(message), None)
        if ticket and ticket.take():
            self._serve_in_turn(len(item))

    def FUSE_OPEN(self, request: Request) -> Buffer:
        """ENODEV where there is no back end; EINVAL for O_DIRECT, as the driver says.

        EMFILE where this user has too many.
        """
        if request.body.flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct I/O on a device")
        server, unique = self._server, request.header.unique
        file = server.files.open(request.header.uid, _first(unique), request.header.pid)
        ticket = server.tickets[unique] = Ticket(unique, request.header.pid)
        self._queue.pointless = ticket.is_pointless
        try:
            self._marshal.open(file)
            ticket.settle()
        except BaseException as error:
            server.files.release(file.fh)
            if isinstance(error, BackendGone):
                log.error("%s", error.strerror, extra={"errno": errno.ENODEV})
                ticket.settle()
                raise OSError(errno.ENODEV, "no back end") from error
            if isinstance(error, Answered):
                self._marshal.release(file)
            raise
        finally:
            del server.tickets[unique]
        self._watch.counters.opened()
        return _OPEN_OUT.bytes(protocol.fuse_open_out(file.fh, _OPEN_FLAGS))

    def FUSE_RELEASE(self, request: Request) -> Buffer:
        """Answered at once; the back end is told afterwards."""
        file = self._server.files.release(request.body.fh)
        if file:
            self._watch.counters.closed()
            self._released = file
        return b""

    def FUSE_IOCTL(self, request: Request) -> Buffer:
        """Do the ioctl when it is its user's turn: now, or when another one is done."""
        tickets, header = self._server.tickets, request.header
        if self._account is None:
            account = self._server.files[request.body.fh].account
            if request.body.cmd != _GIVES_BACK and _first(header.unique) == header.unique:
                account.spend()
            tickets[header.unique] = Ticket(header.unique, header.pid)
            if not account.begin(self._arena.read_buffer[: header.len]):
                raise Answered
            self._account = account
        ticket = tickets[header.unique]
        try:
            # It may have been interrupted while it waited.
            if ticket.is_taken:
                raise Answered
            return self._ioctl(request, ticket)
        finally:
            tickets.pop(header.unique, None)

    def _ioctl(self, request: Request, ticket: Ticket) -> Buffer:
        """With the caller's memory reached in the way that works."""
        server, body = self._server, request.body
        pid, unique = request.header.pid, request.header.unique
        file = server.files[body.fh]
        unrestricted = body.flags & IoctlFlag.UNRESTRICTED
        memory: DirectMemory | RetriedMemory = self._memory
        self._memory.pid, self._marks.unique = pid, unique
        # Only a round of the retry protocol brings memory along on a CUSE node.
        if unrestricted and (body.in_size or body.out_size or not pid or not server.direct):
            memory = self._retried(request, body.out_size)
        elif not pid:
            raise OSError(errno.EFAULT, "a caller outside this pid namespace")

        self._watch.begin(request, file)
        memory = self._watch.memory(memory, pid)
        self._queue.pointless = ticket.is_pointless
        answered = False

        def succeed() -> None:
            nonlocal answered
            answered = True
            self._watch.end(0)
            self._channel.reply(unique, 0, _DONE)

        call = Call(file, pid, body.arg, _NO_LAYOUT, memory, ticket.claim, succeed)
        call.done, call.iv = server.succession.unfinished.get(_first(unique), (0, b""))
        if call.done:
            self._claim_resumed(ticket)
        try:
            try:
                self._marshal.ioctl(body.cmd, body.flags, call)
            except Unreachable:
                if not unrestricted:
                    raise
                retried = self._retried(request, 0)
                call.memory = memory = self._watch.memory(retried, pid)
                self._marshal.ioctl(body.cmd, body.flags, call)
        except Retry as retry:
            self._watch.leave()
            return _retry_reply(retry)
        finally:
            del server.tickets[unique]
            self._notify_pollers(file)
            ticket.settle()
            if answered:
                raise Answered
        if isinstance(memory, RetriedMemory):
            return b"".join([_DONE, *memory.output])
        return _DONE

    def _retried(self, request: Request, out_size: int) -> RetriedMemory:
        return RetriedMemory(self._arena, self._marks, self._ledger, request.payload, out_size)

    def _notify_pollers(self, file: OpenFile) -> None:
        """Have the kernel poll again what waits for this open file."""
        if not file.pollers:
            return
        with file.lock:
            changed = poll_mask(file) != file.polled
            waiting = file.pollers if changed else set()
            if changed:
                file.pollers = set()
        for handle in waiting:
            self._channel.notify_poll(handle)

    def FUSE_POLL(self, request: Request) -> Buffer:
        """What asynchronous operations allow; without any, writable and not readable."""
        body = request.body
        file = self._server.files[body.fh]
        with file.lock:
            if body.flags & protocol.FUSE_POLL_SCHEDULE_NOTIFY:
                file.poll(body.kh)
            mask = file.polled = poll_mask(file)
        revents = mask & (body.events | select.POLLERR | select.POLLHUP)
        return layouts("FUSE_POLL")[1].bytes(protocol.fuse_poll_out(revents))

    def FUSE_INTERRUPT(self, request: Request) -> Buffer:
        """Not answered, unless it came before the request that it is for: the kernel asks again."""
        if not self._server.interrupt(request.body.unique):
            self._channel.reply(request.header.unique, errno.EAGAIN)
        return b""


def _first(unique: int) -> int:
    """By which a request was known when the kernel sent it for the first time."""
    return unique & ~FUSE_UNIQUE_RESEND


def _never(size: int) -> bool:
    """No short way."""
    return False


def _retry_reply(retry: Retry) -> bytes:
    """What asks the kernel to copy these ranges and come again."""
    ranges = [*retry.readable, *retry.writable]
    if len(ranges) > protocol.FUSE_IOCTL_MAX_IOV:
        raise OSError(errno.ENOMEM, "more ranges than the kernel takes")
    head = protocol.fuse_ioctl_out(0, IoctlFlag.RETRY, len(retry.readable), len(retry.writable))
    parts = [protocol.IOVEC.bytes(protocol.fuse_ioctl_iovec(*item)) for item in ranges]
    return b"".join([_IOCTL_OUT.bytes(head), *parts])


def errno_of(failure: Exception) -> int:
    """The one place where an exception becomes what a caller sees."""
    if isinstance(failure, OSError) and failure.errno:
        if isinstance(failure, BackendGone):
            log.error("%s", failure.strerror, extra={"errno": failure.errno})
        return failure.errno
    if isinstance(failure, Unreachable):
        log.error("%s (%s)", _why_unreachable(), failure, extra={"errno": errno.EFAULT})
        return errno.EFAULT
    log.exception("a bug, answered with EIO", exc_info=failure)
    return errno.EIO


@cache
def _why_unreachable() -> str:
    """Why the memory of one caller is closed, with the remedy; what is so for all comes first."""
    # Without read permission on it (chmod 711) the kernel lets only the machine's root look inside.
    return why_not_direct() or "caller memory is closed: let its user read the program (chmod +r)"
