"""Addresses of a back end: ``SCHEME:REST``, one row a scheme."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure

BACKLOG = 128
SUN_PATH_MAX = 107


class Transport(NamedTuple):
    """How one scheme listens and connects; each takes what follows the colon."""

    listen: Callable[[str], socket.socket]
    connect: Callable[[str, float], socket.socket]
    example: str


class Address(NamedTuple):
    """A parsed address."""

    scheme: str
    rest: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Failure for a scheme that is not there, or for nothing behind it."""
        scheme, colon, rest = text.partition(":")
        if not colon or not rest or scheme not in TRANSPORTS:
            examples = ", ".join(transport.example for transport in TRANSPORTS.values())
            raise Failure(f"{text!r} is no address of a back end; write {examples}")
        return cls(scheme, rest)

    def listen(self) -> socket.socket:
        """A listening socket; Failure with the remedy if it cannot be had."""
        return TRANSPORTS[self.scheme].listen(self.rest)

    def connect(self, timeout: float) -> socket.socket:
        """A connected socket within ``timeout`` seconds; OSError if nobody answers."""
        return TRANSPORTS[self.scheme].connect(self.rest, timeout)

    def clean(self) -> None:
        """Remove what listening left in the file system."""
        if self.scheme == "unix":
            Path(self.rest).unlink(missing_ok=True)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


def _listen_unix(path: str) -> socket.socket:
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
        _connect_unix(path, 1.0).close()
    except OSError as error:
        return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


def _connect_unix(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_inherited(number: str) -> socket.socket:
    """A socket that listens already, made by whoever started this process."""
    remedy = "start the back end from a program that passes a listening socket on"
    try:
        sock = socket.socket(fileno=int(number))
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise Failure(f"fd:{number} does not listen; {remedy}")
    except (ValueError, OSError) as error:
        raise Failure(f"fd:{number} is no socket ({error}); {remedy}") from None
    sock.set_inheritable(False)
    return sock


def _connect_inherited(number: str, timeout: float) -> socket.socket:
    raise OSError(errno.EOPNOTSUPP, "fd: is only listened to")


TRANSPORTS = {
    "fd": Transport(_listen_inherited, _connect_inherited, "fd:3"),
    "unix": Transport(_listen_unix, _connect_unix, "unix:/run/cuse-crypto/cryptodev0.sock"),
}
"""By scheme."""
