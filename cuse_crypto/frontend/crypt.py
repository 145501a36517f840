"""CIOCCRYPT: ciphers, hashes, and both in one.

A long operation goes to the back end in parts, each with the chaining value that the one
before has left, so that neither side ever holds more, whatever the length.
"""

import contextlib
import errno
import mmap
from typing import NamedTuple

from cuse_crypto.abi.structs import Cop, CopFlag, crypt_op
from cuse_crypto.frontend.arena import REPLY, REQUEST
from cuse_crypto.frontend.files import Session
from cuse_crypto.frontend.limits import BYTES
from cuse_crypto.frontend.marks import LOST
from cuse_crypto.frontend.marshal import SMALL, Call, Marshal, StateLost, ranges
from cuse_crypto.frontend.memory import Fault, Piece, Range
from cuse_crypto.frontend.queue import ATTEMPTS
from cuse_crypto.wire import messages

CHUNK = 1 << 20
"""The largest operation that is one message, in bytes."""
PART = 128 * 1024
"""So large are the parts of longer ones: others on the same CPU may wait for one of them."""
UNIT_MAX = 64 << 20
"""The largest operation that can only be done as a whole (XTS, overlapping buffers), in bytes."""

_CRYPT = messages.BY_NAME["CRYPT"]
IV = REQUEST + _CRYPT.payload_offset
"""Where the IV lies in the arena, and behind it the source."""
DST = REPLY + _CRYPT.reply_offset
"""Where the result lies."""
_IV_OUT, _DIGEST_OUT = SMALL, SMALL + 64
_START, _FINISH = 1, 2
"""Flags of the message: what happens to the hash before and after."""


class Hashing(NamedTuple):
    """What an operation is to do with its session's hash."""

    start: bool
    finish: bool


class Plan(NamedTuple):
    """What an operation comes to, before any memory is read."""

    unknown: bool
    """``op`` is none."""
    wrong: bool
    """It is EINVAL, once the IV has been read."""
    hashing: Hashing
    source: int
    """The caller's address of what is encrypted or hashed."""
    held: list[Range]
    """Ends of a buffer that is only there, and must be there."""
    first: int
    """Bytes of the first part."""


class Part(NamedTuple):
    """What the back end gives: ``dst``, which lies at DST, digest, and OFB's chaining value."""

    dst: memoryview
    digest: bytes
    next_iv: bytes


class Result(NamedTuple):
    """What an operation leaves: the last part of ``dst``, digest and chaining value."""

    dst: list[Piece]
    digest: bytes
    iv: bytes


