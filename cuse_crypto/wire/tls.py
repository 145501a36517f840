"""TLS 1.3 in which both sides show a certificate of one authority.

Certificates and keys are read when a process starts: later it may not be able to any more.
"""

import contextlib
import datetime
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path

from cuse_crypto.errors import Failure
from cuse_crypto.wire.connection import Connection, ConnectionLost, PeerSilent
from cuse_crypto.wire.messages import PeerError, Received

CA, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
"""Names in a folder of ``--pki``."""
SOON = datetime.timedelta(days=30)
"""Before its end a certificate is warned of."""
_LINGER, _LINGERING = 1.0, 8
"""Seconds, and how often, that a refused peer is heard out."""
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

    def __init__(self, certificate: Path, key: Path, ca: Path) -> None:
        """Failure for what cannot be read or used, or has expired."""
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

    @classmethod
    def in_folder(cls, folder: Path) -> "Credentials":
        """As ``cuse-crypto pki issue`` leaves it."""
        return cls(folder / CERTIFICATE, folder / KEY, folder / CA)

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
        """``sock`` as that of a front end, which wants to reach ``host``."""
        return self._client.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)


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

    def set_deadline(self, deadline: float) -> None:
        """Python's own: what TLS reads is not what the kernel has received."""
        self.socket.settimeout(deadline or None)

    def greet(self) -> None:
        """The handshake; Refused, ConnectionLost or PeerSilent if it comes to nothing."""
        try:
            self.socket.do_handshake()
        except ssl.SSLEOFError:
            raise ConnectionLost("the peer left in the middle of the handshake") from None
        except ssl.SSLError as error:
            reason = explained(error)
            self._linger()
            raise Refused(reason) from None
        except TimeoutError:
            raise PeerSilent("no handshake within the deadline") from None
        except (OSError, ValueError) as error:
            raise ConnectionLost(getattr(error, "strerror", None) or error) from None

    def _linger(self) -> None:
        """Until the peer has heard why: a reset would take the word away from it."""
        plain = socket.socket
        with contextlib.suppress(OSError):
            self.socket.settimeout(_LINGER)
            plain.shutdown(self.socket, socket.SHUT_WR)
            for _ in range(_LINGERING):
                if not plain.recv(self.socket, 65536):
                    break

    def send(self, message: Received, head: int = 0, descriptors: Sequence[int] = ()) -> None:
        """As in Connection; there are no descriptors."""
        sent = 0
        try:
            while sent < len(message):
                sent += self.socket.send(message[sent:])
        except TimeoutError:
            raise PeerSilent("the peer takes no more data") from None
        except ssl.SSLError as error:
            raise ConnectionLost(explained(error)) from error
        except OSError as error:
            raise ConnectionLost(error.strerror or error) from error

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
    folder: Path | None, certificate: Path | None, key: Path | None, ca: Path | None
) -> Credentials | None:
    """From the options of a command; None where there are none. Failure for some without others."""
    if folder:
        return Credentials(
            certificate or folder / CERTIFICATE, key or folder / KEY, ca or folder / CA
        )
    if certificate and key and ca:
        return Credentials(certificate, key, ca)
    if certificate or key or ca:
        raise Failure("TLS takes all of --tls-cert, --tls-key and --tls-ca, or --pki FOLDER")
    return None
