"""From an ioctl to messages and back: one method a row of the ioctl table, under its name.

The order of the checks is the driver's, since programs can tell. Nothing here knows how a request
arrives or is answered.
"""

import contextlib
import errno
import mmap
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.algorithms import CIPHERS
from cuse_crypto.abi.ioctls import Ioctl
from cuse_crypto.abi.structs import (
    CRYPTO_CIPHER_MAX_KEY_LEN,
    Cop,
    CopFlag,
    crypt_op,
    session_id,
    session_op,
)
from cuse_crypto.frontend.arena import PAGE, READ, REPLY, REQUEST, SCRATCH, Arena
from cuse_crypto.frontend.files import OpenFile, Session
from cuse_crypto.frontend.memory import CallerMemory, Piece, Range
from cuse_crypto.frontend.queue import BackendGone, Queue
from cuse_crypto.fuse.protocol import IN_HEADER, IoctlFlag, layouts
from cuse_crypto.layout import Layout, Width
from cuse_crypto.wire import messages

ARGUMENT = READ + IN_HEADER.size + layouts("FUSE_IOCTL")[0].size
"""Where the caller's structure lies in the arena: the kernel puts it there when it copies it."""
_IV = SCRATCH + PAGE
CHUNK = 1 << 20
"""The largest part of an operation that is one message, in bytes."""

_CRYPT = messages.BY_NAME["CRYPT"]
_SRC = REQUEST + _CRYPT.payload_offset
_DST = REPLY + _CRYPT.reply_offset
_ROWS: dict[Width, dict[int, Ioctl]] = {32: ioctls.by_number(32), 64: ioctls.by_number(64)}


class Claim(Protocol):
    """Asked before the first visible effect of an ioctl, and between parts of a long one."""

    def __call__(self) -> None:
        """Raises when the caller has been given another answer."""


@dataclass(slots=True)
class Call:
    """One ioctl under way: who asks for what, and how to reach its memory."""

    file: OpenFile
    arg: int
    layout: Layout[Any]
    memory: CallerMemory
    claim: Claim


