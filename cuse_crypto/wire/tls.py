"""TLS 1.3 in which both sides show a certificate of one authority.

Certificates and keys are read when a process starts: later it may not be able to any more.
"""

import contextlib
import datetime
import select
import socket
import ssl
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cuse_crypto.errors import Failure
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent
from cuse_crypto.wire.messages import PeerError, Received

if TYPE_CHECKING:
    from cuse_crypto.wire.revocation import Certified

CA, CERTIFICATE, KEY, CRL = "ca.crt", "tls.crt", "tls.key", "ca.crl"
"""Names in a folder of ``--pki``."""
SOON = datetime.timedelta(days=30)
"""Before its end a certificate is warned of."""
_SHORT = 16 << 10
"""Bytes of a message that is no burden while its peer does not read it."""
_FOREIGN = "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNEXPECTED_MESSAGE"
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants to see a certificate; give --pki",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it refuses our certificate, which has expired",
    "TLSV1_ALERT_UNKNOWN_CA": "it refuses our certificate, which is of another authority",
    "TLSV1_ALERT_DECRYPT_ERROR": "it refuses our certificate, which is of another authority",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it refuses our certificate, which is not for this side",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
}


class Refused(PeerError):
    """The peer is not who it would have to be."""


class Credentials:
    """A certificate, its key, and the authority whose certificates the other side may have."""

    def __init__(self, certificate: Path, key: Path, ca: Path, crl: Path | None = None) -> None:
        """Failure for what cannot be read or used, or has expired. There need be no file ``crl``,
        of certificates that have been revoked.
        """
        from cuse_crypto.wire.revocation import Revoked

        _check_key(key)
        self.certificate = certificate
        self.expires = expiry(certificate)
        if self.expires <= now():
            raise Failure(f"{certificate} expired on {self.expires:%Y-%m-%d}; issue another one")
        expiry(ca)
        self._server = self._context(ssl.PROTOCOL_TLS_SERVER, certificate, key, ca)
        # Who comes again shows its certificate again.
        self._server.num_tickets = 0
        self._client = self._context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, ca)
        self.revoked = Revoked(crl, ca)

    @classmethod
    def in_folder(cls, folder: Path) -> "Credentials":
        """As ``cuse-crypto pki issue`` leaves it."""
        return cls(folder / CERTIFICATE, folder / KEY, folder / CA, folder / CRL)

    def _context(self, side: int, certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(ca)
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise Failure(f"{certificate} and {key} cannot be used: {reason}") from None
        return context

    def remark(self) -> str:
        """What is to be said of a certificate that ends soon; else nothing."""
        left = self.expires - now()
        if left > SOON:
            return ""
        return f"{self.certificate} expires in {left.days} days; issue another one"

    def server(self, sock: socket.socket) -> ssl.SSLSocket:
        """``sock`` as that of a back end; no handshake yet. OSError if the peer has gone."""
        # Asked before: what wraps one whose peer has gone does not close it.
        sock.getpeername()
        return self._server.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def client(self, sock: socket.socket, host: str) -> ssl.SSLSocket:
        """``sock`` as that of a front end, which wants to reach ``host``; after the handshake
        ``check`` is to be called.
        """
        return self._client.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)

    def check(self, connection: "TlsConnection") -> None:
        """Refused for a back end whose certificate has been revoked by now."""
        self.revoked.refresh()
        certificate = connection.certificate()
        if self.revoked.has(certificate):
            raise Refused(f"its certificate ({certificate.name}) has been revoked")


def _no_password() -> str:
    raise ValueError("the key is encrypted; nobody is there to be asked for its passphrase")


def _check_key(key: Path) -> None:
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError as error:
        raise Failure(f"{key}: {error.strerror}") from None
    if mode & 0o037:
        raise Failure(f"{key} is open to others (mode {mode:04o}); chmod 0600 {key}")


def now() -> datetime.datetime:
    """In UTC."""
    return datetime.datetime.now(datetime.UTC)


