"""The back end's server, asked for anything in any order, inline and through shared memory.

Every request gets one reply, or the connection ends because of it; a sound one gets its reply. What
was encrypted comes back.
"""

import errno
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.wire.messages import (
    Auth,
    CopyHash,
    Crypt,
    Handle,
    NewSession,
    Reply,
    Session,
)
from cuse_crypto_backend.admission import Admission
from cuse_crypto_backend.engines.engine import AuthKind
from cuse_crypto_backend.engines.openssl import OpensslEngine
from cuse_crypto_backend.server import Server
from tests.fuzz.choices import Choices
from tests.fuzz.peer import HELLO, Asked, Peer, Places
from tests.fuzz.target import Run

ANSWERS = {0, errno.EINVAL, errno.ESTALE, errno.EBADMSG}
"""EIO would be a bug of the back end's."""
MOST = 12
"""Requests in one input."""
POOL = bytes(index * 167 + 13 & 0xFF ^ index >> 3 & 0xFF for index in range(80_000))
CIPHER_IDS, MAC_IDS = list(CIPHERS), list(MACS)
KINDS = AuthKind.TLS, AuthKind.SRTP


class Complaints(logging.Handler):
    """What the back end calls a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.seen.append(logging.Formatter().format(record))


class Driver:
    """What is asked for, after what the choices say; knows what there should be."""

    def __init__(self, choices: Choices, peer: Peer) -> None:
        self.choices = choices
        self.peer = peer
        self.sessions: dict[tuple[int, int], tuple[Cipher | None, Mac | None]] = {}
        self.last: tuple[Asked, Reply] | None = None

    def step(self) -> bool:
        """One request and its reply; False if the connection is ended."""
        choice = self.choices.number() % 32
        if choice == 31 and self.choices.chance(4):
            return self.peer.nonsense(self.choices.rest())
        asked = self._make(choice)
        spoiled = self.choices.chance(32) and asked.spoil(self.choices)
        reply = self.peer.ask(asked)
        if reply is None:
            assert spoiled or not asked.sound, f"dropped for {asked}"
            return False
        assert reply.status in ANSWERS, f"{asked} was answered with {reply.status}"
        if spoiled:
            # It may have meant anything.
            self.sessions.clear()
            self.last = None
        else:
            self._note(asked, reply)
        return True

    def _make(self, choice: int) -> Asked:
        # Without these two nothing else can be done.
        if not self.peer.handles and choice < 30:
            return Asked("OPEN", Handle(self._handle()))
        if not self.sessions and choice < 28:
            return self._new_session()
        if choice < 1:
            return Asked("OPEN", Handle(self._handle()))
        if choice < 5:
            return self._new_session()
        if choice < 15:
            return self._crypt()
        if choice < 20:
            return self._back() or self._crypt()
        if choice < 25:
            return self._auth()
        if choice < 27:
            handle, ses = self._known()
            return Asked("COPY_HASH", CopyHash(handle, ses, self._ses()))
        if choice < 28:
            rooms = self.choices.number() % 70, self.choices.number() % 70
            return Asked("DESCRIBE", self._session(), (), rooms)
        if choice < 30:
            return Asked("END_SESSION", self._session())
        if choice < 31 or not self.choices.chance(4):
            return Asked("RELEASE", Handle(self._handle()))
        return Asked("HELLO", HELLO, (), (1024,), sound=False)

    def _handle(self) -> int:
        if self.peer.handles and not self.choices.chance(16):
            return self.choices.pick(sorted(self.peer.handles))
        return self.choices.number() % 3 + 1

    def _ses(self) -> int:
        return self.choices.number() % 3 + 1

    def _known(self) -> tuple[int, int]:
        """Handle and number of a session, mostly one that there is."""
        if self.sessions and not self.choices.chance(16):
            return self.choices.pick(list(self.sessions))
        return self._handle(), self._ses()

    def _session(self) -> Session:
        return Session(*self._known())

    def _new_session(self) -> Asked:
        what = self.choices.number() % 8
        cipher = self.choices.pick(CIPHER_IDS) if what != 1 else 0
        mac = self.choices.pick(MAC_IDS) if what < 4 else 0
        sizes = CIPHERS[cipher].key_sizes if cipher else (0,)
        size = self.choices.pick(sizes) if what else self.choices.number()
        keyed = mac and MACS[mac].is_keyed
        mac_size = self.choices.number(2) % 514 if keyed and what != 7 else 0
        if not what:
            cipher, mac_size = self.choices.number(), self.choices.number()
        body = NewSession(self._handle(), self._ses(), cipher, mac)
        return Asked("NEW_SESSION", body, (self._data(size), self._data(mac_size)))

    def _data(self, size: int) -> bytes:
        at = self.choices.number()
        return POOL[at : at + size]

    def _size(self, cipher: Cipher | None) -> int:
        size = self.choices.number()
        if size > 250:
            size = self.choices.number(2)
        block = cipher.block_size if cipher else 1
        return size if self.choices.chance(16) else size - size % block

    def _crypt(self) -> Asked:
        handle, ses = self._known()
        cipher, mac = self.sessions.get((handle, ses), (None, None))
        size = self._size(cipher)
        op = self.choices.number() % 2 if not self.choices.chance(32) else self.choices.number(2)
        flags = self.choices.number() % 4 if mac or self.choices.chance(8) else 0
        iv_size = cipher.iv_size if cipher else 0
        if self.choices.chance(32):
            iv_size = self.choices.number()
        room = size if cipher else 0
        room = room if not self.choices.chance(16) else self.choices.number(2)
        mac_room = 64 if mac else 0
        segments = self._data(iv_size), self._data(size)
        return Asked("CRYPT", Crypt(handle, ses, op, flags), segments, (room, mac_room, 16))

    def _back(self) -> Asked | None:
        """Decrypt what was encrypted last."""
        if self.last is None:
            return None
        asked, reply = self.last
        back = asked.back(bytes(reply.segments[0]), bytes(reply.segments[1]))
        back.expected = asked.segments[asked.src]
        return back

    def _auth(self) -> Asked:
        handle, ses = self._known()
        cipher, mac = self.sessions.get((handle, ses), (None, None))
        aead = cipher.tag_sizes if cipher else ()
        kind = self.choices.pick(KINDS) if not aead else AuthKind.AEAD
        op = self.choices.number() % 2
        size, auth_size = self._size(cipher), self.choices.number() % 80
        most = mac.digest_size if mac else 0
        tag_size = self.choices.pick(aead) if aead else self.choices.number() % (most + 1)
        iv = bytearray(self._data(cipher.iv_size if cipher else 0))
        if cipher and cipher.mode == "ccm":
            iv[0] = self.choices.number() % 9
        src, auth, offset = self._data(size), self._data(auth_size), 0
        if kind == AuthKind.SRTP:
            offset = auth_size if not self.choices.chance(16) else self.choices.number(4)
            auth += src + self._data(self.choices.number() % 8)
        if self.choices.chance(32):
            kind, tag_size = self.choices.number(2), self.choices.number(4)
        tag = self._data(tag_size % 80) if kind == AuthKind.SRTP and op else b""
        body = Auth(handle, ses, op, kind, tag_size, offset)
        return Asked("AUTH", body, (bytes(iv), auth, src, tag), (size + 320, 64, 16))

    def _note(self, asked: Asked, reply: Reply) -> None:
        """What it changed, and whether it was right."""
        body = asked.body
        if asked.expected is not None:
            assert reply.status != errno.EBADMSG, f"its own tag was refused: {asked}"
        if asked.expected is not None and reply.status == 0:
            assert bytes(reply.segments[0]) == asked.expected, f"not what was encrypted: {asked}"
        if asked.name not in ("CRYPT", "AUTH"):
            self.last = None
        elif reply.status == 0 and body.op == 0 and asked.is_reversible(self.sessions):
            copied = [memoryview(bytes(segment)) for segment in reply.segments]
            self.last = asked, reply._replace(segments=copied)
        if asked.name == "NEW_SESSION" and reply.status == 0:
            rows = CIPHERS.get(body.cipher), MACS.get(body.mac)
            self.sessions[body.handle, body.ses] = rows
        elif asked.name == "END_SESSION":
            self.sessions.pop((body.handle, body.ses), None)
        elif asked.name == "RELEASE":
            self.peer.handles.discard(body.handle)
            kept = {key: rows for key, rows in self.sessions.items() if key[0] != body.handle}
            self.sessions = kept


@contextmanager
def dispatcher() -> Iterator[Run]:
    """A back end with its engine, and one front end after the other."""
    complaints = Complaints()
    log = logging.getLogger("cuse_crypto_backend")
    log.addHandler(complaints)
    log.propagate = False
    server = Server(OpensslEngine(), Admission.of_this_user())
    places = Places()
    peers: dict[bool, Peer] = {}
    before = threading.active_count()

    def run(data: bytes) -> str:
        choices = Choices(data)
        shared = choices.chance(2)
        peer = peers.pop(shared, None) or Peer(server, places, choices, shared)
        try:
            outcome = _requests(Driver(choices, peer)) if peer.open else "no HELLO"
            if peer.open and peer.forget():
                peers[shared] = peer
        finally:
            if shared not in peers:
                peer.close()
        assert not complaints.seen, complaints.seen.pop()
        return outcome

    try:
        yield run
    finally:
        for peer in peers.values():
            peer.close()
        places.close()
        log.removeHandler(complaints)
        assert threading.active_count() == before


def _requests(driver: Driver) -> str:
    count = 0
    while count < MOST and driver.choices.left:
        count += 1
        if not driver.step():
            return f"{count} requests, dropped"
    return f"{count} requests"
