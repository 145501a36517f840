"""``fd:N``: a socket that whoever started this process has made: to listen on, or connected."""

import errno
import os
import socket
import stat
import threading
from functools import partial

from cuse_crypto.errors import Failure
from cuse_crypto.wire.connection import Connection
from cuse_crypto.wire.stream import Stream, StreamConnection
from cuse_crypto.wire.tls import Credentials
from cuse_crypto.wire.transports import tcp

_streams: dict[int, Stream] = {}
_lock = threading.Lock()


def check(number: str) -> None:
    """Failure for what is no number."""
    if not number.isdecimal():
        raise Failure(f"fd:{number}: write fd:N, the number of an open descriptor")


def listen(number: str, tls: Credentials | None) -> socket.socket:
    """A socket that listens already."""
    remedy = "start the back end from a program that passes a listening socket on"
    try:
        sock = socket.socket(fileno=int(number))
    except OSError as error:
        raise Failure(f"fd:{number} is no socket ({error}); {remedy}") from None
    try:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise Failure(f"fd:{number} does not listen; {remedy}")
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            tcp.check_listener(sock, f"fd:{number}", tls)
    except BaseException:
        sock.detach()
        raise
    sock.set_inheritable(False)
    return sock


def connect(number: str, timeout: float, deadline: float, tls: Credentials | None) -> Connection:
    """A part in the one connection that there is; OSError once that is lost."""
    with _lock:
        stream = _streams.get(int(number))
        if stream is None:
            opening = partial(_take, int(number))
            stream = _streams[int(number)] = Stream(opening, lasting=True)
    return StreamConnection(stream, timeout, deadline)


def _take(number: int, timeout: float) -> int:
    """The descriptor, once: who has lost it cannot make it again."""
    with _lock:
        stream = _streams[number]
    if stream.generation:
        raise OSError(errno.ENOTCONN, "the connection that was passed on is lost; start anew")
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise OSError(errno.ENOTSOCK, "what was passed on is no connected socket")
    os.set_inheritable(number, False)
    return number
