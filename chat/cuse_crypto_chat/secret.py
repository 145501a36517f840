"""The secret that members share, and the keys that come from it.

A secret is read from a file or asked for, never taken from the command line, where ps shows it.
"""

import contextlib
import getpass
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cuse_crypto.errors import Failure

MIN_SECRET = 12
MAX_SECRET = 4096
"""Bytes."""
KEY_SIZE = 32
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 17, 8, 1
"""128 MiB and about half a second for each guess (OWASP Password Storage Cheat Sheet)."""
ROOM_LABEL = b"cuse-crypto chat 1 room\0"
SENDER_LABEL = b"cuse-crypto chat 1 sender"


@contextlib.contextmanager
def secret(file: Path | None) -> Iterator[bytearray]:
    """The secret, for as long as it takes to derive a key; overwritten after that. Failure."""
    data = _read(file) if file else _ask()
    try:
        if len(data) < MIN_SECRET:
            raise Failure(
                f"a secret has at least {MIN_SECRET} bytes; "
                "cuse-crypto chat secret FILE makes one that cannot be guessed"
            )
        yield data
    finally:
        data[:] = bytes(len(data))


def _read(file: Path) -> bytearray:
    data = bytearray(MAX_SECRET + 2)
    try:
        with file.open("rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                raise Failure(f"{file} can be read by others; chmod 600 {file}")
            size = 0
            while part := stream.readinto(memoryview(data)[size:]):
                size += part
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}; see --secret-file") from None
    del data[size:]
    if size > MAX_SECRET + 1:
        raise Failure(f"{file} has more than {MAX_SECRET} bytes; it is no secret to share")
    if data.endswith(b"\n"):
        del data[-1:]
    return data


def _ask() -> bytearray:
    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        raise Failure("there is no terminal to ask for the secret on; use --secret-file") from None
    os.close(tty)
    try:
        return bytearray(getpass.getpass("Secret of the room: ").encode(errors="surrogateescape"))
    except (EOFError, KeyboardInterrupt):
        raise Failure("no secret was given") from None


def make_secret_file(file: Path) -> None:
    """A new file, mode 0600, with 256 random bits in one line of text. Failure if it exists."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w") as stream:
            stream.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        raise Failure(f"{file} exists; choose another name, or remove it first") from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}; choose another place") from None


def room_key(shared: bytearray, room: str) -> bytes:
    """32 bytes from a secret and the name of a room, slowly: what a guess costs."""
    digest = Hash(SHA256())
    digest.update(ROOM_LABEL + room.encode())
    kdf = Scrypt(digest.finalize(), KEY_SIZE, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    return bytes(kdf.derive(shared))


def sender_key(key: bytes, stream: bytes) -> bytes:
    """The AES-256 key of one stream: 32 bytes from the room's key and the sender's random value."""
    return bytes(HKDF(SHA256(), KEY_SIZE, salt=stream, info=SENDER_LABEL).derive(key))


def key_bytes(file: Path | None, size: int, option: str) -> bytes:
    """``size`` raw bytes for the classic wire; zeros without a file, as the course has it."""
    if file is None:
        return bytes(size)
    try:
        with file.open("rb") as stream:
            data = stream.read(size + 1)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}; see {option}") from None
    if len(data) != size:
        raise Failure(f"{file} does not have {size} bytes, which {option} takes, raw")
    return data
