"""The list of certificates that an authority has revoked."""

import os
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from cuse_crypto.cli.authority import ISSUED, load
from cuse_crypto.errors import Failure
from cuse_crypto.wire.tls import CERTIFICATE, CRL, now


def revoke(folder: Path, name: str) -> Path:
    """Put all certificates that ``name`` has had on the list of the authority; its path."""
    authority, signing = load(folder)
    serials = set(_serials(folder, name))
    if not serials:
        raise Failure(f"{folder} has issued nothing to {name}; see cuse-crypto pki show {folder}")
    number, before = _before(folder)
    began = now()
    builder = (
        x509.CertificateRevocationListBuilder(revoked_certificates=before)
        .issuer_name(authority.subject)
        .last_update(began)
        # An authority of one's own does not publish on time: it lasts as long as the authority.
        .next_update(authority.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number + 1), critical=False)
    )
    for serial in sorted(serials - {one.serial_number for one in before}):
        revoked = x509.RevokedCertificateBuilder(serial, began).build()
        builder = builder.add_revoked_certificate(revoked)
    made = builder.sign(signing, hashes.SHA256())
    return _write(folder / CRL, made.public_bytes(serialization.Encoding.PEM))


def _serials(folder: Path, name: str) -> Iterator[int]:
    if not name or name.startswith(".") or "/" in name:
        return
    for path in (folder / name / CERTIFICATE, *(folder / ISSUED / name).glob("*.crt")):
        try:
            yield x509.load_pem_x509_certificate(path.read_bytes()).serial_number
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Failure(f"{path} cannot be read: {error}") from None


def _before(folder: Path) -> tuple[int, list[x509.RevokedCertificate]]:
    """The number of the list that there is, and what is on it."""
    try:
        listed = x509.load_pem_x509_crl((folder / CRL).read_bytes())
        number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except FileNotFoundError:
        return 0, []
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise Failure(f"{folder / CRL} cannot be read: {error}") from None
    return number, list(listed)


def _write(path: Path, content: bytes) -> Path:
    """In one step: a back end may be reading it."""
    partial = path.with_name(path.name + ".new")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    return path
