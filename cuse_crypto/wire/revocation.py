"""Certificates that are of no use any more, by the lists of the authorities that have issued them.

A list is a file in PEM (RFC 5280, 5): ``cuse-crypto pki revoke`` writes one. It is checked here and
not by OpenSSL, which reads lists from files only: a back end that serves opens none.
"""

import contextlib
import datetime
import hashlib
import importlib
import logging
import struct
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cuse_crypto.errors import Failure

log = logging.getLogger(__name__)

LONGEST = 16 << 20
"""Bytes of a file."""
LENGTH = struct.Struct("=I")
"""Before the content of a file, where it is sent to another process."""
_BEGIN = b"-----BEGIN X509 CRL-----"


class Certified(NamedTuple):
    """What a peer's certificate says. ``name`` is for people."""

    issuer: x509.Name
    serial: int
    fingerprint: bytes
    expires: datetime.datetime
    name: str

    @classmethod
    def of(cls, der: bytes) -> "Certified":
        """ValueError for what cannot be read."""
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        serial = certificate.serial_number
        name = str(names[0].value) if names else f"{serial:x}"
        # Its owner may have meant it for a reader of the log.
        shown = "".join(char if char.isprintable() else "?" for char in name)[:64]
        digest = hashlib.sha256(der).digest()
        return cls(certificate.issuer, serial, digest, certificate.not_valid_after_utc, shown)


class Revoked:
    """What has been revoked so far. ``read`` changes it as a whole."""

    def __init__(self, path: Path | None, ca: Path) -> None:
        """Nothing, where there is no file ``path``; Failure for one that is no list of ``ca``."""
        self.path = path
        self._authorities = x509.load_pem_x509_certificates(ca.read_bytes())
        _load_verification(self._authorities)
        self._serials: frozenset[tuple[x509.Name, int]] = frozenset()
        self.seen: tuple[int, ...] = ()
        """The version of the file that was read."""
        try:
            self._read_if_changed()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Failure(f"{path} is no list of revoked certificates: {reason}") from None

    def has(self, certificate: Certified) -> bool:
        """It has been revoked."""
        return (certificate.issuer, certificate.serial) in self._serials

    def refresh(self) -> None:
        """Take up the file if it has changed; what cannot be used leaves all as it was."""
        try:
            self._read_if_changed()
        except (OSError, ValueError) as error:
            self._complain(error)

    def take(self, pem: bytes) -> bool:
        """Take up the content of the file; whether it could be used."""
        try:
            self._serials = self._parse(pem)
        except ValueError as error:
            self._complain(error)
            return False
        log.info("%s: %d certificates are revoked", self.path, len(self._serials))
        return True

    def _complain(self, error: Exception) -> None:
        log.error("%s: %s; the list before it still holds", self.path, error)

    def _read_if_changed(self) -> None:
        found = version(self.path)
        if self.path and found and found != self.seen:
            self.seen = found
            self._serials = self._parse(self.path.read_bytes())

    def _parse(self, pem: bytes) -> frozenset[tuple[x509.Name, int]]:
        found = set()
        for part in pem.split(_BEGIN)[1:]:
            revoked = x509.load_pem_x509_crl(_BEGIN + part)
            if not any(_is_of(revoked, authority) for authority in self._authorities):
                raise ValueError("it is not signed by the authority")
            found |= {(revoked.issuer, one.serial_number) for one in revoked}
        if _BEGIN not in pem:
            raise ValueError("there is no list in it")
        return frozenset(found)


def _load_verification(authorities: Collection[x509.Certificate]) -> None:
    """Have what it takes in memory now: a back end that serves can open no module."""
    for authority in authorities:
        with contextlib.suppress(TypeError, ValueError, InvalidSignature):
            authority.verify_directly_issued_by(authority)
    importlib.import_module("cryptography.hazmat.backends")


def _is_of(revoked: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    same = revoked.issuer == authority.subject
    return same and revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]


def framed(content: bytes) -> bytes:
    """The content of a file, as it is sent to another process; of too long a file a part."""
    content = content[:LONGEST]
    return LENGTH.pack(len(content)) + content


def version(path: Path | None) -> tuple[int, ...]:
    """Changes when the file does; empty for none."""
    try:
        status = path.stat() if path else None
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size) if status else ()