class Marshal:
    """The ioctls of one worker, which owns the arena and the queue."""

    def __init__(self, arena: Arena, queue: Queue) -> None:
        self._arena = arena
        self._view = arena.view
        self._queue = queue

    def ioctl(
        self, file: OpenFile, cmd: int, arg: int, flags: int, memory: CallerMemory, claim: Claim
    ) -> None:
        """Do one ioctl; OSError with the errno that the caller is to see."""
        width: Width = 32 if flags & IoctlFlag.COMPAT else 64
        row = _ROWS[width].get(cmd)
        if row is None:
            raise OSError(errno.EINVAL, "no such ioctl")
        layout = ioctls.layout_of(row, width)
        # A restricted ioctl brings the structure along, in the same place.
        if flags & IoctlFlag.UNRESTRICTED:
            memory.copy_from_user([Range(arg, layout.size)], ARGUMENT)
        call = Call(file, arg, layout, memory, claim)
        getattr(self, row.name)(call, layout.read(self._view, ARGUMENT))

    def CIOCGSESSION(self, call: Call, op: session_op) -> None:
        """Make a session and tell its number."""
        if not op.cipher and not op.mac:
            raise OSError(errno.EINVAL, "neither cipher nor mac")
        self._queue.connect()
        cipher = CIPHERS.get(op.cipher)
        if cipher is None or op.mac or op.cipher not in self._queue.algorithms:
            raise OSError(errno.EINVAL, "no such algorithm")
        if op.keylen > CRYPTO_CIPHER_MAX_KEY_LEN:
            raise OSError(errno.EINVAL, "key too long")
        result = Range(call.arg, call.layout.size)
        ranges = [Range(op.key, op.keylen)] if op.keylen else []
        call.memory.copy_from_user(ranges, _SRC, writable=[result])
        if op.keylen not in cipher.key_sizes:
            raise OSError(errno.EINVAL, "no length of a key")
        key = bytes(self._view[_SRC : _SRC + op.keylen])
        session = Session(call.file.new_number(), cipher, key, bytes(cipher.iv_size))
        self._tell(call.file, session)
        call.file.sessions[session.ses] = session
        try:
            call.claim()
            # The rest of the structure goes back as it came, padding included.
            at = ARGUMENT + call.layout.offset("ses")
            self._view[at : at + 4] = session.ses.to_bytes(4, sys.byteorder)
            call.memory.copy_to_user([Piece(call.arg, ARGUMENT, call.layout.size)])
        except BaseException:
            self._end(call.file, session.ses)
            raise

    def CIOCFSESSION(self, call: Call, op: session_id) -> None:
        """End a session. Unknown numbers are no error, as in the driver."""
        if op.ses in call.file.sessions:
            self._end(call.file, op.ses)

    def CIOCCRYPT(self, call: Call, op: crypt_op) -> None:
        """Encrypt or decrypt ``len`` bytes."""
        session = call.file.session(op.ses)
        cipher = session.cipher
        with session.lock:
            wrong = op.op not in (Cop.ENCRYPT, Cop.DECRYPT) or op.len % cipher.block_size
            first = 0 if wrong else min(op.len, CHUNK)
            ranges = [Range(op.src, first)] if first else []
            at = _SRC + cipher.iv_size
            if op.iv and cipher.iv_size:
                ranges.insert(0, Range(op.iv, cipher.iv_size))
                at = _SRC
            results = [] if wrong else self._results(call, op, cipher.iv_size)
            overlap = None
            if op.len > CHUNK and op.src < op.dst < op.src + op.len and not wrong:
                overlap = self._read_ahead(call, op)
            writable = [Range(address, length) for address, _, length in results]
            call.memory.copy_from_user(ranges, at, writable)
            if wrong:
                raise OSError(errno.EINVAL, "no operation, or an odd length")
            if not op.iv:
                self._view[_SRC : _SRC + cipher.iv_size] = session.iv
            if not op.len:
                session.iv = bytes(self._view[_SRC : _SRC + cipher.iv_size])
            self._crypt(call, op, session, first, results, overlap)

    def _results(self, call: Call, op: crypt_op, iv_size: int) -> list[Piece]:
        """What is written back, in the driver's order: dst, iv, the structure."""
        results = [Piece(op.dst, _DST, min(op.len, CHUNK))] if op.len else []
        if op.iv and iv_size and op.flags & CopFlag.WRITE_IV:
            results.append(Piece(op.iv, _IV, iv_size))
        results.append(Piece(call.arg, ARGUMENT, call.layout.size))
        return results

    def _crypt(
        self,
        call: Call,
        op: crypt_op,
        session: Session,
        length: int,
        results: list[Piece],
        overlap: mmap.mmap | None,
    ) -> None:
        """The operation part by part; IV and first part are in the arena already."""
        iv_size = session.cipher.iv_size
        done = 0
        while length:
            iv = bytes(self._view[_SRC : _SRC + iv_size])
            dst = self._exchange(call.file, session, op, length)
            src = self._view[_SRC + iv_size : _SRC + iv_size + length]
            call.claim()
            session.iv = session.cipher.next_iv(op.op, iv, src, dst)
            done += length
            if done == op.len:
                break
            call.memory.copy_to_user([Piece(op.dst + done - length, _DST, length)])
            length = min(op.len - done, CHUNK)
            self._view[_SRC : _SRC + iv_size] = session.iv
            if overlap is None:
                call.memory.copy_from_user([Range(op.src + done, length)], _SRC + iv_size)
            else:
                self._view[_SRC + iv_size : _SRC + iv_size + length] = overlap[done : done + length]
        else:
            call.claim()
        if done > length:
            results[0] = Piece(op.dst + done - length, _DST, length)
        self._view[_IV : _IV + iv_size] = session.iv
        call.memory.copy_to_user(results)

    def _read_ahead(self, call: Call, op: crypt_op) -> mmap.mmap:
        """All of ``src``, where writing an early part of ``dst`` would overwrite a later part."""
        copy = mmap.mmap(-1, op.len)
        for start in range(0, op.len, CHUNK):
            length = min(op.len - start, CHUNK)
            call.memory.copy_from_user([Range(op.src + start, length)], _SRC)
            copy[start : start + length] = self._view[_SRC : _SRC + length]
        return copy

    def _exchange(self, file: OpenFile, session: Session, op: crypt_op, length: int) -> memoryview:
        """Have the back end compute; the result lies at _DST."""
        body = messages.Crypt(file.fh, session.ses, op.op, 0)
        sizes = (session.cipher.iv_size, length), (length, 0)
        arena, queue = self._arena, self._queue
        reply = queue.exchange(arena.request, arena.reply, _CRYPT, body, *sizes)
        if reply.status == messages.NO_SUCH_HANDLE:
            self._tell(file, session)
            reply = queue.exchange(arena.request, arena.reply, _CRYPT, body, *sizes)
        dst = _checked(reply).segments[0]
        if len(dst) != length:
            raise OSError(errno.EIO, f"{len(dst)} bytes instead of {length} from the back end")
        return dst

    def open(self, file: OpenFile) -> None:
        """Tell the back end of an open file; OSError if it cannot have one."""
        _checked(self._queue.control("OPEN", messages.Handle(file.fh)))

    def release(self, file: OpenFile) -> None:
        """Tell the back end that an open file is gone."""
        file.sessions.clear()
        _checked(self._queue.control("RELEASE", messages.Handle(file.fh)))

    def _tell(self, file: OpenFile, session: Session) -> None:
        """Make the session in the back end, and the open file too if it has forgotten it."""
        body = messages.NewSession(file.fh, session.ses, session.cipher.id, 0)
        reply = self._queue.control("NEW_SESSION", body, session.key, b"")
        if reply.status == messages.NO_SUCH_HANDLE:
            self.open(file)
            reply = self._queue.control("NEW_SESSION", body, session.key, b"")
        _checked(reply)

    def _end(self, file: OpenFile, ses: int) -> None:
        """Forget a session here and there; a back end that is gone has forgotten it already."""
        file.sessions.pop(ses, None)
        with contextlib.suppress(BackendGone):
            self._queue.control("END_SESSION", messages.Session(file.fh, ses))


def _checked(reply: messages.Reply) -> messages.Reply:
    if reply.status:
        raise OSError(reply.status, "said by the back end")
    return reply
