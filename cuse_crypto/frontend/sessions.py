"""CIOCGSESSION, CIOCFSESSION, CIOCGSESSINFO, CIOCCPHASH and CIOCASYMFEAT.

The order of the checks is the driver's, since programs can tell.
"""

import errno
import struct

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.abi.structs import (
    CRYPTO_CIPHER_MAX_KEY_LEN,
    CRYPTO_HMAC_MAX_KEY_LEN,
    CRYPTODEV_MAX_ALG_NAME,
    cphash_op,
    number,
    session_info_op,
    session_op,
)
from cuse_crypto.frontend.files import Session, wipe
from cuse_crypto.frontend.limits import SESSIONS
from cuse_crypto.frontend.marshal import SMALL, Call, Marshal, StateLost, checked
from cuse_crypto.frontend.memory import Range, RetriedMemory
from cuse_crypto.frontend.queue import NotRepeated
from cuse_crypto.wire import messages

_KEY = SMALL
"""Where a key is copied to; it is wiped there."""
_NO_KEY = bytearray()
"""Of all sessions without one: they are many."""
_RTA_LENGTH, _AUTHENC_KEYA_PARAM = 8, 1
_NAME_MAX = CRYPTODEV_MAX_ALG_NAME - 1


class SessionCalls(Marshal):
    """Sessions come, are looked at, and go."""

    def CIOCGSESSION(self, call: Call, op: session_op) -> None:
        """Make a session and tell its number."""
        secrets: list[bytearray] = []
        try:
            session = self._new(call, op, secrets)
        finally:
            wipe(*secrets)
        account = call.file.account
        try:
            account.take(SESSIONS)
        except OSError:
            session.end()
            raise
        call.file.add(session)
        try:
            self._tell(call.file, session)
            call.claim()
            call.store(self._view, "ses", session.ses)
            call.memory.commit([call.structure], session)
        except BaseException:
            self._end(call.file, session.ses)
            raise

    def _new(self, call: Call, op: session_op, secrets: list[bytearray]) -> Session:
        """``secrets`` takes what has been copied of the caller's keys."""
        if not op.cipher and not op.mac:
            raise OSError(errno.EINVAL, "neither cipher nor mac")
        cipher, mac = CIPHERS.get(op.cipher), MACS.get(op.mac)
        if (op.cipher and cipher is None) or (op.mac and mac is None):
            raise OSError(errno.EINVAL, "no such algorithm")
        if cipher and cipher.is_aead:
            key, mac, mac_key = self._aead_key(call, op, cipher, secrets), None, _NO_KEY
        else:
            key = self._cipher_key(call, op, cipher, secrets)
            mac_key = self._mac_key(call, op, mac, secrets)
        call.memory.copy_from_user([], _KEY, writable=[Range(call.arg, call.layout.size)])
        self._queue.connect()
        if not {row.id for row in (cipher, mac) if row} <= self._queue.algorithms:
            raise OSError(errno.EINVAL, "the engine has it not")
        return call.file.new_session(cipher, mac, key, mac_key)

    def _cipher_key(
        self, call: Call, op: session_op, cipher: Cipher | None, secrets: list[bytearray]
    ) -> bytearray:
        if cipher is None:
            return _NO_KEY
        if op.keylen > CRYPTO_CIPHER_MAX_KEY_LEN:
            raise OSError(errno.EINVAL, "key too long")
        key = self._secret(call, op.key, op.keylen, secrets)
        if op.keylen not in cipher.key_sizes:
            raise OSError(errno.EINVAL, "no length of a key")
        return key

    def _mac_key(
        self, call: Call, op: session_op, mac: Mac | None, secrets: list[bytearray]
    ) -> bytearray:
        """A hash without a key has one copied, all the same, where there is one."""
        if mac is None:
            return _NO_KEY
        if op.mackeylen > CRYPTO_HMAC_MAX_KEY_LEN:
            raise OSError(errno.EINVAL, "key of the mac too long")
        key = bytearray()
        if op.mackey or mac.is_keyed:
            key = self._secret(call, op.mackey, op.mackeylen, secrets)
        if not mac.is_keyed:
            wipe(key)
            return _NO_KEY
        return key

    def _aead_key(
        self, call: Call, op: session_op, cipher: Cipher, secrets: list[bytearray]
    ) -> bytearray:
        """With a key of a mac the driver packs both into one, as the kernel's authenc has them."""
        if op.keylen > CRYPTO_CIPHER_MAX_KEY_LEN or op.mackeylen > CRYPTO_HMAC_MAX_KEY_LEN:
            raise OSError(errno.EINVAL, "key too long")
        if not op.mackeylen:
            key = self._secret(call, op.key, op.keylen, secrets)
        else:
            head = struct.pack("=HH", _RTA_LENGTH, _AUTHENC_KEYA_PARAM)
            head += op.keylen.to_bytes(4, "big")
            # Of its size from the beginning: to grow might leave a copy behind.
            key = bytearray(len(head) + op.mackeylen + op.keylen)
            secrets.append(key)
            end = len(head) + op.mackeylen
            key[: len(head)] = head
            key[len(head) : end] = mac_key = self._secret(call, op.mackey, op.mackeylen, secrets)
            key[end:] = own = self._secret(call, op.key, op.keylen, secrets)
            wipe(mac_key, own)
        if len(key) not in cipher.key_sizes:
            raise OSError(errno.EINVAL, "no length of a key")
        return key

    def _secret(self, call: Call, address: int, length: int, secrets: list[bytearray]) -> bytearray:
        if not length:
            return _NO_KEY
        call.memory.copy_from_user([Range(address, length)], _KEY)
        secret = bytearray(self._view[_KEY : _KEY + length])
        secrets.append(secret)
        wipe(self._view[_KEY : _KEY + length])
        if isinstance(call.memory, RetriedMemory):
            call.memory.forget(length)
        return secret

    def CIOCFSESSION(self, call: Call, op: number) -> None:
        """End a session. Unknown numbers are no error, as in the driver."""
        if op.value in call.file.sessions:
            self._end(call.file, op.value)

    def CIOCGSESSINFO(self, call: Call, op: session_info_op) -> None:
        """Name what computes a session. What it has not is left as the caller had it."""
        session = call.file.session(op.ses)
        call.memory.copy_from_user([], SMALL, writable=[Range(call.arg, call.layout.size)])
        body = messages.Session(call.file.fh, session.ses)
        described = self._control(call.file, session, "DESCRIBE", body, (_NAME_MAX, _NAME_MAX))
        cipher_driver, hash_driver = map(bytes, described.segments)
        names: dict[str, bytes] = {}
        if session.cipher:
            names["cipher_name"] = session.cipher.kernel_name.encode()
            names["cipher_driver"] = cipher_driver
        if session.mac:
            names["hash_name"] = session.mac.kernel_name.encode()
            names["hash_driver"] = hash_driver
        call.claim()
        for member, name in names.items():
            call.store(self._view, member, name + b"\0")
        call.store(self._view, "alignmask", 0)
        call.store(self._view, "flags", 0)
        call.memory.copy_to_user([call.structure])

    def CIOCCPHASH(self, call: Call, op: cphash_op) -> None:
        """A session takes over what another one has hashed so far."""
        if op.dst_ses == op.src_ses:
            raise OSError(errno.EDEADLK, "a session cannot be copied to itself")
        source = call.file.session(op.src_ses, unknown=errno.ENOENT)
        target = call.file.session(op.dst_ses, unknown=errno.ENOENT)
        if not (source.mac and target.mac):
            raise OSError(errno.EINVAL, "not two hashes")
        # In the order of their numbers, so that two copies cannot wait for each other.
        first, second = sorted((source, target), key=lambda session: session.ses)
        with first, second:
            if source.doubtful:
                source.doubtful = source.hashing = False
                raise StateLost
            call.claim()
            target.hashing = target.doubtful = False
            if source.hashing:
                self._copy_hash(call, source, target)

    def _copy_hash(self, call: Call, source: Session, target: Session) -> None:
        target.hash_begins()
        body = messages.CopyHash(call.file.fh, target.ses, source.ses)
        try:
            reply = self._queue.control("COPY_HASH", body, place=source.place)
            if reply.status == messages.NO_SUCH_HANDLE:
                # It may be the target, of which a new back end has not heard yet.
                self._tell(call.file, target)
                reply = self._queue.control("COPY_HASH", body, place=source.place)
        except NotRepeated as error:
            source.hashing = False
            raise StateLost from error
        if reply.status == messages.NO_SUCH_HANDLE:
            source.hashing = False
            raise StateLost
        checked(reply)
        target.hashing, target.place = True, source.place
        target.save()

    def CIOCASYMFEAT(self, call: Call, op: number) -> None:
        """No asymmetric operations."""
        call.memory.copy_from_user([], SMALL, writable=[Range(call.arg, call.layout.size)])
        call.claim()
        call.memory.copy_to_user([self._put(call.arg, bytes(4))])
