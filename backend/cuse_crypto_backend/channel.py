"""One connection of a front end: HELLO, and then an answer to each request.

A message that breaks the protocol ends the connection. Knows bytes; what they are for is guests'
and engines'.
"""

import contextlib
import errno
import logging
import os
import struct
from collections.abc import Callable
from typing import Any

from cuse_crypto.abi.structs import Cop
from cuse_crypto.wire import messages
from cuse_crypto.wire.area import KEPT, Area, check_file
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent, close_all
from cuse_crypto.wire.messages import MAX_PAYLOAD, Feature, PeerError, Received, Request
from cuse_crypto.wire.shared import Pipe, SharedConnection, check_pipe
from cuse_crypto_backend.admission import ANYONE, Peer
from cuse_crypto_backend.checks import GROWTH, check_auth
from cuse_crypto_backend.engines import Engine
from cuse_crypto_backend.engines.engine import SLACK, AuthRequest, Hashing, Keys
from cuse_crypto_backend.express import Express
from cuse_crypto_backend.guests import Guest, Guests
from cuse_crypto_backend.memory import FREE, Holding

log = logging.getLogger(__name__)

HELLO_DEADLINE = 5.0
"""Seconds that a new connection may be silent."""
REST_DEADLINE = 10.0
"""Seconds that one may be behind connection.RATE in the middle of a message, and in taking a reply.
A port of a virtual machine stays connected when its front end is killed, and the next one is not to
be taken for the rest."""
LONGEST_HELLO = 4096
_BLOCK = 512
"""Bytes of a block of fstat(2)."""
_BUFFER = messages.MAX_LENGTH + GROWTH + SLACK


