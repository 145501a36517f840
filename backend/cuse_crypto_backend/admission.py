"""Who may connect: by the kernel's word on one host, and by a certificate elsewhere."""

import logging
import os
import socket
import struct
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

from cuse_crypto.wire.connection import Connection
from cuse_crypto.wire.tls import Credentials, Refused, TlsConnection, now
from cuse_crypto.wire.transports import tcp, vsock

if TYPE_CHECKING:
    from cuse_crypto.wire.revocation import Certified

log = logging.getLogger(__name__)

QUIET = 60.0
"""Seconds in which the same reason for a refusal is not told again."""
MOST = 32
"""Different reasons that are told in that time."""


class Peer(NamedTuple):
    """Who is at the other end: ``key`` is the same for all its connections."""

    key: tuple[str, object]
    name: str
    owner: Hashable
    """Whose share of everything it uses: that of all processes of a user, say."""
    identity: Hashable
    """Whose guests are its own."""
    is_known: bool = True
    """It need not say more to be let in."""
    certificate: "Certified | None" = None

    @classmethod
    def alone(cls, kind: str, number: object, name: str, is_known: bool = True) -> "Peer":
        """One that shares nothing with another peer."""
        key = kind, number
        return cls(key, name, key, key, is_known)


ANYONE = Peer.alone("test", 0, "anyone")
"""For a Channel without an Admission."""


class Admission:
    """The users, virtual machines and certificates that may connect."""

    def __init__(
        self,
        uids: frozenset[int],
        cids: frozenset[int] = frozenset(),
        tls: Credentials | None = None,
    ) -> None:
        """``cids``: none are those of this machine itself. To be made before privileges go."""
        self.uids = uids
        self.cids = cids or vsock.own_cids()
        self.tls = tls
        self._told: dict[str, float] = {}

    @classmethod
    def of_this_user(cls) -> "Admission":
        """Root, and the user of this process."""
        return cls(frozenset({0, os.geteuid()}))

    def peer(self, sock: socket.socket) -> Peer:
        """Who connects with ``sock``, as far as that is known now; Refused with the remedy."""
        if sock.family == socket.AF_UNIX:
            return self._process(sock)
        if sock.family == socket.AF_VSOCK:
            return self._machine(sock)
        host = str(sock.getpeername()[0])
        if self.tls is None and not tcp.is_loopback(host):
            raise Refused(f"refused {host}, for there is no TLS; give --pki")
        return Peer.alone("tcp", host, host, is_known=False)

    def _process(self, sock: socket.socket) -> Peer:
        size = struct.calcsize("3i")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = struct.unpack("3i", credentials)
        if uid not in self.uids:
            raise Refused(
                f"refused a front end of uid {uid} (pid {pid}); allow it with --allow-uid {uid}"
            )
        # A virtual machine's is the QEMU that it runs in, of a user who may have others.
        return Peer(("pid", pid), f"pid {pid}", ("uid", uid), ("pid", pid, uid))

    def _machine(self, sock: socket.socket) -> Peer:
        cid = sock.getpeername()[0]
        if cid not in self.cids:
            raise Refused(f"refused CID {cid}; allow it with --allow-cid {cid}")
        return Peer.alone("cid", cid, f"CID {cid}")

    def connection(self, sock: socket.socket, deadline: float) -> Connection:
        """What ``peer`` has let in; with TLS it is known only when it has shaken hands."""
        if sock.family == socket.AF_VSOCK:
            return vsock.VsockConnection(sock, deadline)
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return Connection(sock, deadline)
        tcp.tune(sock)
        if self.tls is None:
            return Connection(sock, deadline)
        return TlsConnection(self.tls.server(sock), deadline)

    def certified(self, connection: TlsConnection, host: str) -> Peer:
        """Who has shown a certificate from ``host``; Refused if that has been revoked."""
        certificate = connection.certificate()
        key = "certificate", certificate.fingerprint
        name = f"{host} ({certificate.name})"
        peer = Peer(key, name, key, key, is_known=False, certificate=certificate)
        if reason := self.objection(peer):
            raise Refused(reason)
        return peer

    def objection(self, peer: Peer) -> str:
        """Why the certificate of ``peer`` is of no use any more; nothing for a good one."""
        certificate = peer.certificate
        if not (certificate and self.tls):
            return ""
        if self.tls.revoked.has(certificate):
            return f"the certificate of {certificate.name} has been revoked"
        return "its certificate has expired" if certificate.expires <= now() else ""

    def tell(self, reason: str) -> None:
        """Log a refusal: once, for who is refused tends to come again and again."""
        now = time.monotonic()
        if now - self._told.get(reason, -QUIET) < QUIET:
            return
        # All that were told in the last while: the oldest are first.
        for told, when in list(self._told.items()):
            if now - when < QUIET:
                break
            del self._told[told]
        if len(self._told) == MOST:
            self._told[""] = now
            log.warning("more refusals than %d in %g s: others are not logged", MOST, QUIET)
        if len(self._told) < MOST:
            self._told[reason] = now
            log.warning("%s", reason)
