"""CIOCAUTHCRYPT: AEAD, and the TLS and SRTP types. The order of the checks is the driver's.

Unlike CIOCCRYPT, a fault in ``src`` or in a buffer worked on in place is EINVAL.
"""

import errno
from typing import NamedTuple

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.structs import Cop, CopFlag, crypt_auth_op
from cuse_crypto.frontend.arena import REPLY, REQUEST
from cuse_crypto.frontend.crypt import CryptCalls, chained_size
from cuse_crypto.frontend.files import Session
from cuse_crypto.frontend.limits import BYTES
from cuse_crypto.frontend.marshal import SMALL, Call, ranges
from cuse_crypto.frontend.memory import Fault, Piece, Range
from cuse_crypto.wire import messages

AUTH_MAX = 4096
"""Bytes of ``auth_src`` that AEAD and TLS take: a page."""
SRTP_DISTANCE_MAX = 256
LENGTH_MAX = 64 << 20
"""The longest operation, in bytes: it can only be done as a whole."""

_AUTH = messages.BY_NAME["AUTH"]
_IV = REQUEST + _AUTH.payload_offset
_DST = REPLY + _AUTH.reply_offset
_IV_OUT = SMALL


class _Sizes(NamedTuple):
    """Of the readable segments, in bytes, and of the result if it is known before."""

    auth: int
    src: int
    tag: int
    result: int


