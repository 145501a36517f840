"""The cryptodev API as a model: what each ioctl answers and changes, in plain Python.

Written from the record of the real driver (cryptodev-linux 1.14) and its source, not from the front
end: nothing of the project is imported, for this is the reference that the node is compared with.
Where the project answers otherwise than the driver on purpose (docs/node.md, "How it differs from
the driver's"), the line says DEVIATION and its key in the table here.
"""

import re
from errno import EBADMSG, EBUSY, EDEADLK, EFAULT, EINVAL, ENOENT, ENOMEM
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag

from tests.differential.abi import (
    AUTH_LEN_AT,
    AUTH_TAG_AT,
    AUTH_TAG_LEN_AT,
    FINAL,
    FORMS,
    NO_ZC,
    RESET,
    SES_AT,
    SRTP,
    TLS,
    UPDATE,
    WRITE_IV,
    Auth,
    Crypt,
    Memory,
    Refused,
    Write,
)
from tests.differential.primitives import (
    CIPHERS,
    MACS,
    TAGS,
    Algorithm,
    Mac,
    composite_key,
    open_aead,
    seal_aead,
)
from tests.differential.state import OpenFile, Session

DEVIATIONS = {
    "pointer": "a NULL or bad pointer that crashes the driver is EFAULT (EINVAL where in place)",
    "combination": "a combination that crashes the driver, or makes no sense, is EINVAL",
    "tag": "a tag_len over the digest is EINVAL",
    "untouched": "what fails a check leaves the caller's buffers, and the IV as it was given",
    "padding": "wrong padding of a record without a mac is EBADMSG",
    "behind": "what lies behind the plaintext of an opened record stays as it was",
    "fresh": "without UPDATE and FINAL, and after the end of a hash, an operation starts afresh",
    "ended": "a hash has ended also when its digest, or dst, could not be written",
    "no key": "an HMAC with mackey NULL and mackeylen over 0 is EFAULT",
    "overlap": "overlapping buffers give what separate ones would",
    "xts": "XTS is one data unit, and leaves the IV as it was",
    "source": "of a source that is there in part nothing is done",
    "writable": "what is only held has to be there, and may be read-only; a buffer that cannot be"
    " written is found out last",
    "long": "an operation of CIOCAUTHCRYPT that has more than 64 MiB in all is ENOMEM",
    "other hash": "CIOCCPHASH between different hashes has the target start afresh",
    "submitted": "an asynchronous operation is done while it is submitted",
}
"""On purpose otherwise, by key."""


class Done(NamedTuple):
    """What an operation of CIOCCRYPT leaves to be written: ``dst``, digest, IV."""

    dst: list[Write]
    rest: list[Write]


