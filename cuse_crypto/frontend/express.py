"""The short way of the ioctl that matters: CIOCCRYPT of a cipher alone, in one part, through
shared memory.

What worker, marshal, crypt, memory, queue and connection do one after the other, in their order,
without the steps that this case does not need, and without calls between them: 256 bytes take
29 us there and back instead of 66. Whatever is not as expected is left to them, as if it had not
been tried: to encrypt twice does no harm.
"""

import errno
import struct
from os import read, write
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING

from cuse_crypto.abi import ioctls
from cuse_crypto.board import BUCKETS, LENGTHS, NANOSECONDS, OPERATIONS, TRACE
from cuse_crypto.frontend.arena import MARKS
from cuse_crypto.frontend.crypt import CHUNK, DST, IV
from cuse_crypto.frontend.files import Session
from cuse_crypto.frontend.ledger import CHANGES, USED
from cuse_crypto.frontend.limits import BYTES
from cuse_crypto.frontend.marks import MARK, WHOLE
from cuse_crypto.frontend.marshal import ARGUMENT, SMALL
from cuse_crypto.frontend.memory import readv, writev
from cuse_crypto.frontend.queue import Queue
from cuse_crypto.frontend.watch import Watch
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.protocol import IoctlFlag, layouts
from cuse_crypto.wire import messages
from cuse_crypto.wire.shared import SHORT

if TYPE_CHECKING:
    from cuse_crypto.frontend.server import Server

_ROW = next(row for row in ioctls.IOCTLS if row.name == "CIOCCRYPT")
_CMD, _OPCODE = _ROW.number(64), protocol.BY_NAME["FUSE_IOCTL"].number
_ARGUMENT = ioctls.layout_of(_ROW, 64).size
_SIZE = ARGUMENT + _ARGUMENT
_ANSWER = ARGUMENT - protocol.IOCTL_DONE.size
_ANSWER_SIZE = _SIZE - _ANSWER
_REQUEST = struct.Struct(
    "=4xIQ8x8xI4x"  # fuse_in_header: opcode, unique, pid
    "QII16x"        # fuse_ioctl_in: fh, flags, cmd
    "IHHI4xQQ8xQ"   # crypt_op: ses, op, flags, len, src, dst, iv
)  # fmt: skip
_BARE = struct.Struct("=32xI4x8xIIQQ")
"""fuse_in_header: pid; fuse_ioctl_in: flags, cmd, arg, and both sizes as one number."""
_RESULT = layouts("FUSE_IOCTL")[1].size
_READ, _WRITE = struct.Struct("=6Q"), struct.Struct("=4Q")
"""Vectors: one local range and two remote ones, and one and one."""
_CRYPT = messages.BY_NAME["CRYPT"]
_TYPE, _REPLY_TYPE = _CRYPT.type, _CRYPT.type | messages.REPLY
_HEAD, _REPLY_HEAD = _CRYPT.payload_offset, _CRYPT.reply_offset
_COMMITTED = MARKS - _WRITE.size
"""Vectors of the result, and the mark that names them, in one."""
_commit = struct.Struct(_WRITE.format + MARK.format.lstrip("=")).pack_into
_change = struct.Struct("=I16s").pack_into
_pack_head, _unpack_reply = _CRYPT.prefix.pack_into, _CRYPT.reply_prefix.unpack


