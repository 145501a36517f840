"""A small certificate authority: one key in a folder, and a folder for each side that it knows."""

import datetime
import ipaddress
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cuse_crypto.errors import Failure
from cuse_crypto.wire.tls import CA, CERTIFICATE, CRL, KEY, SOON, now

CA_KEY = "ca.key"
ISSUED = ".issued"
"""The folder with all certificates that were ever issued, by name and serial number."""
CA_DAYS, DAYS = 3650, 365
ROLES = {"backend": ExtendedKeyUsageOID.SERVER_AUTH, "device": ExtendedKeyUsageOID.CLIENT_AUTH}
_SKEW = datetime.timedelta(minutes=5)
"""Clocks differ."""


class Issued(NamedTuple):
    """A certificate, as ``show`` lists it."""

    name: str
    role: str
    hosts: list[str]
    expires: datetime.datetime
    is_revoked: bool = False

    @property
    def remark(self) -> str:
        """What is to be done about it, if anything."""
        if self.is_revoked:
            return "revoked"
        if self.expires <= now():
            return "expired"
        return "expires soon" if self.expires - now() < SOON else ""


def found(folder: Path) -> None:
    """Make the authority in ``folder``; Failure if there is one."""
    if (folder / CA_KEY).exists():
        raise Failure(f"{folder} has an authority already; choose another folder")
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("cuse-crypto")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    _write(folder, CA_KEY, CA, key, builder.sign(key, hashes.SHA256()))


def issue(folder: Path, name: str, role: str, hosts: Sequence[str], days: int) -> Path:
    """A certificate for one side; the folder for its ``--pki``, below ``folder``."""
    if not name or name.startswith(".") or "/" in name:
        raise Failure(f"{name!r} cannot be the name of a folder; choose another one")
    authority, signing = load(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([_general(host) for host in hosts or [name]])
    signer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name(name), authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ROLES[role]]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False
        )
    )
    target, certificate = folder / name, builder.sign(signing, hashes.SHA256())
    _remember(folder, name, certificate)
    _write(target, KEY, CERTIFICATE, key, certificate)
    for public in (CA, CRL):
        if (folder / public).exists():
            (target / public).write_bytes((folder / public).read_bytes())
    return target


def load(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The authority in ``folder``, and its key; Failure if there is none."""
    try:
        authority = x509.load_pem_x509_certificate((folder / CA).read_bytes())
        signing = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
    except OSError as error:
        remedy = f"make it with: cuse-crypto pki init {folder}"
        raise Failure(f"{folder} is no authority ({error.strerror}); {remedy}") from None
    except ValueError as error:
        raise Failure(f"{folder} is no authority ({error})") from None
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    return authority, signing


def _remember(folder: Path, name: str, certificate: x509.Certificate) -> None:
    """Before anybody has it: another one takes its place in the folder, but does not end it."""
    kept = folder / ISSUED / name
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = kept / f"{certificate.serial_number:x}.crt"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise Failure(f"{kept}: {error.strerror}") from None


def issued(folder: Path) -> Iterator[Issued]:
    """The authority itself, and all that it has issued here."""
    if not (folder / CA).exists():
        raise Failure(f"{folder} is no authority; make it with: cuse-crypto pki init {folder}")
    revoked = revoked_serials(folder)
    for path in (folder / CA, *sorted(folder.glob(f"*/{CERTIFICATE}"))):
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            raise Failure(f"{path} cannot be read: {error}") from None
        name = "authority" if path.parent == folder else path.parent.name
        ends, number = certificate.not_valid_after_utc, certificate.serial_number
        yield Issued(name, *_described(certificate), ends, number in revoked)


def revoked_serials(folder: Path) -> set[int]:
    """By the list in ``folder``; none where there is no list."""
    try:
        listed = x509.load_pem_x509_crl((folder / CRL).read_bytes())
    except FileNotFoundError:
        return set()
    except (OSError, ValueError) as error:
        raise Failure(f"{folder / CRL} cannot be read: {error}") from None
    return {one.serial_number for one in listed}


def _described(certificate: x509.Certificate) -> tuple[str, list[str]]:
    """Role and hosts."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "", []
    roles = [role for role, number in ROLES.items() if number in usage]
    return " ".join(roles), [str(name.value) for name in names]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    began = now()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began - _SKEW + datetime.timedelta(days=min(days, 0)))
        .not_valid_after(began + datetime.timedelta(days=days))
        .add_extension(identifier, critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise Failure(f"{host!r} is no name of a host; give one with --host") from None


def _write(
    folder: Path,
    key_name: str,
    certificate_name: str,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
) -> None:
    pem = serialization.Encoding.PEM
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never open to others, not for a moment, and whatever was there.
        (folder / key_name).unlink(missing_ok=True)
        fd = os.open(folder / key_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(key.private_bytes(pem, form, plain))
        (folder / certificate_name).write_bytes(certificate.public_bytes(pem))
    except OSError as error:
        raise Failure(f"{folder}: {error.strerror}") from None
