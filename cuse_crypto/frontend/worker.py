"""A worker: a thread that takes one request after another, has it done, and answers it.

It has memory and a queue to the back end of its own.
"""

import errno
import logging
import os
import select
import threading
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

from cuse_crypto.abi import ioctls
from cuse_crypto.board import Board
from cuse_crypto.frontend.apis import APIS
from cuse_crypto.frontend.asynchronous import poll_mask
from cuse_crypto.frontend.crew import PATIENCE, SAMPLE
from cuse_crypto.frontend.crioget.broker import HandedOver, Pending
from cuse_crypto.frontend.doing import describing
from cuse_crypto.frontend.express import Express
from cuse_crypto.frontend.files import OpenFile
from cuse_crypto.frontend.inflight import AlreadyReplied, Deferred, InflightRequest
from cuse_crypto.frontend.inode import Inode
from cuse_crypto.frontend.limits import RATE
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
from cuse_crypto.frontend.turns import uid_of
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
DONE = _IOCTL_OUT.bytes(protocol.fuse_ioctl_out(0))
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
        self._inflight = server.inflight
        self.queue = queue
        self._arena = queue.arena
        self._marks = Marks(self._arena)
        self._memory = DirectMemory(self._arena, self._marks)
        self.thread = 0
        """Its thread id, once it runs."""
        self.serving = False
        """The request in its read buffer is under way."""
        self.turn: int | None = None
        """The user whose turn is used here."""
        self._bed = threading.Lock()
        self._bed.acquire()
        rows, calls = APIS[server.api]
        self._watch = Watch(server.board, rows, queue, self._marks)
        self.counters = self._watch.counters
        self._express = Express(server, queue, self._watch)
        self._marshal = calls(rows, queue)
        self._released: OpenFile | None = None
        self._current: InflightRequest | None = None
        """The open or the ioctl that is served."""
        self._handlers: dict[int, Callable[[Request], Buffer]] = {
            row.number: getattr(self, row.name)
            for row in protocol.OPCODES.values()
            if hasattr(self, row.name)
        }

    @property
    def request(self) -> memoryview:
        """The request that it serves, or has served last."""
        return self._arena.read_buffer

    def leave_board(self, board: Board) -> None:
        """Another worker may have its place there."""
        self._watch.leave_board(board)

    def run(self) -> None:
        """Serve until the channel ends, or until there are more workers than needed."""
        self.thread = threading.get_native_id()
        here.doing = describing(self._arena.read_buffer, self._server.api)
        if self._serve_all():
            self._server.crew.dismiss()
            self._server.abandon()
        self.queue.close()
        self._server.leave(self)

    def _serve_all(self) -> bool:
        """Serve until the end of the channel; False where others go on."""
        crew, patrol, queue = self._server.crew, self._server.patrol, self.queue
        fd, buffer = self._channel.fd, self._arena.read_buffer
        vector, express, readers = [buffer], self._express.serve, crew.readers
        if self._server.limits.values[RATE]:
            # What goes the short way is not counted.
            express = _never
        look_behind = crew.watcher()
        awake, needless = True, 0
        while awake:
            self.serving = False
            while crew.pile and not crew.all_busy():
                self._work_off()
            if crew.surplus and readers and crew.is_surplus():
                return False
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
            self.serving = True
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
                self._give_up(buffer)
            if queue.longest > KEPT:
                self._arena.trim()
                queue.longest = 0
            needless = needless + 1 if readers else 0
            if needless > PATIENCE or len(readers) > 1:
                # Before it rests, or it would be taken for one that still serves its last request.
                needless, self.serving = 0, False
                awake = crew.rest(self._bed)
        return True

    def _serve_in_turn(self, size: int, known: bool = False) -> None:
        """Answer the request in the arena, and what waited for its turn meanwhile.

        ``known``: it is in the table of requests under way already.
        """
        buffer = self._arena.read_buffer
        while size:
            self._serve_safely(buffer[:size], known)
            user, self.turn = self.turn, None
            message = None if user is None else self._server.turns.finish(user)
            size, known = self._load(message) if message else 0, True

    def _load(self, message: bytes) -> int:
        """Put it where requests are worked on; its turn has begun. Its size."""
        self._arena.read_buffer[: len(message)] = message
        self.turn = uid_of(message)
        return len(message)

    def serve_later(self, message: bytes, *, in_turn: bool) -> None:
        """Answer a request that was laid aside; ``in_turn``: its user's turn has begun."""
        size = self._load(message)
        if not in_turn:
            self.turn = None
        self._serve_in_turn(size, known=True)

    def _serve_safely(self, message: memoryview, known: bool) -> None:
        """Answer one request, whatever happens; a bug must not take the next one along."""
        try:
            self._serve(message, known)
        except Exception:
            self._give_up(message)

    def _give_up(self, message: memoryview) -> None:
        """Answer with EIO, if no other thread has answered."""
        log.exception("a bug, answered with EIO")
        unique, inflight = protocol.unique_of(message), self._inflight
        if inflight.take(unique) or inflight.claimed.pop(unique, None) is not None:
            self._channel.reply(unique, errno.EIO)

    def _serve(self, message: memoryview, known: bool) -> None:
        """Answer one request. So do the watchdog, Express, the broker for CRIOGET, ``_give_up``."""
        try:
            request = protocol.decode(message)
        except protocol.ProtocolError as problem:
            log.error("from the kernel: %s", problem)
            return
        opcode = request.opcode
        handler = self._handlers.get(opcode.number)
        body: Buffer = b""
        error = 0
        try:
            if opcode.number in _MAY_TAKE_LONG:
                self._enter(request, known)
            if handler:
                body = handler(request)
            else:
                error = opcode.unhandled
        except Deferred:
            self._current = None
            return
        except HandedOver:
            self._hand_over(request)
            return
        except AlreadyReplied:
            error = errno.EINTR
        except Exception as failure:
            error = errno_of(failure)
        self._reply(request, error, body)
        if self._released:
            file, self._released = self._released, None
            crew = self._server.crew
            if crew.all_busy():
                crew.carry(partial(Worker.release, file=file))
            else:
                self.release(file)

    def _enter(self, request: Request, known: bool) -> None:
        """Into the table; AlreadyReplied if it was laid aside, and is gone meanwhile."""
        header, inflight = request.header, self._inflight
        if not known:
            inflight.add(header.unique, header.pid)
        self._current = InflightRequest(inflight, header.unique)
        if self._current.is_gone:
            raise AlreadyReplied

    def _reply(self, request: Request, error: int, body: Buffer) -> None:
        """Answer, if that is still to be done here."""
        unique, current, self._current = request.header.unique, self._current, None
        mine = current is None or current.settle()
        self._watch.end(error if mine else errno.EINTR)
        if mine and request.opcode.answered:
            self._channel.reply(unique, error, body)
        if current:
            current.finish()
            self._end_resumed(unique)

    def _hand_over(self, request: Request) -> None:
        """The broker answers it; it is under way still."""
        server, header, body = self._server, request.header, request.body
        self._current = None
        answered = partial(server.deferred_watch.end, self._watch.defer())
        pending = Pending(header.uid, header.pid, body.cmd, body.arg, header.unique, answered)
        server.crioget.submit(pending)

    def _end_resumed(self, unique: int) -> None:
        if self._server.succession.unfinished:
            self._server.succession.ended(_first(unique))

    def release(self, file: OpenFile) -> None:
        """What comes after the answer to a release."""
        try:
            self._marshal.release(file)
        except OSError as failure:
            log.debug("the back end was not told of a release: %s", failure)

    def _carry(self, message: memoryview) -> bool:
        """Leave an open or an ioctl to others, when they are all at work; False if they are not."""
        crew = self._server.crew
        header = protocol.IN_HEADER.read(message)
        if header.opcode not in _MAY_TAKE_LONG or not crew.all_busy():
            return False
        self._inflight.add(header.unique, header.pid)
        crew.carry(partial(Worker.serve_later, message=bytes(message), in_turn=False))
        return True

    def _work_off(self) -> None:
        """Do what lies on the pile for longest."""
        try:
            work = self._server.crew.pile.popleft()
        except IndexError:
            return
        self.serving = True
        work(self)
        self.serving = False

    def FUSE_OPEN(self, request: Request) -> Buffer:
        """ENODEV where there is no back end; EINVAL for O_DIRECT, as the driver says.

        EMFILE where this user has too many.
        """
        if request.body.flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct I/O on a device")
        server, current = self._server, self._inflight_request()
        file = server.files.open(request.header.uid, _first(current.unique), request.header.pid)
        self.queue.pointless = current.is_abandoned
        try:
            self._marshal.open(file)
            current.claim()
        except BaseException as error:
            server.files.release(file.fh)
            if isinstance(error, BackendGone):
                log.error("%s", error.strerror, extra={"errno": errno.ENODEV})
                raise OSError(errno.ENODEV, "no back end") from error
            if isinstance(error, AlreadyReplied):
                self._marshal.release(file)
            raise
        self._watch.counters.opened()
        return _OPEN_OUT.bytes(protocol.fuse_open_out(file.fh, _OPEN_FLAGS))

    def _inflight_request(self) -> InflightRequest:
        assert self._current
        return self._current

    def FUSE_RELEASE(self, request: Request) -> Buffer:
        """Answered at once; the back end is told afterwards."""
        file = self._server.files.release(request.body.fh)
        if file:
            self._watch.counters.closed()
            self._released = file
        return b""

    def FUSE_IOCTL(self, request: Request) -> Buffer:
        """Do the ioctl when it is its user's turn: now, or when another one is done."""
        header, body = request.header, request.body
        file = self._server.files[body.fh]
        if self.turn is None:
            if body.cmd != _GIVES_BACK and _first(header.unique) == header.unique:
                file.account.spend()
            message = self._arena.read_buffer[: header.len]
            if not self._server.turns.begin(header.uid, header.unique, message):
                raise Deferred
            self.turn = header.uid
        try:
            return self._ioctl(request, file)
        finally:
            self._notify_pollers(file)

    def _ioctl(self, request: Request, file: OpenFile) -> Buffer:
        """With the caller's memory reached in the way that works."""
        server, body, current = self._server, request.body, self._inflight_request()
        pid, unique = request.header.pid, request.header.unique
        unrestricted = body.flags & IoctlFlag.UNRESTRICTED
        self._memory.pid, self._marks.unique = pid, unique
        if not pid and not unrestricted:
            raise OSError(errno.EFAULT, "a caller outside this pid namespace")
        call = Call(file, pid, body.arg, _NO_LAYOUT, self._memory, current.claim)
        if begun := server.succession.unfinished.get(_first(unique)):
            current.claim()
            if server.succession.finish(begun):
                return DONE
            call.done, call.iv = begun.done, begun.iv
        self._watch.begin(request, file)
        self.queue.pointless = current.is_abandoned
        memory: DirectMemory | RetriedMemory = self._memory
        if unrestricted and self._needs_kernel(request):
            memory = self._retried(request, body.out_size)
        try:
            try:
                memory = call.memory = self._watch.memory(memory, pid)
                self._marshal.ioctl(body.cmd, body.flags, call)
            except Unreachable:
                if not unrestricted:
                    raise
                memory = call.memory = self._watch.memory(self._retried(request, 0), pid)
                self._marshal.ioctl(body.cmd, body.flags, call)
        except Retry as retry:
            self._watch.leave()
            return _retry_reply(retry)
        if isinstance(memory, RetriedMemory):
            return b"".join([DONE, *memory.output])
        return DONE

    def _needs_kernel(self, request: Request) -> bool:
        """Whether the kernel has to copy: only a round of the retry protocol brings memory along.

        Where it copies for a caller whose memory hangs, that caller hangs, and no worker.
        """
        body, pid = request.body, request.header.pid
        direct = self._server.direct and not self._server.turns.hangs(request.header.uid)
        return bool(body.in_size or body.out_size or not pid or not direct)

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