class AuthCalls(CryptCalls):
    """Authenticated operations of sessions."""

    def CIOCAUTHCRYPT(self, call: Call, op: crypt_auth_op) -> None:
        """Encrypt and authenticate, or verify and decrypt."""
        session = call.file.session(op.ses)
        call.file.account.check(BYTES, op.auth_len + op.len)
        tls = op.flags & CopFlag.AEAD_TLS_TYPE
        srtp = op.flags & CopFlag.AEAD_SRTP_TYPE
        if (tls or srtp) and op.src != op.dst:
            raise OSError(errno.EINVAL, "TLS and SRTP work in place")
        with session:
            self._load_iv(call, op, session)
            cipher = session.cipher
            if op.op not in (Cop.ENCRYPT, Cop.DECRYPT) or cipher is None:
                raise OSError(errno.EINVAL, "no operation, or no cipher")
            # Also where it fails: the IV is loaded, and the hash starts afresh (driver).
            session.iv = bytes(self._view[_IV : _IV + session.iv_size])
            session.hashing = session.doubtful = False
            if srtp:
                self._srtp(call, op, session, cipher)
            elif tls and not cipher.is_aead:
                self._tls(call, op, session, cipher)
            elif cipher.is_aead:
                self._aead(call, op, session, cipher)
            else:
                raise OSError(errno.EINVAL, "no AEAD")

    def _load_iv(self, call: Call, op: crypt_auth_op, session: Session) -> None:
        size = session.iv_size
        if op.iv and size:
            call.memory.copy_from_user([Range(op.iv, size)], _IV)
        else:
            self._view[_IV : _IV + size] = session.iv

    def _aead(self, call: Call, op: crypt_auth_op, session: Session, cipher: Cipher) -> None:
        tag_size = op.tag_len or session.tag_size
        encrypts = op.op == Cop.ENCRYPT
        if op.auth_len > AUTH_MAX:
            raise OSError(errno.EINVAL, "no length")
        if op.len and not op.src:
            raise OSError(errno.EFAULT, "no source")
        allowed = tag_size <= session.tag_size and tag_size in cipher.tag_sizes
        result = op.len + tag_size if encrypts else op.len - tag_size
        sizes = _Sizes(op.auth_len, op.len, 0, result if allowed and result > 0 else 0)
        self._read(call, op, session, sizes, tag_size)
        if not allowed:
            raise OSError(errno.EINVAL, "no length of a tag")
        session.tag_size = tag_size
        if result < 0:
            raise OSError(errno.EINVAL, "no length")
        reply = self._auth(call, op, session, 0, tag_size, sizes)
        if len(reply.segments[0]) != result:
            raise OSError(errno.EIO, f"{len(reply.segments[0])} bytes from the back end")
        tag = op.dst + (op.len if encrypts else result)
        self._finish(call, op, session, cipher, result, tag_size, tag)

    def _tls(self, call: Call, op: crypt_auth_op, session: Session, cipher: Cipher) -> None:
        tag_size = self._mac_size(op, session)
        encrypts = op.op == Cop.ENCRYPT
        if op.auth_len > AUTH_MAX:
            raise OSError(errno.EINVAL, "no length")
        padding = 0
        if encrypts and cipher.block_size > 1:
            padding = cipher.block_size - (op.len + tag_size) % cipher.block_size
        room = op.len + (tag_size + padding if encrypts else 0)
        sizes = _Sizes(op.auth_len, op.len, 0, room)
        wrong = not op.src or not (encrypts or (op.len and not op.len % cipher.block_size))
        self._read(call, op, session, _Sizes(op.auth_len, 0, 0, 0) if wrong else sizes, tag_size)
        if wrong:
            raise OSError(errno.EINVAL, "no source, or no length of a record")
        reply = self._auth(call, op, session, CopFlag.AEAD_TLS_TYPE, tag_size, sizes)
        length, following = len(reply.segments[0]), bytes(reply.segments[2])
        # What follows the plaintext stays as it was.
        src = _IV + session.iv_size + op.auth_len
        self._view[_DST + length : _DST + room] = self._view[src + length : src + room]
        self._finish(call, op, session, cipher, room, tag_size, op.tag, length, iv=following)

    def _srtp(self, call: Call, op: crypt_auth_op, session: Session, cipher: Cipher) -> None:
        tag_size = self._mac_size(op, session)
        offset = op.src - op.auth_src
        if cipher.is_aead or not cipher.is_stream or not 0 <= offset <= SRTP_DISTANCE_MAX:
            raise OSError(errno.EINVAL, "no stream cipher, or not inside what is authenticated")
        encrypts = op.op == Cop.ENCRYPT
        # Bytes that are there, and one at least behind the header, even for an empty payload.
        room = op.len + (op.tag_len or tag_size if encrypts else 0)
        if not op.auth_src or not room or op.auth_len < offset + max(op.len, 1):
            raise OSError(errno.EINVAL, "nothing to authenticate")
        if not encrypts and tag_size > op.len:
            raise OSError(errno.EINVAL, "tag longer than the payload")
        sizes = _Sizes(op.auth_len, op.len, 0 if encrypts else tag_size, op.len)
        self._read(call, op, session, sizes, tag_size)
        reply = self._auth(call, op, session, CopFlag.AEAD_SRTP_TYPE, tag_size, sizes, offset)
        made = reply.segments[1]
        if (len(reply.segments[0]), len(made)) != (op.len, tag_size if encrypts else 0):
            raise OSError(errno.EIO, f"{len(reply.segments[0])}+{len(made)} bytes")
        extra = [Piece(op.tag, _DST + op.len, len(made))] if len(made) else []
        self._finish(call, op, session, cipher, op.len, tag_size, op.tag, extra=extra)

    def _mac_size(self, op: crypt_auth_op, session: Session) -> int:
        """The size of the tag, of a mac that is apart."""
        digest_size = session.mac.digest_size if session.mac else 0
        if op.tag_len > digest_size and session.mac:
            raise OSError(errno.EINVAL, "tag longer than the digest")
        return min(op.tag_len or digest_size, digest_size)

    def _read(
        self, call: Call, op: crypt_auth_op, session: Session, sizes: _Sizes, tag_size: int
    ) -> None:
        """Put what is authenticated, the source and the tag behind the IV."""
        _check_length(session, sizes)
        at = _IV + session.iv_size
        srtp = op.flags & CopFlag.AEAD_SRTP_TYPE
        steps = [
            (Range(op.auth_src, sizes.auth), at, errno.EINVAL if srtp else errno.EFAULT),
            (Range(op.src, sizes.src), at + sizes.auth, errno.EINVAL),
        ]
        if session.cipher and session.cipher.is_aead:
            steps.reverse()
        steps.append((Range(op.tag, sizes.tag), at + sizes.auth + sizes.src, errno.EFAULT))
        # Also where there is nothing to read: what will be written is announced by the last one.
        steps = [step for step in steps if step[0].length] or steps[:1]
        outputs = ranges(self._outputs(call, op, session, sizes, tag_size))
        for step in steps:
            item, offset, error = step
            with _fault_is(error):
                writable = outputs if step is steps[-1] else []
                call.memory.copy_from_user([item] if item.length else [], offset, writable)

    def _outputs(
        self, call: Call, op: crypt_auth_op, session: Session, sizes: _Sizes, tag_size: int
    ) -> list[Piece]:
        """What is written, in the driver's order."""
        pieces = [Piece(op.dst, _DST, sizes.result)] if sizes.result else []
        if op.flags & CopFlag.AEAD_SRTP_TYPE and op.op == Cop.ENCRYPT and tag_size:
            pieces.append(Piece(op.tag, 0, tag_size))
        if op.flags & CopFlag.WRITE_IV and op.iv and session.iv_size:
            pieces.append(Piece(op.iv, 0, session.iv_size))
        return [*pieces, call.structure]

    def _auth(
        self,
        call: Call,
        op: crypt_auth_op,
        session: Session,
        kind: int,
        tag_size: int,
        sizes: _Sizes,
        offset: int = 0,
    ) -> messages.Reply:
        body = messages.Auth(call.file.fh, session.ses, op.op, kind, tag_size, offset)
        readable = session.iv_size, sizes.auth, sizes.src, sizes.tag
        chained = chained_size(session, sizes.result)
        writable = sizes.result, tag_size if kind == CopFlag.AEAD_SRTP_TYPE else 0, chained
        try:
            reply = self._exchange(call.file, session, _AUTH, body, readable, writable)
            if len(reply.segments[2]) != chained:
                raise OSError(errno.EIO, "no chaining value from the back end")
            return reply
        except OSError as failure:
            if failure.errno == errno.EBADMSG and op.src == op.dst:
                # That it could not be written to is said first: it is given what it holds.
                src = Piece(op.dst, _IV + session.iv_size + sizes.auth, sizes.src)
                with _fault_is(errno.EINVAL):
                    call.claim()
                    call.memory.copy_to_user([src])
            raise

    def _finish(
        self,
        call: Call,
        op: crypt_auth_op,
        session: Session,
        cipher: Cipher,
        written: int,
        tag_size: int,
        tag: int,
        length: int | None = None,
        extra: list[Piece] | None = None,
        iv: bytes = b"",
    ) -> None:
        """Write ``written`` bytes of the result and what goes with it; ``length`` is told."""
        call.claim()
        length = written if length is None else length
        session.iv = iv or self._iv_after(op, session, cipher, written)
        pieces = [Piece(op.dst, _DST, written)] if written else []
        pieces += extra or []
        if op.flags & CopFlag.WRITE_IV and op.iv and session.iv_size:
            pieces.append(self._put(op.iv, session.iv, _IV_OUT))
        for member, value in (("len", length), ("tag_len", op.tag_len or tag_size), ("tag", tag)):
            call.store(self._view, member, value)
        try:
            call.memory.commit([*pieces, call.structure], session)
        except Fault as fault:
            if op.src == op.dst and op.src and fault.copied < written:
                # The driver sees that before it begins.
                session.iv = bytes(self._view[_IV : _IV + session.iv_size])
                raise OSError(errno.EINVAL, "a buffer that cannot be written") from fault
            raise

    def _iv_after(self, op: crypt_auth_op, session: Session, cipher: Cipher, written: int) -> bytes:
        iv = bytes(self._view[_IV : _IV + session.iv_size])
        if cipher.is_aead:
            src = self._view[_DST : _DST + op.len]
            return cipher.next_iv(op.op, iv, src, src)
        src_at = _IV + session.iv_size + op.auth_len
        if op.op == Cop.ENCRYPT:
            ciphertext = self._view[_DST : _DST + written]
        else:
            ciphertext = self._view[src_at : src_at + op.len]
        return cipher.next_iv(op.op, iv, ciphertext, ciphertext) if len(ciphertext) else iv


def _check_length(session: Session, sizes: _Sizes) -> None:
    """OSError(ENOMEM) for what cannot be done as a whole."""
    if session.iv_size + sizes.auth + sizes.src + sizes.tag > LENGTH_MAX:
        raise OSError(errno.ENOMEM, "too long to be done as a whole")


class _fault_is:
    """Within it a fault of the caller's memory is another errno."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno == errno.EFAULT:
            raise OSError(self._number, "bad address") from error
