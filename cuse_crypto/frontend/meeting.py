"""How a queue and a back end meet: HELLO, and shared memory where both can have it."""

import contextlib
import secrets
import struct
from typing import NamedTuple

from cuse_crypto.frontend.arena import Arena
from cuse_crypto.wire import messages
from cuse_crypto.wire.connection import Connection, close_all
from cuse_crypto.wire.messages import BY_NAME, Feature, Hello, PeerError, Reply, Welcome
from cuse_crypto.wire.shared import Pipe, SharedConnection

_HELLO = BY_NAME["HELLO"]
_BUFFER = 8192


class Met(NamedTuple):
    """What came of it. ``algorithms`` are cryptodev numbers."""

    connection: Connection
    engine: str
    algorithms: frozenset[int]
    place: bytes
    """Names this back end among others, and its successors."""


def meet(connection: Connection, guest: bytes, number: int, arena: Arena | None) -> Met:
    """Introduce queue ``number`` of ``guest``; the connection that is to be used from now on.

    ``arena`` is offered to a back end on the other side of a Unix socket. ConnectionLost,
    PeerSilent or PeerError if it comes to nothing; then ``connection`` is still the caller's.
    """
    if arena is None or not connection.carries_descriptors:
        return _met(connection, _hello(connection, guest, number, 0, ())[0])
    with contextlib.ExitStack() as undo:
        pipe = Pipe()
        undo.callback(pipe.close)
        offered = arena.fd, pipe.writing
        answer, given = _hello(connection, guest, number, Feature.SHARED, offered)
        undo.callback(close_all, given)
        pipe.give()
        met = _met(connection, answer)
        if not given:
            return met
        shared = SharedConnection(connection, pipe, given[0], arena.reply)
        undo.pop_all()
    return met._replace(connection=shared)


def _hello(
    connection: Connection, guest: bytes, number: int, features: int, offered: tuple[int, ...]
) -> tuple[Reply, list[int]]:
    """The back end's answer, and the descriptors that it gives for those ``offered``."""
    buffer = memoryview(bytearray(_BUFFER))
    body = Hello(messages.MAGIC, messages.VERSION, number, features, messages.MAX_PAYLOAD, guest)
    writable = (_BUFFER // 2,)
    # By it the reply is known from others that may still be on their way.
    tag = secrets.randbits(32)
    length = messages.pack_request(buffer, _HELLO, tag, body, (), writable)
    connection.send(buffer[:length], descriptors=offered)
    received, given = connection.receive_first(buffer, 1)
    try:
        if received is None:
            raise PeerError("the back end refused this front end")
        answer = messages.unpack_reply(received, _HELLO, tag, writable)
        if answer.status:
            raise PeerError(f"the back end refused this front end (errno {answer.status})")
        if bool(given) != bool(answer.body.features & features):
            raise PeerError("the back end agrees to something else than was offered")
    except BaseException:
        close_all(given)
        raise
    return answer, given


def _met(connection: Connection, answer: Reply) -> Met:
    welcome: Welcome = answer.body
    if welcome.version != messages.VERSION:
        raise PeerError(f"the back end speaks version {welcome.version}")
    names = bytes(answer.segments[0])
    if len(names) % 4:
        raise PeerError("the list of algorithms is cut off")
    engine = welcome.engine.rstrip(b"\0").decode("ascii", "replace")
    algorithms = frozenset(struct.unpack(f"<{len(names) // 4}I", names))
    return Met(connection, engine, algorithms, welcome.place)
