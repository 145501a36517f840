"""``tcp:HOST:PORT``: with TLS on both sides; in the clear from this machine to itself only."""

import ipaddress
import socket
from typing import Any

from cuse_crypto.errors import Failure
from cuse_crypto.wire.connection import Connection
from cuse_crypto.wire.tls import Credentials, TlsConnection

BACKLOG = 1024
_IDLE, _BETWEEN, _COUNT = 60, 10, 6
"""Seconds: a peer whose machine is gone is noticed after two minutes."""
_NO_TLS = "TCP that leaves this machine takes TLS; give --pki (cuse-crypto pki makes one)"


def check(rest: str) -> None:
    """Failure for what is no host and port."""
    host, _, port = rest.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed) or not port.isdecimal() or int(port) > 65535:
        raise Failure(f"tcp:{rest}: write tcp:HOST:PORT, or tcp:[ADDRESS]:PORT for IPv6")


def _split(rest: str) -> tuple[str, int]:
    host, _, port = rest.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Of a numeric address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def check_listener(sock: socket.socket, name: str, tls: Credentials | None) -> None:
    """Failure for one that others reach, without TLS."""
    if tls is None and not is_loopback(sock.getsockname()[0]):
        raise Failure(f"{name}: {_NO_TLS}")


def listen(rest: str, tls: Credentials | None) -> socket.socket:
    """Port 0 is any that is free."""
    host, port = _split(rest)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, place = found[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise Failure(f"cannot listen on tcp:{rest}: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        check_listener(sock, f"tcp:{rest}", tls)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Failure(f"cannot listen on tcp:{rest}: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def connect(rest: str, timeout: float, deadline: float, tls: Credentials | None) -> Connection:
    """OSError if nobody answers in time, or is not who it should be."""
    host, port = _split(rest)
    trouble = OSError(f"no address for {host}")
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        if tls is None and not is_loopback(str(place[0])):
            raise Failure(f"tcp:{rest}: {_NO_TLS}")
        sock = socket.socket(family, kind, protocol)
        try:
            return _connect(sock, place, host, timeout, deadline, tls)
        except OSError as error:
            sock.close()
            trouble = error
        except BaseException:
            sock.close()
            raise
    raise trouble


def _connect(
    sock: socket.socket,
    place: Any,
    host: str,
    timeout: float,
    deadline: float,
    tls: Credentials | None,
) -> Connection:
    sock.settimeout(timeout)
    sock.connect(place)
    tune(sock)
    if tls is None:
        return Connection(sock, deadline)
    connection = TlsConnection(tls.client(sock, host), timeout)
    try:
        connection.greet()
        tls.check(connection)
        connection.set_deadline(deadline)
    except BaseException:
        connection.close()
        raise
    return connection


def tune(sock: socket.socket) -> None:
    """Small messages at once, and an end to peers that are not there any more."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _BETWEEN)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _COUNT)
