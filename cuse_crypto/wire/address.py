"""Addresses of a back end: ``SCHEME:REST``, one row a scheme."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure
from cuse_crypto.wire.connection import Connection
from cuse_crypto.wire.tls import Credentials
from cuse_crypto.wire.transports import inherited, tcp, unix, virtio, vsock


class Transport(NamedTuple):
    """How one scheme listens and connects; each takes what follows the colon."""

    check: Callable[[str], None]
    listen: Callable[[str, Credentials | None], socket.socket]
    connect: Callable[[str, float, float, Credentials | None], Connection]
    example: str


class Address(NamedTuple):
    """A parsed address, and for ``tcp`` what shows who we are."""

    scheme: str
    rest: str
    tls: Credentials | None = None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Failure for a scheme that is not there, or for what cannot be behind it."""
        scheme, colon, rest = text.partition(":")
        if not colon or not rest or scheme not in TRANSPORTS:
            examples = ", ".join(transport.example for transport in TRANSPORTS.values())
            raise Failure(f"{text!r} is no address of a back end; write {examples}")
        TRANSPORTS[scheme].check(rest)
        return cls(scheme, rest)

    def secured(self, tls: Credentials | None) -> "Address":
        """The same, with a certificate to show."""
        return self._replace(tls=tls)

    def listen(self) -> socket.socket:
        """A listening socket; Failure with the remedy if it cannot be had."""
        return TRANSPORTS[self.scheme].listen(self.rest, self.tls)

    def connect(self, timeout: float, deadline: float = 0) -> Connection:
        """A connection within ``timeout`` seconds; OSError or PeerError if it comes to nothing.

        ``deadline`` is for what is said later, as in Connection.
        """
        return TRANSPORTS[self.scheme].connect(self.rest, timeout, deadline, self.tls)

    def bound(self, listener: socket.socket) -> "Address":
        """With the port that the system has chosen, where that was left to it."""
        if self.scheme != "tcp":
            return self
        host = self.rest.rpartition(":")[0]
        return self._replace(rest=f"{host}:{listener.getsockname()[1]}")

    def clean(self) -> None:
        """Remove what listening left in the file system."""
        if self.scheme == "unix":
            Path(self.rest).unlink(missing_ok=True)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


# fmt: off
TRANSPORTS = {
    "fd":     Transport(inherited.check, inherited.listen, inherited.connect, "fd:3"),
    "unix":   Transport(unix.check, unix.listen, unix.connect,
                        "unix:/run/cuse-crypto/cryptodev0.sock"),
    "vsock":  Transport(vsock.check, vsock.listen, vsock.connect, "vsock:2:5000"),
    "tcp":    Transport(tcp.check, tcp.listen, tcp.connect, "tcp:crypto.example.org:5000"),
    "virtio": Transport(virtio.check, virtio.listen, virtio.connect, "virtio:cuse-crypto"),
}
# fmt: on
"""By scheme."""