class CryptCalls(Marshal):
    """Operations of sessions."""

    def CIOCCRYPT(self, call: Call, op: crypt_op) -> None:
        """Encrypt, decrypt or hash ``len`` bytes."""
        session = call.file.session(op.ses)
        with session:
            result = self._operate(call, op, session, [call.structure])
            pieces = result.dst
            if result.digest:
                pieces.append(self._put(op.mac, result.digest, _DIGEST_OUT))
            if writes_iv(op, session):
                pieces.append(self._put(op.iv, result.iv, _IV_OUT))
            pieces.append(call.structure)
            call.memory.commit(pieces, session)

    def _operate(self, call: Call, op: crypt_op, session: Session, extra: list[Piece]) -> Result:
        """Do ``op`` but for writing what the Result holds; the session is locked.

        ``extra`` is what the caller of this writes besides ``dst``, digest and IV.
        """
        call.file.account.check(BYTES, op.len)
        if call.done:
            op = _rest(op, call.done)
        _check_hash(op, session)
        plan = _plan(op, session)
        cipher, iv_size = session.cipher, session.iv_size
        overlap = None
        if 0 < plan.first < op.len and cipher and op.src < op.dst < op.src + op.len:
            overlap = self._read_ahead(call, op)
        self._gather(call, op, session, plan, extra)
        if cipher and cipher.is_aead and op.len:
            session.iv = bytes(self._view[IV : IV + iv_size])
            number = errno.EINVAL if op.op == Cop.ENCRYPT else errno.EBADMSG
            raise OSError(number, "an AEAD is for CIOCAUTHCRYPT")
        if not op.len and not session.mac:
            call.claim()
            session.iv = bytes(self._view[IV : IV + iv_size])
            return Result([], b"", session.iv)
        if plan.first < op.len and cipher and cipher.mode == "xts":
            raise OSError(errno.ENOMEM, "too long for a data unit")
        whole = plan.hashing.start and plan.hashing.finish
        if cipher or not whole or plan.first == op.len:
            return self._in_parts(call, op, session, plan, overlap)
        # A hash in parts writes nothing before its end: lost on the way, it is made anew.
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(StateLost):
                return self._in_parts(call, op, session, plan, overlap)
            self._gather(call, op, session, plan, extra)
        return self._in_parts(call, op, session, plan, overlap)

    def _gather(
        self, call: Call, op: crypt_op, session: Session, plan: Plan, extra: list[Piece]
    ) -> None:
        """Put IV and first part of the source into the arena, with the driver's checks between."""
        memory, iv_size = call.memory, session.iv_size
        given = bool(op.iv and iv_size and not call.done)
        at = IV if given else IV + iv_size
        wanted = [Range(op.iv, iv_size)] if given else []
        if session.mac and not plan.unknown:
            # The hash starts between the two: after a fault in the IV it has not, after one in
            # the source it has.
            memory.copy_from_user(wanted, at)
            wanted, at = [], IV + iv_size
            session.hashing &= not plan.hashing.start
        if plan.held:
            memory.copy_from_user(plan.held, SMALL)
        if plan.first:
            wanted.append(Range(plan.source, plan.first))
        writable: list[Range] = []
        if memory.announces and not plan.wrong:
            writable = ranges(_outputs(op, session, plan.hashing)) + ranges(extra)
        try:
            memory.copy_from_user(wanted, at, writable)
        except Fault:
            if given and not plan.wrong:
                # The driver has loaded the IV before it looks for the source.
                memory.copy_from_user([Range(op.iv, iv_size)], IV)
                session.iv = bytes(self._view[IV : IV + iv_size])
            raise
        if plan.wrong:
            raise OSError(errno.EINVAL, "no operation, or an odd length")
        if not given:
            self._view[IV : IV + iv_size] = call.iv[:iv_size] if call.done else session.iv

    def _in_parts(
        self,
        call: Call,
        op: crypt_op,
        session: Session,
        plan: Plan,
        overlap: mmap.mmap | None,
    ) -> Result:
        """The operation part by part; IV and first part are in the arena already."""
        hashing, length = plan.hashing, plan.first
        iv_size, cipher = session.iv_size, session.cipher
        src_at = IV + iv_size
        several = bool(session.mac) and not (hashing.start and hashing.finish)
        if several:
            session.hash_begins()
        done = 0
        while True:
            start = hashing.start and not done
            finish = hashing.finish and done + length == op.len
            iv = bytes(self._view[IV:src_at])
            part = self._crypt_part(call, session, op.op, length, Hashing(start, finish))
            self._claim(call, session, several)
            if cipher and length:
                src = self._view[src_at : src_at + length]
                session.iv = part.next_iv or cipher.next_iv(op.op, iv, src, part.dst)
            elif cipher:
                session.iv = iv
            done += length
            written = [Piece(op.dst + done - length, DST, length)] if cipher and length else []
            if done == op.len:
                return Result(written, part.digest, session.iv)
            self._write_part(call, op, session, written, done if overlap is None else LOST)
            self._queue.before_long()
            length = min(op.len - done, PART)
            self._view[IV:src_at] = session.iv
            if overlap is None:
                call.memory.copy_from_user([Range(plan.source + done, length)], src_at)
            else:
                self._view[src_at : src_at + length] = overlap[done : done + length]

    def _write_part(
        self, call: Call, op: crypt_op, session: Session, written: list[Piece], done: int
    ) -> None:
        """``done``: bytes of ``op``, or LOST if only this process knows the rest of its source."""
        if session.mac and written and abs(op.src - op.dst) >= op.len:
            # A successor begins anew: it has no hash to go on with, but all of the source.
            call.memory.copy_to_user(written)
        elif written:
            goes_on = done != LOST and not session.mac
            call.memory.commit(written, session, call.done + done if goes_on else LOST)

    def _crypt_part(
        self, call: Call, session: Session, op: int, length: int, hashing: Hashing
    ) -> Part:
        """Have the back end compute on what lies at IV."""
        cipher, mac = session.cipher, session.mac
        flags = _START * hashing.start | _FINISH * hashing.finish if mac else 0
        body = messages.Crypt(call.file.fh, session.ses, op, flags)
        size = length if cipher else 0
        digest_size = mac.digest_size if mac and hashing.finish else 0
        sizes = size, digest_size, chained_size(session, size)
        repeatable = not mac or hashing.start
        reply = self._exchange(
            call.file,
            session,
            _CRYPT,
            body,
            (session.iv_size, length),
            sizes,
            repeatable,
        )
        session.hashing = bool(mac) and not hashing.finish
        session.place = self._queue.place
        if tuple(map(len, reply.segments)) != sizes:
            raise OSError(errno.EIO, f"not {sizes} bytes from the back end")
        dst, digest, next_iv = reply.segments
        return Part(dst, bytes(digest), bytes(next_iv))

    def _claim(self, call: Call, session: Session, several: bool) -> None:
        try:
            call.claim()
        except BaseException:
            session.doubtful = several
            raise

    def _read_ahead(self, call: Call, op: crypt_op) -> mmap.mmap:
        """All of ``src``, where writing an early part of ``dst`` would overwrite a later part."""
        if op.len > UNIT_MAX:
            raise OSError(errno.ENOMEM, "too long to be copied first")
        copy = mmap.mmap(-1, op.len)
        for start in range(0, op.len, CHUNK):
            length = min(op.len - start, CHUNK)
            call.memory.copy_from_user([Range(op.src + start, length)], IV)
            copy[start : start + length] = self._view[IV : IV + length]
        return copy


