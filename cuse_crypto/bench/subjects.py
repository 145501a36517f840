"""What can be measured: one way each to encrypt the same bytes with the same key.

An operation is a function without arguments that does it once: whatever can be prepared is, so
that what is measured is the call.
"""

import contextlib
import errno
import fcntl
import mmap
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.ioctls import IOCTLS, layout_of
from cuse_crypto.abi.structs import Cop, crypt_op, number
from cuse_crypto.client import CryptoDevice
from cuse_crypto.client.algorithms import find_cipher
from cuse_crypto.client.buffers import Pin
from cuse_crypto.errors import Failure
from cuse_crypto.layout import Width

Operation = Callable[[], object]
NO_SESSION = 0xFFFFFFFF
"""A number that no session has; to end it is no error, and no work."""
_WIDTH: Width = 64 if struct.calcsize("P") == 8 else 32
_ROWS = {row.name: row for row in IOCTLS}


class Work(NamedTuple):
    """What an operation is to do. ``size`` in bytes."""

    cipher: str
    size: int

    @property
    def row(self) -> Cipher:
        """The algorithm."""
        return find_cipher(self.cipher)

    @property
    def key(self) -> bytes:
        """Of the shortest size; its bytes differ."""
        return bytes(range(self.row.key_sizes[0]))


@contextlib.contextmanager
def no_work(work: Work, path: str) -> Iterator[Operation]:
    """An ioctl that the device answers at once, whatever ``work`` says."""
    row = _ROWS["CIOCFSESSION"]
    argument = bytearray(layout_of(row, _WIDTH).bytes(number(NO_SESSION)))
    with CryptoDevice(path) as device:
        yield partial(fcntl.ioctl, device.fileno(), row.number(_WIDTH), argument)


@contextlib.contextmanager
def device(work: Work, path: str) -> Iterator[Operation]:
    """CIOCCRYPT on a device; checked first: what was encrypted can be decrypted."""
    row = _ROWS["CIOCCRYPT"]
    iv = bytes(work.row.iv_size)
    with (
        CryptoDevice(path) as opened,
        opened.cipher(work.cipher, work.key) as session,
        _memory(work.size) as source,
        _memory(work.size) as target,
        Pin(iv, "iv") as start,
        Pin(source, "source", writable=True) as src,
        Pin(target, "target", writable=True) as dst,
    ):
        source[:] = (bytes(range(251)) * (work.size // 251 + 1))[: work.size]
        if session.decrypt(session.encrypt(source, iv=iv), iv=iv) != source[:]:
            raise OSError(errno.EBADMSG, "the plaintext did not come back", path)
        where = src.address, dst.address, 0, start.address if iv else 0
        argument = bytearray(layout_of(row, _WIDTH).size)
        request = crypt_op(session.id, Cop.ENCRYPT, 0, work.size, *where)
        layout_of(row, _WIDTH).pack_into(argument, 0, *request)
        yield partial(fcntl.ioctl, opened.fileno(), row.number(_WIDTH), argument)


@contextlib.contextmanager
def in_process(work: Work, path: str) -> Iterator[Operation]:
    """OpenSSL by ``cryptography``, without any device; a new IV in every operation."""
    from cryptography.hazmat.primitives.ciphers import Cipher as OpensslCipher
    from cryptography.hazmat.primitives.ciphers import algorithms, modes

    makers: dict[str, Callable[[bytes], Any]] = {
        "cbc": modes.CBC,
        "ctr": modes.CTR,
        "ecb": lambda iv: modes.ECB(),
    }
    if work.row.base != "aes" or work.row.mode not in makers:
        raise Failure(f"{work.cipher} is not measured there; aes-cbc, aes-ctr and aes-ecb are")
    key, mode, iv = algorithms.AES(work.key), makers[work.row.mode], bytes(work.row.iv_size)

    def encrypt() -> None:
        OpensslCipher(key, mode(iv)).encryptor().update_into(src, dst)

    room = work.size + work.row.block_size  # what update_into asks for, whatever it writes
    with (
        _memory(work.size) as source,
        _memory(room) as target,
        memoryview(source) as src,
        memoryview(target) as dst,
    ):
        yield encrypt


@contextlib.contextmanager
def kernel(work: Work, path: str) -> Iterator[Operation]:
    """The kernel's ciphers by AF_ALG sockets."""
    from cuse_crypto_backend.engines.af_alg_sockets import KernelCipher

    transform = KernelCipher(work.row, work.key)
    with contextlib.closing(transform), _memory(work.size) as source, _memory(work.size) as target:
        iv, src, dst = bytes(work.row.iv_size), memoryview(source), memoryview(target)
        with src, dst:
            yield partial(transform.run, Cop.ENCRYPT, iv, src, dst)


@contextlib.contextmanager
def _memory(size: int) -> Iterator[mmap.mmap]:
    """Whole pages of our own, as a buffer of ``malloc`` would be."""
    memory = mmap.mmap(-1, size)
    with contextlib.closing(memory):
        yield memory


KINDS: dict[str, Callable[[Work, str], contextlib.AbstractContextManager[Operation]]] = {
    "no_work": no_work,
    "device": device,
    "in_process": in_process,
    "kernel": kernel,
}
"""By the name under which a caller process is told."""


class Subject(NamedTuple):
    """Something to be measured: ``kind`` as in KINDS, at ``path`` where it has one."""

    name: str
    title: str
    kind: str
    path: str = ""

    def attempt(self, work: Work) -> None:
        """Do ``work`` once. OSError or Failure where it cannot be done."""
        with KINDS[self.kind](work, self.path) as operation:
            operation()