class Model:
    """The device, for one caller with ``memory``. Methods are ioctls: ``(file, arg)``."""

    def __init__(self, memory: Memory, drivers: dict[str, bytes]) -> None:
        """``drivers``: the names of implementations, which are the engine's affair, as far as they
        have been told.
        """
        self.memory = memory
        self.drivers = drivers
        self.told = b""
        """The structure as the device has left it: what only the device can choose is there."""

    def ioctl(self, file: OpenFile, name: str, arg: int) -> int:
        """0, or the errno."""
        self.memory.unsure = []
        try:
            getattr(self, name)(file, arg)
        except Refused as refused:
            return refused.number
        return 0

    def _argument(self, name: str, arg: int) -> tuple[Any, ...]:
        return FORMS[name].unpack(self.memory.read(arg, FORMS[name].size))

    # -- sessions

    def CIOCGSESSION(self, file: OpenFile, arg: int) -> None:
        number, mac_number, keylen, key_at, mackeylen, mackey_at, _ = self._argument(
            "CIOCGSESSION", arg
        )
        cipher, mac_name = CIPHERS.get(number), MACS.get(mac_number)
        if not (number or mac_number) or (number and not cipher) or (mac_number and not mac_name):
            raise Refused(EINVAL)
        key, mac = b"", None
        if cipher:
            key = self._cipher_key(cipher, keylen, key_at, mackeylen, mackey_at)
        if mac_name and not (cipher and cipher.is_aead):
            if mackeylen > 512:
                raise Refused(EINVAL)
            is_keyed = mac_name.startswith("hmac")
            wanted = mackeylen if mackey_at or is_keyed else 0  # DEVIATION: no key
            mac_key = self.memory.read(mackey_at, wanted)
            mac = Mac(mac_name, mac_key if is_keyed else b"")
        told = bytearray(self.memory.read(arg, 48))
        told[SES_AT : SES_AT + 4] = self.told[SES_AT : SES_AT + 4]
        self.memory.write((arg, bytes(told)))
        chosen = int.from_bytes(told[SES_AT : SES_AT + 4], "little")
        assert chosen, "0 is no number of a session"
        assert chosen not in file.sessions, "a number given twice"
        file.sessions[chosen] = Session(cipher, key, mac)

    def _cipher_key(
        self, cipher: Algorithm, keylen: int, key_at: int, mackeylen: int, mackey_at: int
    ) -> bytes:
        has_two = cipher.is_aead and mackeylen
        if keylen > 64 or (has_two and mackeylen > 512):
            raise Refused(EINVAL)
        mac_key = self.memory.read(mackey_at, mackeylen) if has_two else b""
        key = self.memory.read(key_at, keylen)
        key = composite_key(mac_key, keylen, key) if has_two else key
        if len(key) not in cipher.key_sizes:
            raise Refused(EINVAL)
        return key

    def CIOCFSESSION(self, file: OpenFile, arg: int) -> None:
        file.sessions.pop(self._argument("CIOCFSESSION", arg)[0], None)

    def CIOCGSESSINFO(self, file: OpenFile, arg: int) -> None:
        told = bytearray(self.memory.read(arg, 268))
        session = file.session(int.from_bytes(told[:4], "little"))
        names = {4: session.cipher and session.cipher.name, 132: session.mac and session.mac.name}
        for at, name in names.items():
            if name:
                driver = self._driver(name, at + 64)
                told[at : at + len(name) + 1] = name.encode() + b"\0"
                told[at + 64 : at + 64 + len(driver) + 1] = driver + b"\0"
        told[260:262], told[264:268] = bytes(2), bytes(4)
        self.memory.write((arg, bytes(told)))

    def _driver(self, name: str, at: int) -> bytes:
        """Always the same one."""
        driver = self.told[at : at + 64].partition(b"\0")[0]
        assert re.fullmatch(rb"[\w(),-]{3,63}", driver), driver
        return self.drivers.setdefault(name, driver)

    def CIOCASYMFEAT(self, file: OpenFile, arg: int) -> None:
        self.memory.write((arg, bytes(4)))

    def CIOCCPHASH(self, file: OpenFile, arg: int) -> None:
        target_number, source_number = self._argument("CIOCCPHASH", arg)
        if target_number == source_number:
            raise Refused(EDEADLK)
        source, target = (file.session(ses, ENOENT) for ses in (source_number, target_number))
        if not (source.mac and target.mac):
            raise Refused(EINVAL)
        same = source.mac.hash == target.mac.hash
        target.hashed = source.hashed if same else None  # DEVIATION: other hash

    # -- CIOCCRYPT

    def CIOCCRYPT(self, file: OpenFile, arg: int) -> None:
        op = Crypt(*self._argument("CIOCCRYPT", arg))
        session = file.session(op.ses)
        given = self._given(op.iv, session)
        told = self.memory.read(arg, 48)
        done = self._operate(session, op, given)
        self.memory.write(*done.dst, *done.rest, (arg, told))

    def _given(self, address: int, session: Session) -> bytes | None:
        """The IV that the caller brings; None: the session's goes on."""
        return self.memory.read(address, session.iv_size) if address else None

    def _operate(self, session: Session, op: Crypt, given: bytes | None) -> Done:
        cipher, mac = session.cipher, session.mac
        if op.op > 1:
            raise Refused(EINVAL)
        if not op.flags & (UPDATE | FINAL) or op.flags & RESET:  # DEVIATION: fresh
            session.hashed = None
        if cipher and op.len % cipher.block:
            raise Refused(EINVAL)
        if given is not None:
            session.iv = given
        if cipher and cipher.is_aead and op.len:
            raise Refused(EBADMSG if op.op else EINVAL)  # DEVIATION: combination
        data = result = self._source(session, op)  # DEVIATION: overlap
        if cipher:
            result = session.crypt(op.op, data)
        rest: list[Write] = []
        if mac:
            session.hash(result if cipher and op.op else data)
            if not op.flags & UPDATE or op.flags & FINAL or not op.len:
                rest.append((op.mac, session.finish()))  # DEVIATION: ended
        if op.flags & WRITE_IV and op.iv:
            rest.append((op.iv, session.iv))
        return Done([(op.dst, result)] if cipher else [], rest)

    def _source(self, session: Session, op: Crypt) -> bytes:
        """DEVIATIONS: pointer, source, writable"""
        if session.cipher or op.flags & NO_ZC:
            return self.memory.read(op.src, op.len)
        if op.op or op.dst:
            self.memory.read(op.src if op.op else op.dst, op.len)
        return self.memory.read(op.dst if op.op else op.src, op.len)

    # -- CIOCASYNCCRYPT

    def CIOCASYNCCRYPT(self, file: OpenFile, arg: int) -> None:
        op = Crypt(*self._argument("CIOCASYNCCRYPT", arg))
        session = file.session(op.ses)
        given = self._given(op.iv, session)
        if op.flags & NO_ZC:
            raise Refused(EINVAL)
        if len(file.jobs) == 64:
            raise Refused(EBUSY)
        told, status = self.memory.read(arg, 48), 0
        rest: list[Write] = []
        try:  # DEVIATION: submitted
            dst, rest = self._operate(session, op, given)
            self.memory.write(*dst)
        except Refused as refused:
            status = refused.number
        file.jobs.append((status, told, rest))

    def CIOCASYNCFETCH(self, file: OpenFile, arg: int) -> None:
        if not file.jobs:
            raise Refused(EBUSY)
        status, told, rest = file.jobs.popleft()
        if status:
            raise Refused(status)
        self.memory.write(*rest, (arg, told))

    # -- CIOCAUTHCRYPT

    def CIOCAUTHCRYPT(self, file: OpenFile, arg: int) -> None:
        op = Auth(*self._argument("CIOCAUTHCRYPT", arg))
        session = file.session(op.ses)
        if op.flags & (TLS | SRTP) and op.src != op.dst:
            raise Refused(EINVAL)
        given = self._given(op.iv, session)
        cipher = session.cipher
        if op.op > 1 or cipher is None:
            raise Refused(EINVAL)
        told = bytearray(self.memory.read(arg, 72))
        session.hashed = None
        session.iv = loaded = session.iv if given is None else given
        if op.flags & SRTP:
            length, tag, writes = self._srtp(session, cipher, op)
        elif op.flags & TLS and not cipher.is_aead:
            length, tag, writes = self._tls(session, cipher, op)
        elif cipher.is_aead:
            length, tag, writes = self._aead(session, cipher, op)
        else:
            raise Refused(EINVAL)
        tag_size = op.tag_len or (session.tag_size if cipher.is_aead else self._tag_size(session))
        told[AUTH_LEN_AT : AUTH_LEN_AT + 4] = length.to_bytes(4, "little")
        told[AUTH_TAG_AT : AUTH_TAG_AT + 8] = (tag & (1 << 64) - 1).to_bytes(8, "little")
        told[AUTH_TAG_LEN_AT : AUTH_TAG_LEN_AT + 4] = tag_size.to_bytes(4, "little")
        if op.flags & WRITE_IV and op.iv:
            writes.append((op.iv, session.iv))
        is_in_place = op.src == op.dst and op.src and writes and writes[0][0] == op.dst
        if is_in_place and not self.memory.can_write(op.dst, len(writes[0][1])):
            session.iv = loaded
        self.memory.write(*writes, (arg, bytes(told)), first=EINVAL if is_in_place else EFAULT)

    def _limit(self, session: Session, op: Auth, more: int = 0) -> None:
        """DEVIATION: long"""
        if session.iv_size + op.auth_len + op.len + more > 64 << 20:
            raise Refused(ENOMEM)

    def _tag_size(self, session: Session) -> int:
        return session.mac.size if session.mac else 0

    def _forged(self, session: Session, op: Auth, loaded: bytes) -> Refused:
        """EBADMSG, or that it could not be written. DEVIATION: untouched"""
        session.iv = loaded
        readonly = op.src == op.dst and not self.memory.can_write(op.dst, op.len)
        return Refused(EINVAL if readonly else EBADMSG)

    def _aead(self, session: Session, cipher: Algorithm, op: Auth) -> tuple[int, int, list[Write]]:
        size = op.tag_len or session.tag_size
        if op.auth_len > 4096:
            raise Refused(EINVAL)
        self._limit(session, op)
        src = self.memory.read(op.src, op.len, EINVAL if op.src else EFAULT)  # DEVIATION: pointer
        auth = self.memory.read(op.auth_src, op.auth_len)  # DEVIATION: pointer
        if size > session.tag_size or size not in TAGS[cipher.mode]:  # DEVIATION: combination
            raise Refused(EINVAL)
        session.tag_size = size
        if op.op and op.len < size:
            raise Refused(EINVAL)
        if cipher.mode == "ccm" and not 1 <= session.iv[0] <= 7:
            raise Refused(EINVAL)
        try:
            work = open_aead if op.op else seal_aead
            result = work(cipher, session.key, session.iv, src, auth, size)
        except InvalidTag:
            raise self._forged(session, op, session.iv) from None
        if cipher.mode == "ccm" and not op.op:
            room = session.iv[0] + 1
            blocks = 1 + -(-op.len // 16)
            session.iv = session.iv[:-room] + (blocks & (1 << 8 * room) - 1).to_bytes(room)
        tag_at = op.dst + (op.len - size if op.op else op.len)
        return len(result), tag_at, [(op.dst, result)] if result else []

    def _tls(self, session: Session, cipher: Algorithm, op: Auth) -> tuple[int, int, list[Write]]:
        mac, loaded, block = session.mac, session.iv, cipher.block
        size = op.tag_len or self._tag_size(session) if mac else 0
        if op.auth_len > 4096 or (mac and size > mac.size):  # DEVIATION: tag
            raise Refused(EINVAL)
        impossible = not op.dst or (op.op and (not op.len or op.len % block))
        if not impossible:
            self._limit(session, op)
        auth = self.memory.read(op.auth_src, op.auth_len)  # DEVIATION: pointer
        if impossible:
            raise Refused(EINVAL)
        data = self.memory.read(op.src, op.len, EINVAL)
        if not op.op:
            record = data + (mac.of(auth + data)[:size] if mac else b"")
            pad = block - len(record) % block if block > 1 else 0
            result = session.crypt(0, record + bytes([max(pad - 1, 0)]) * pad)
            return len(result), op.tag, [(op.dst, result)] if result else []
        plain, wrong = session.crypt(1, data), False
        after, session.iv = session.iv, loaded
        if block > 1:
            pad = plain[-1] + 1
            wrong = pad > len(plain) or plain[-pad:] != bytes([pad - 1]) * pad
            plain = plain if wrong else plain[:-pad]
        length = len(plain) - size
        if length < 0:
            raise Refused(EINVAL)
        if wrong or (mac and mac.of(auth + plain[:length])[:size] != plain[length:]):
            raise self._forged(session, op, loaded)  # DEVIATION: padding
        session.iv = after
        return length, op.tag, [(op.dst, plain[:length] + data[length:])]  # DEVIATION: behind

    def _srtp(self, session: Session, cipher: Algorithm, op: Auth) -> tuple[int, int, list[Write]]:
        mac, offset = session.mac, op.src - op.auth_src
        size = op.tag_len or self._tag_size(session)
        if mac and size > mac.size:  # DEVIATION: tag
            raise Refused(EINVAL)
        room = op.len + (0 if op.op else size)
        if cipher.mode not in ("ctr", "ecb") or cipher.block > 1 or not room or not op.auth_src:
            raise Refused(EINVAL)
        if not 0 <= offset <= 256 or op.auth_len < offset + max(op.len, 1):  # DEVIATION: pointer
            raise Refused(EINVAL)
        if op.op and mac and size > op.len:
            raise Refused(EINVAL)
        self._limit(session, op, size if op.op and mac else 0)
        packet = self.memory.read(op.auth_src, op.auth_len, EINVAL)  # DEVIATION: writable
        payload = self.memory.read(op.src, op.len, EINVAL)
        if op.op and mac and self.memory.read(op.tag, size) != mac.of(packet)[:size]:
            raise self._forged(session, op, session.iv)
        result = session.crypt(op.op, payload)
        writes = [(op.dst, result)] if result else []
        if not op.op and mac:
            sealed = packet[:offset] + result + packet[offset + op.len :]
            writes.append((op.tag, mac.of(sealed)[:size]))
        return op.len, op.tag, writes
