"""CIOCAUTHCRYPT: AEAD, and the TLS and SRTP types. The order of the checks is the driver's.

Unlike CIOCCRYPT, a fault in ``src`` or in a buffer worked on in place is EINVAL.
"""

import errno
from typing import NamedTuple

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.structs import Cop, CopFlag, crypt_auth_op
from cuse_crypto.frontend.arena import REPLY, REQUEST
from cuse_crypto.frontend.crypt import CryptCalls, Hashing
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
        if tag_size > session.tag_size or tag_size not in cipher.tag_sizes:
            raise OSError(errno.EINVAL, "no length of a tag")
        session.tag_size = tag_size
        encrypts = op.op == Cop.ENCRYPT
        if op.auth_len > AUTH_MAX or (not encrypts and op.len < tag_size):
            raise OSError(errno.EINVAL, "no length")
        result = op.len + tag_size if encrypts else op.len - tag_size
        sizes = _Sizes(op.auth_len, op.len, 0, result)
        if op.len and not op.src:
            raise OSError(errno.EFAULT, "no source")
        self._read(call, op, session, sizes, tag_size)
        reply = self._auth(call, op, session, 0, tag_size, sizes)
        if len(reply.segments[0]) != result:
            raise OSError(errno.EIO, f"{len(reply.segments[0])} bytes from the back end")
        tag = op.dst + (op.len if encrypts else result)
        self._finish(call, op, session, cipher, result, tag_size, tag)

    def _tls(self, call: Call, op: crypt_auth_op, session: Session, cipher: Cipher) -> None:
        tag_size = self._mac_size(op, session)
        encrypts = op.op == Cop.ENCRYPT
        if op.auth_len > AUTH_MAX or (not encrypts and op.len % cipher.block_size):
            raise OSError(errno.EINVAL, "no length")
        padding = 0
        if encrypts and cipher.block_size > 1:
            padding = cipher.block_size - (op.len + tag_size) % cipher.block_size
        room = op.len + (tag_size + padding if encrypts else 0)
        sizes = _Sizes(op.auth_len, op.len, 0, room)
        if not op.src:
            raise OSError(errno.EINVAL, "no source")
        _check_length(session, sizes)
        following = self._key_stream_after(call, session, cipher, room)
        self._read(call, op, session, sizes, tag_size)
        reply = self._auth(call, op, session, CopFlag.AEAD_TLS_TYPE, tag_size, sizes)
        length = len(reply.segments[0])
        # What follows the plaintext stays as it was.
        src = _IV + session.iv_size + op.auth_len
        self._view[_DST + length : _DST + room] = self._view[src + length : src + room]
        self._finish(call, op, session, cipher, room, tag_size, op.tag, length, iv=following)

    def _key_stream_after(self, call: Call, session: Session, cipher: Cipher, length: int) -> bytes:
        """The last block of OFB's key stream, which a record does not show; else b""."""
        if cipher.mode != "ofb" or not length:
            return b""
        iv = bytes(self._view[_IV : _IV + session.iv_size])
        size = length + -length % session.iv_size
        self._load(iv + bytes(size))
        stream, _ = self._crypt_part(call, session, Cop.ENCRYPT, size, Hashing(False, False))
        following = bytes(stream[-session.iv_size :])
        self._put(0, iv, _IV)
        return following

    def _srtp(self, call: Call, op: crypt_auth_op, session: Session, cipher: Cipher) -> None:
        tag_size = self._mac_size(op, session)
        offset = op.src - op.auth_src
        if cipher.is_aead or not cipher.is_stream or not 0 <= offset <= SRTP_DISTANCE_MAX:
            raise OSError(errno.EINVAL, "no stream cipher, or not inside what is authenticated")
        encrypts = op.op == Cop.ENCRYPT
        if not op.auth_src or not op.auth_len or op.auth_len < offset + op.len:
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
        memory, at = call.memory, _IV + session.iv_size
        srtp = op.flags & CopFlag.AEAD_SRTP_TYPE
        if sizes.auth:
            with _fault_is(errno.EINVAL if srtp else errno.EFAULT):
                memory.copy_from_user([Range(op.auth_src, sizes.auth)], at)
        at += sizes.auth
        with _fault_is(errno.EINVAL):
            # Also where there is nothing to read: what will be written is announced by it.
            outputs = ranges(self._outputs(call, op, session, sizes, tag_size))
            last = [] if sizes.tag else outputs
            memory.copy_from_user([Range(op.src, sizes.src)] if sizes.src else [], at, last)
        if sizes.tag:
            memory.copy_from_user([Range(op.tag, sizes.tag)], at + sizes.src, outputs)

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
        writable = sizes.result, tag_size if kind == CopFlag.AEAD_SRTP_TYPE else 0
        try:
            return self._exchange(call.file, session, _AUTH, body, readable, writable)
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
        for member, value in (("len", length), ("tag_len", tag_size), ("tag", tag)):
            call.store(self._view, member, value)
        try:
            call.memory.commit([*pieces, call.structure], session)
        except Fault as fault:
            if op.src == op.dst and op.src and fault.copied < written:
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
