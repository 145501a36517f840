"""``unix:PATH``: a socket in the file system, and the one transport that carries descriptors."""

import contextlib
import errno
import os
import socket
import stat

from cuse_crypto.errors import Failure
from cuse_crypto.wire.connection import Connection
from cuse_crypto.wire.tls import Credentials

SUN_PATH_MAX = 107
BACKLOG = 128


def check(path: str) -> None:
    """Any path will do."""


def listen(path: str, tls: Credentials | None) -> socket.socket:
    """Mode 0600; the socket of a dead predecessor is replaced, that of a living one is not."""
    if len(os.fsencode(path)) > SUN_PATH_MAX:
        raise Failure(f"unix:{path}: a socket's path has at most {SUN_PATH_MAX} bytes; shorten it")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise Failure(f"{path} exists and is no socket; choose another path with --listen")
        if _answers(path):
            raise Failure(
                f"another back end listens on unix:{path}; end it, or choose another path"
            )
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX)
    previous = os.umask(0o177)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Failure(f"cannot listen on unix:{path}: {error.strerror}") from None
    finally:
        os.umask(previous)
    return sock


def _answers(path: str) -> bool:
    try:
        connect(path, 1.0, 0, None).close()
    except OSError as error:
        return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


def connect(path: str, timeout: float, deadline: float, tls: Credentials | None) -> Connection:
    """OSError if nobody answers in time."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
        return Connection(sock, deadline)
    except BaseException:
        sock.close()
        raise