def expiry(certificate: Path) -> datetime.datetime:
    """When it ends, in UTC; Failure for what is no certificate."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except OSError as error:
        raise Failure(f"{certificate}: {error.strerror}") from None
    except ValueError:
        raise Failure(f"{certificate} is no certificate in PEM") from None


class TlsConnection(Connection):
    """A connection whose bytes are encrypted; after ``greet`` the peer is known."""

    socket: ssl.SSLSocket

    def __init__(self, sock: ssl.SSLSocket, deadline: float = 0) -> None:
        super().__init__(sock, deadline)

    def set_timeouts(self, receiving: float, sending: float) -> None:
        """Python's own, one for both: what TLS reads is not what the kernel has received."""
        self._timeouts = receiving, sending
        self.socket.settimeout(receiving or None)

    def greet(self) -> None:
        """The handshake; Refused, ConnectionLost or PeerSilent if it comes to nothing."""
        self.greet_by_steps()

    def greet_by_steps(self) -> int:
        """As ``greet``, for a socket that does not block: what poll(2) has to wait for before the
        next step, 0 when it is done. After Refused the peer should hear why.
        """
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            return select.POLLIN
        except ssl.SSLWantWriteError:
            return select.POLLOUT
        except ssl.SSLEOFError:
            raise ConnectionLost("the peer left in the middle of the handshake") from None
        except ssl.SSLError as error:
            raise Refused(explained(error)) from None
        except TimeoutError:
            raise PeerSilent("no handshake within the deadline") from None
        except (OSError, ValueError) as error:
            raise ConnectionLost(getattr(error, "strerror", None) or error) from None
        return 0

    def certificate(self) -> "Certified":
        """The peer's, after the handshake."""
        from cuse_crypto.wire.revocation import Certified

        try:
            return Certified.of(self.socket.getpeercert(binary_form=True) or b"")
        except ValueError as error:
            raise Refused(f"its certificate cannot be read: {error}") from None

    def stop_sending(self) -> None:
        """The alert was the last word."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def received_in_the_clear(self) -> bytes:
        """What the peer still sends after that; nothing at its end."""
        try:
            return socket.socket.recv(self.socket, 65536)
        except OSError:
            return b""

    def send(self, message: Received, head: int = 0, descriptors: Sequence[int] = ()) -> None:
        """As in Connection; there are no descriptors."""
        receiving, sending = self._timeouts
        # A short one stays in the kernel's buffer, or keeps nothing but its thread.
        is_long = sending != receiving and len(message) > _SHORT
        try:
            if is_long:
                self.socket.settimeout(sending or None)
            self._send_rest(message, 0)
            if is_long:
                self.socket.settimeout(receiving or None)
        except TimeoutError:
            raise PeerSilent("the peer takes no more data") from None
        except PeerSilent:
            raise
        except ssl.SSLError as error:
            raise ConnectionLost(explained(error)) from error
        except OSError as error:
            raise ConnectionLost(error.strerror or error) from error

    def _send_rest(self, message: Received, sent: int) -> None:
        began = time.monotonic()
        while sent < len(message):
            sent += self.socket.send(message[sent:])
            self._keep_up(began, sent)

    def receive_first(self, buffer: memoryview, most: int) -> tuple[Received | None, list[int]]:
        """As receive; there are no descriptors."""
        return self.receive(buffer), []

    def _receive(self, buffer: memoryview, start: int) -> int:
        try:
            return self.socket.recv_into(buffer[start:] if start else buffer)
        except TimeoutError:
            raise PeerSilent("no answer within the deadline") from None
        except ssl.SSLError as error:
            raise ConnectionLost(explained(error)) from error
        except OSError as error:
            raise ConnectionLost(error.strerror or error) from error

    def shut(self) -> None:
        """As in Connection. After SSLSocket.shutdown a thread might send in the clear."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


def explained(error: ssl.SSLError) -> str:
    """What is wrong, for people."""
    reason = error.reason or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message.rstrip('.')}"
    if reason in _FOREIGN:
        return "it does not speak TLS"
    return _REASONS.get(reason, f"TLS: {reason.lower().replace('_', ' ')}")


def secured(
    folder: Path | None,
    certificate: Path | None,
    key: Path | None,
    ca: Path | None,
    crl: Path | None = None,
) -> Credentials | None:
    """From the options of a command; None where there are none. Failure for some without others."""
    if crl and not crl.exists():
        raise Failure(f"{crl} is not there; cuse-crypto pki revoke makes a list")
    if folder:
        return Credentials(
            certificate or folder / CERTIFICATE,
            key or folder / KEY,
            ca or folder / CA,
            crl or folder / CRL,
        )
    if certificate and key and ca:
        return Credentials(certificate, key, ca, crl)
    if certificate or key or ca or crl:
        raise Failure("TLS takes all of --tls-cert, --tls-key and --tls-ca, or --pki FOLDER")
    return None