class Channel:
    """One connection, in a thread of its own: methods are named after the message they answer."""

    def __init__(
        self,
        engine: Engine,
        guests: Guests,
        connection: Connection,
        peer: Peer = ANYONE,
        known: Callable[[], None] = lambda: None,
    ) -> None:
        """``connection`` has HELLO_DEADLINE; ``known`` is called when ``peer`` has said HELLO, and
        may refuse it.
        """
        self._engine = engine
        self._guests = guests
        self._peer = peer
        self._known = known
        self._name: bytes | None = None
        """The guest's, from HELLO on."""
        self.connection = connection
        self._holding = Holding(guests.memory, peer.owner)
        self._shared_fd = -1
        self._areas = [Area(_BUFFER), Area(_BUFFER)]
        self._request, self._reply = (area.view for area in self._areas)
        self._guest = Guest(engine)
        self._inline = True
        """The request's segments came along; so do the reply's."""
        self._ended = False

    def run(self) -> None:
        """Answer until the peer goes; PeerError when it breaks the protocol."""
        try:
            if self._hello():
                self._serve()
        except PeerSilent as error:
            if self._name is not None:
                raise PeerError(str(error)) from None
            log.debug("lost a front end: %s", error)
        except ConnectionLost as error:
            log.debug("lost a front end: %s", error)
        except PeerError:
            raise
        except Exception:
            log.exception("a bug, which ends the connection of a front end")
        finally:
            if self._name is not None:
                self._guests.leave(self._peer.identity, self._name)
            self.connection.close()
            self._holding.close()
            if self._shared_fd >= 0:
                os.close(self._shared_fd)

    def shut(self) -> None:
        """Wake the thread for its end, from any other."""
        self._ended = True
        self._holding.end()
        self.connection.shut()

    def _serve(self) -> None:
        connection, buffer, holding = self.connection, self._request, self._holding
        connection.first, connection.reserve = FREE, holding.reserve
        connection.wait_for_requests(REST_DEADLINE)

        def receive() -> Received | None:
            return connection.receive(buffer)

        if isinstance(connection, SharedConnection):
            receive = Express(self._guest, connection, buffer, self._reply, holding).receive
        while (received := receive()) is not None:
            length = messages.read_length(received)
            self._inline = length == len(received)
            if length > FREE:
                holding.reserve(length)
            self._answer(messages.unpack_request(received, connection.area))
            if holding.length > FREE and (length > KEPT or holding.is_scarce()):
                self._trim()

    def _hello(self) -> bool:
        """Agree with the peer; False if it left without a word."""
        message, given = self.connection.receive_first(self._request[:LONGEST_HELLO], 2)
        try:
            if message is None:
                return False
            request = messages.unpack_request(message)
            if request.message.name != "HELLO":
                raise PeerError("it is no front end of cuse-crypto")
            self._welcome(request, given)
        finally:
            close_all(given)
        return True

    def _welcome(self, request: Request, given: list[int]) -> None:
        if request.body.magic != messages.MAGIC:
            raise PeerError("it is no front end of cuse-crypto")
        if request.body.version != messages.VERSION:
            self._fail(request, errno.EPROTONOSUPPORT)
            raise PeerError(f"it speaks version {request.body.version}, not {messages.VERSION}")
        names = sorted(self._engine.algorithms)
        listed = struct.pack(f"<{len(names)}I", *names)
        if len(listed) > request.writable[0]:
            raise PeerError("it has no room for the list of algorithms")
        self._become_known()
        at = request.message.reply_offset
        self._reply[at : at + len(listed)] = listed
        self._enter(request.body.guest)
        if request.body.features & Feature.SHARED and len(given) == 2:
            self._share(request, given, (len(listed),))
        else:
            self._send(request, self._welcome_body(0), (len(listed),))

    def _become_known(self) -> None:
        known, self._known = self._known, lambda: None
        known()

    def _enter(self, name: bytes) -> None:
        """Be a queue of the guest ``name`` from now on."""
        # In this order: a guest that says HELLO once more keeps what it has.
        peer = self._peer
        self._guest = self._guests.enter(peer.identity, name, peer.owner)
        left, self._name = self._name, name
        if left is not None:
            self._guests.leave(peer.identity, left)

    def _share(self, request: Request, given: list[int], segments: tuple[int, ...]) -> None:
        """Say that the memory of the peer is used from now on, and use it."""
        fd, writing = given
        check_pipe(writing)
        check_file(fd, messages.AREA_SIZE)
        try:
            area = Area(messages.AREA_SIZE, fd, foreign=True)
        except OSError as error:
            raise PeerError(f"its memory cannot be had: {error.strerror}") from None
        with contextlib.ExitStack() as undo:
            pipe = Pipe()
            undo.callback(pipe.close)
            body = self._welcome_body(Feature.SHARED)
            self._send(request, body, segments, descriptors=(pipe.writing,))
            pipe.give()
            parts = area.view[: messages.AREA_REPLY], area.view[messages.AREA_REPLY :]
            self.connection = SharedConnection(self.connection, pipe, writing, parts[0])
            undo.pop_all()
        given.clear()
        self._shared_fd = fd
        self._holding.remaining = lambda: os.fstat(fd).st_blocks * _BLOCK
        if self._ended:
            self.connection.shut()
        self._areas = [area]
        self._request, self._reply = parts

    def _welcome_body(self, features: int) -> messages.Welcome:
        name = self._engine.name.encode()
        place = self._guests.place
        return messages.Welcome(messages.VERSION, 0, features, MAX_PAYLOAD, name, place)

    def _trim(self) -> None:
        for area in self._areas:
            area.trim()
        self._holding.trimmed()

    def _answer(self, request: Request) -> None:
        """Do what is asked for, and reply once."""
        handler = getattr(self, request.message.name, None)
        if handler is None:
            raise PeerError(f"{request.message.name} at this point")
        if request.message.name == "HELLO":
            handler(request)
            return
        try:
            segments: tuple[int, ...] = handler(request) or ()
        except OSError as error:
            self._fail(request, error.errno or errno.EIO)
        except Exception:
            log.exception("a bug, answered with EIO: %s", request.message.name)
            self._fail(request, errno.EIO)
        else:
            self._send(request, (), segments)

    def _send(
        self,
        request: Request,
        body: Any,
        segments: tuple[int, ...],
        descriptors: tuple[int, ...] = (),
    ) -> None:
        message = request.message
        length = messages.pack_reply(self._reply, message, request.tag, body, segments)
        head = 0 if self._inline else message.reply_offset
        self.connection.send(self._reply[:length], head, descriptors)

    def _fail(self, request: Request, status: int) -> None:
        length = messages.pack_error(self._reply, request.message, request.tag, status)
        self.connection.send(self._reply[:length])

    def HELLO(self, request: Request) -> None:
        """Once more: another queue, or another front end, that has come to the same stream."""
        if isinstance(self.connection, SharedConnection):
            raise PeerError("HELLO at this point")
        self._welcome(request, [])

    def OPEN(self, request: Request) -> None:
        """An open file."""
        self._guest.open(request.body.handle)

    def RELEASE(self, request: Request) -> None:
        """The end of an open file."""
        self._guest.release(request.body.handle)

    def NEW_SESSION(self, request: Request) -> None:
        """A session; the number is the front end's."""
        body = request.body
        keys = Keys(*map(bytes, request.readable))
        for segment in request.readable:
            if not segment.readonly:
                segment[:] = bytes(len(segment))
        self._guest.new_session(body.handle, body.ses, (body.cipher, body.mac), keys)

    def END_SESSION(self, request: Request) -> None:
        """The end of a session."""
        self._guest.end_session(request.body.handle, request.body.ses)

    def CRYPT(self, request: Request) -> tuple[int, int, int]:
        """One operation, straight from the request's buffer into the reply's."""
        body = request.body
        iv, src = request.readable
        session = self._guest.session(body.handle, body.ses)
        cipher, mac = session.algorithms
        size = len(src) if cipher else 0
        iv_size = cipher.iv_size if cipher else 0
        if body.op not in (Cop.ENCRYPT, Cop.DECRYPT) or len(iv) != iv_size:
            raise OSError(errno.EINVAL, "no such operation")
        if (cipher and len(src) % cipher.block_size) or request.writable[0] < size:
            raise OSError(errno.EINVAL, "no such length")
        hashing = body.flags
        if mac and hashing & Hashing.FINISH and request.writable[1] < mac.digest_size:
            raise OSError(errno.EINVAL, "no room for the digest")
        at = request.message.reply_offset
        dst = self._reply[at : at + size + SLACK]
        with session:
            digest = session.engine.crypt(body.op, bytes(iv), src, dst, hashing)
            following = session.engine.next_iv[: request.writable[2]]
            if not mac:
                session.short = session.engine.short
        return self._behind(at, size, digest, following)

    def AUTH(self, request: Request) -> tuple[int, int, int]:
        """One authenticated operation; nothing of what is not authentic is sent."""
        body = request.body
        iv, auth, src, tag = request.readable
        session = self._guest.session(body.handle, body.ses)
        cipher, mac = session.algorithms
        kind = body.kind, body.op, body.tag_size
        checked = AuthRequest(*kind, bytes(iv), auth, src, body.offset, bytes(tag))
        check_auth(checked, cipher, mac)
        at = request.message.reply_offset
        dst = self._reply[at : at + len(src) + GROWTH + SLACK]
        with session:
            length, made = session.engine.auth(checked, dst)
            following = session.engine.next_iv[: request.writable[2]]
        if length > request.writable[0] or len(made) > request.writable[1]:
            raise OSError(errno.EINVAL, "no room for the result")
        return self._behind(at, length, made, following)

    def _behind(self, at: int, size: int, made: bytes, following: bytes) -> tuple[int, int, int]:
        """Put what is small behind the ``size`` bytes of a result at ``at``; all three lengths."""
        rest = made + following
        self._reply[at + size : at + size + len(rest)] = rest
        return size, len(made), len(following)

    def COPY_HASH(self, request: Request) -> None:
        """One session's hash goes on from another's."""
        body = request.body
        target = self._guest.session(body.handle, body.dst_ses)
        source = self._guest.session(body.handle, body.src_ses)
        if target is source or not (target.algorithms.mac and source.algorithms.mac):
            raise OSError(errno.EINVAL, "not two hashes")
        # In one order everywhere, so that two copies cannot wait for each other.
        first, second = sorted((target, source), key=id)
        with first, second:
            target.engine.copy_hash(source.engine)

    def DESCRIBE(self, request: Request) -> tuple[int, ...]:
        """What computes a session."""
        session = self._guest.session(request.body.handle, request.body.ses)
        with session:
            names = [name.encode("ascii", "replace") for name in session.engine.names()]
        at, lengths = request.message.reply_offset, []
        for name, room in zip(names, request.writable, strict=True):
            self._reply[at : at + len(name[:room])] = name[:room]
            at += len(name[:room])
            lengths.append(len(name[:room]))
        return tuple(lengths)