class Express:
    """The short way, for one worker."""

    def __init__(self, server: "Server", queue: Queue, watch: Watch) -> None:
        self._channel = server.node.channel
        self._fd = server.node.channel.fd
        self._files = server.files
        self._ledger = server.files.ledger.view
        self._inflight = server.inflight
        self._restricted = server.turns.restricted
        self._queue = queue
        self._view = queue.arena.view
        self._most = min(CHUNK, server.limits.values[BYTES] or CHUNK)
        self._head = bytearray(_HEAD)
        # The kernel copies the structure back, as it has read it.
        self._answer = self._view[_ANSWER:_SIZE]
        address = queue.arena.address
        self._iv, self._dst, self._vectors = address + IV, address + DST, address + SMALL
        self._local, self._remote = address + _COMMITTED, address + _COMMITTED + 16
        self._argument = address + ARGUMENT
        self._direct = server.direct
        self._watch, self._words = watch, server.board.words
        self._counters, self._totals = watch.counters, watch.counters.totals
        self._cmd = _CMD if server.api == "cryptodev" else -1

    def serve(self, size: int) -> bool:
        """Answer the request of ``size`` bytes in the arena; False leaves it to the worker."""
        view, queue, began = self._view, self._queue, clock()
        connection = queue.shared
        if connection is None or self._restricted:
            return False
        arg = 0 if size == _SIZE else self._fetch(size)
        if not arg and size != _SIZE:
            return False
        opcode, unique, pid, fh, flags, cmd, ses, op, how, length, src, dst, iv = (
            _REQUEST.unpack_from(view)
        )
        if cmd != self._cmd or opcode != _OPCODE or how or op > 1 or not (iv and pid):
            return False
        if flags and not arg:
            return False
        file = self._files.get(fh)
        session = file.sessions.get(ses) if file else None
        if session is None or not 0 < length <= self._most:
            return False
        if not session.lock.acquire(blocking=False):
            return False
        # It is 0, too, of a session that has ended meanwhile.
        block = session.short
        if not block or length % block:
            session.lock.release()
            if session.ended:
                session.wipe_if_free()
            return False
        tracing, inflight = self._words[TRACE], self._inflight
        waiting, claimed = inflight.waiting, inflight.claimed
        waiting[unique] = pid
        try:
            iv_size, vectors = session.iv_size, self._vectors
            total = iv_size + length
            _READ.pack_into(view, SMALL, self._iv, total, iv, iv_size, src, length)
            if readv(pid, vectors, 1, vectors + 16, 2, 0) != total:
                return self._leave(unique, began)
            copied = clock() if tracing else 0
            tag = queue.requests = (queue.requests + 1) & 0xFFFFFFFF
            _pack_head(
                self._head, 0, _HEAD + total, _TYPE, 2, 3, tag,
                0, fh, ses, op, 0, iv_size, length, length, 0, 0,
            )  # fmt: skip
            try:
                queue.waiting = True
                write(connection.writing, self._head)
                answer = read(connection.reading, SHORT)
            except OSError:
                return self._leave(unique, began)
            finally:
                queue.waiting = False
            good = _REPLY_HEAD + length, _REPLY_TYPE, 3, 0, tag, 0, length, 0, 0
            if len(answer) != _REPLY_HEAD or _unpack_reply(answer) != good:
                return self._leave(unique, began)
            answered = clock() if tracing else 0
            # As InflightRequest.claim.
            claimed[unique] = pid
            if waiting.pop(unique, None) is None or inflight.closed:
                del claimed[unique]
                self._counters.short_error(began, errno.EINTR)
                return True
            if session.is_cbc:
                # The last block of ciphertext. Cipher.next_iv would say the same 0.7 us later.
                end = IV + total if op else DST + length
                following = bytes(view[end - iv_size : end])
            else:
                following = self._next_iv(session, op, length)
            session.iv, at = following, session.at
            changes = session.changes = session.changes + 1 & 0xFFFFFFFF
            local, remote = self._local, self._remote
            _commit(
                view, _COMMITTED, self._dst, length, dst, length,
                pid, 1, local, remote, WHOLE, at, ses, USED, 0, 0, changes, following, unique,
            )  # fmt: skip
            _change(self._ledger, at + CHANGES, changes, following)
            error = 0
            if writev(pid, local, 1, remote, 1, 0) != length:
                error = errno.EFAULT
            elif arg:
                error = self._put_back(pid, arg)
            if error:
                self._counters.short_error(began, error)
            else:
                if session is not self._counters.session:
                    self._counters.turn(session)
                took, totals = clock() - began, self._totals
                totals[LENGTHS] += length
                totals[OPERATIONS] += 1
                totals[NANOSECONDS] += took
                totals[BUCKETS + took.bit_length()] += 1
            if tracing:
                message = _TYPE, iv_size, length, iv, src, dst
                self._watch.trace_short((began, copied, answered), error, message)
            if error or arg:
                self._channel.reply(unique, error, bytes(_RESULT))
                del claimed[unique]
                return True
            try:
                protocol.IOCTL_DONE.pack_into(view, _ANSWER, _ANSWER_SIZE, 0, unique)
                write(self._fd, self._answer)
            except OSError as failure:
                self._channel.refused(unique, failure)
            del claimed[unique]
            return True
        finally:
            session.lock.release()
            if session.ended:
                session.wipe_if_free()

    def _fetch(self, size: int) -> int:
        """Copy the structure of which a cuse node has only the address; that, or 0 for no."""
        if size != ARGUMENT:
            return 0
        pid, flags, cmd, arg, copied = _BARE.unpack_from(self._view)
        if cmd != self._cmd or flags != IoctlFlag.UNRESTRICTED or copied or not self._direct:
            return 0
        _WRITE.pack_into(self._view, SMALL, self._argument, _ARGUMENT, arg, _ARGUMENT)
        copied = readv(pid, self._vectors, 1, self._vectors + 16, 1, 0) if pid else 0
        return arg if copied == _ARGUMENT else 0

    def _put_back(self, pid: int, arg: int) -> int:
        """Copy the structure to where it came from; 0 or EFAULT."""
        _WRITE.pack_into(self._view, SMALL, self._argument, _ARGUMENT, arg, _ARGUMENT)
        copied = writev(pid, self._vectors, 1, self._vectors + 16, 1, 0)
        return 0 if copied == _ARGUMENT else errno.EFAULT

    def _next_iv(self, session: Session, op: int, length: int) -> bytes:
        view, start = self._view, IV + session.iv_size
        src, dst = view[start : start + length], view[DST : DST + length]
        assert session.cipher
        return session.cipher.next_iv(op, bytes(view[IV:start]), src, dst)

    def _leave(self, unique: int, began: int) -> bool:
        """False: the worker has to answer; True if somebody has done so."""
        answered = not self._inflight.take(unique)
        if answered:
            self._counters.short_error(began, errno.EINTR)
        return answered