def _plan(op: crypt_op, session: Session) -> Plan:
    cipher = session.cipher
    unknown = op.op not in (Cop.ENCRYPT, Cop.DECRYPT)
    wrong = unknown or bool(cipher and op.len % cipher.block_size)
    chunk = UNIT_MAX if cipher and cipher.mode == "xts" else CHUNK
    first = op.len if op.len <= chunk else PART
    if wrong or (cipher and cipher.is_aead):
        first = 0
    source, held = op.src, []
    if cipher is None and first and not op.flags & CopFlag.NO_ZC:
        # Without a copy, a hash alone is over src when it encrypts and over dst when it decrypts,
        # and the driver takes hold of the other one as well.
        other = op.dst
        if op.op == Cop.DECRYPT:
            source, other = op.dst, op.src or 1
        held = [Range(other, 1), Range(other + op.len - 1, 1)] if other else []
    return Plan(unknown, wrong, _hashing(op, session), source, held, first)


def _rest(op: crypt_op, done: int) -> crypt_op:
    """What a predecessor has left of ``op``; StateLost where nobody can go on with it."""
    if done == LOST:
        raise StateLost
    return op._replace(src=op.src + done, dst=op.dst + done, len=op.len - done)


def chained_size(session: Session, length: int) -> int:
    """Bytes of the chaining value that only the back end can tell: of OFB, whose last block of key
    stream a result may show a part of.
    """
    return session.iv_size if length and session.is_ofb else 0


def writes_iv(op: crypt_op, session: Session) -> bool:
    """Whether the caller wants the chaining value."""
    return bool(op.flags & CopFlag.WRITE_IV and op.iv and session.iv_size)


def _check_hash(op: crypt_op, session: Session) -> None:
    """StateLost, once, for going on where nobody knows what has been hashed."""
    if session.doubtful:
        session.doubtful = session.hashing = False
        if op.flags & (CopFlag.UPDATE | CopFlag.FINAL) and not op.flags & CopFlag.RESET:
            raise StateLost


def _hashing(op: crypt_op, session: Session) -> Hashing:
    """An empty update is the end, as in the driver; without UPDATE and FINAL it is all in one."""
    several = op.flags & (CopFlag.UPDATE | CopFlag.FINAL)
    start = not several or op.flags & CopFlag.RESET or not session.hashing
    finish = not op.flags & CopFlag.UPDATE or op.flags & CopFlag.FINAL or not op.len
    return Hashing(bool(start), bool(finish))


def _outputs(op: crypt_op, session: Session, hashing: Hashing) -> list[Piece]:
    """What a whole operation writes, in the driver's order: dst, mac, iv."""
    pieces = []
    if session.cipher and op.len:
        pieces.append(Piece(op.dst, 0, op.len))
    if session.mac and hashing.finish:
        pieces.append(Piece(op.mac, 0, session.mac.digest_size))
    if writes_iv(op, session):
        pieces.append(Piece(op.iv, 0, session.iv_size))
    return pieces
