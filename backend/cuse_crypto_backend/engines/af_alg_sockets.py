"""The kernel's ciphers and AEADs by AF_ALG sockets, each the owner of its descriptors.

A bound socket is an algorithm with its key; sockets accepted from it are operations. The kernel
keeps what is sent until the result is asked for, so that a send beyond the socket's buffer waits,
as does a receive of more than the result: hence sizes are exact here, and nothing ever waits.
Source: Linux, Documentation/crypto/userspace-if.rst and crypto/af_alg.c.
"""

import contextlib
import errno
import socket
from collections.abc import Sequence
from mmap import PAGESIZE

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.structs import Cop
from cuse_crypto.layout import Buffer
from cuse_crypto_backend.engines.engine import AuthRequest

BLOCK = 16
_BUFFERS = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}
"""Socket options, and their forms that go beyond the administrator's limit (SO_SNDBUFFORCE)."""


def bound(kind: str, name: str, key: bytes = b"") -> socket.socket:
    """``kind`` is skcipher, aead or hash; OSError(ENOENT) for what the kernel lacks."""
    algorithm = socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
    try:
        algorithm.bind((kind, name))
        if key:
            algorithm.setsockopt(socket.SOL_ALG, socket.ALG_SET_KEY, key)
    except OSError:
        algorithm.close()
        raise
    return algorithm


class Transform:
    """A cipher or an AEAD with its key, and one socket for its operations."""

    def __init__(self, kind: str, name: str, key: bytes) -> None:
        self._algorithm = bound(kind, name, key)
        self._operation: socket.socket | None = None

    def set_tag_size(self, size: int) -> None:
        """Of an AEAD; OSError(EINVAL) if it has no such tags."""
        # Refused as long as there are operations.
        self._end()
        self._algorithm.setsockopt(socket.SOL_ALG, socket.ALG_SET_AEAD_AUTHSIZE, None, size)

    def capacity(self, wanted: int = 0) -> int:
        """Bytes that one operation can have; buffers grow to ``wanted`` if the kernel lets them."""
        operation = self._begin()
        sizes = []
        for option, force in _BUFFERS.items():
            size = operation.getsockopt(socket.SOL_SOCKET, option)
            if size < wanted:
                operation.setsockopt(socket.SOL_SOCKET, option, wanted)
                with contextlib.suppress(PermissionError):
                    operation.setsockopt(socket.SOL_SOCKET, force, wanted)
                size = operation.getsockopt(socket.SOL_SOCKET, option)
            sizes.append(size - size % PAGESIZE)
        return min(sizes)

    def run(
        self,
        op: int,
        iv: bytes,
        src: Sequence[Buffer],
        dst: Sequence[Buffer],
        size: int,
        auth_size: int = 0,
    ) -> None:
        """From all of ``src`` to ``size`` bytes in ``dst``; ENOMEM for more than ``capacity()``."""
        direction = socket.ALG_OP_ENCRYPT if op == Cop.ENCRYPT else socket.ALG_OP_DECRYPT
        operation = self._begin()
        try:
            sent = operation.sendmsg_afalg(
                src, op=direction, iv=iv, assoclen=auth_size, flags=socket.MSG_DONTWAIT
            )
            if sent != sum(map(len, src)):
                raise OSError(errno.ENOMEM, "more than the socket's buffer holds")
            if operation.recvmsg_into(dst, 0, socket.MSG_DONTWAIT)[0] != size:
                raise OSError(errno.EIO, "not all of the result")
        except OSError:
            # What was sent may lie there still.
            self._end()
            raise

    def close(self) -> None:
        """Drop the key."""
        self._end()
        self._algorithm.close()

    def _begin(self) -> socket.socket:
        if self._operation is None:
            self._operation = self._algorithm.accept()[0]
        return self._operation

    def _end(self) -> None:
        if self._operation is not None:
            self._operation.close()
            self._operation = None


class KernelCipher:
    """A cipher; data of any size, in parts."""

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        self._cipher = cipher
        self._tweaks: Transform | None = None
        self._transform = Transform("skcipher", cipher.kernel_name, key)
        try:
            # Half of what fits, since the kernel counts whole pages.
            self._part = max(self._transform.capacity() // 2, PAGESIZE) // PAGESIZE * PAGESIZE
            if cipher.mode == "xts":
                self._tweaks = Transform("skcipher", f"ecb({cipher.base})", key[len(key) // 2 :])
        except OSError:
            self._transform.close()
            raise

    def run(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        """``src`` to the start of ``dst``; whole blocks."""
        for start in range(0, len(src), self._part):
            part = src[start : start + self._part]
            out = dst[start : start + len(part)]
            self._transform.run(op, iv, [part], [out], len(part))
            if start + len(part) < len(src):
                iv = self._next_iv(op, iv, part, out)

    def close(self) -> None:
        """Drop the keys."""
        self._transform.close()
        if self._tweaks:
            self._tweaks.close()

    def _next_iv(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> bytes:
        """The IV for the part after this one."""
        if self._tweaks is None:
            return self._cipher.next_iv(op, iv, src, dst)
        # The IV that the kernel will encrypt to the tweak of the middle of a data unit.
        tweak = bytearray(BLOCK)
        self._tweaks.run(Cop.ENCRYPT, b"", [iv], [tweak], BLOCK)
        tweak[:] = times_power(tweak, len(src) // BLOCK)
        self._tweaks.run(Cop.DECRYPT, b"", [bytes(tweak)], [tweak], BLOCK)
        return bytes(tweak)


def times_power(tweak: Buffer, exponent: int) -> bytes:
    """The tweak of XTS ``exponent`` blocks later (IEEE 1619-2007, 5.2): its product with x^n."""
    product = int.from_bytes(tweak, "little") << exponent
    while high := product >> 128:
        # x^128 = x^7 + x^2 + x + 1
        product = product & ((1 << 128) - 1) ^ high ^ high << 1 ^ high << 2 ^ high << 7
    return product.to_bytes(BLOCK, "little")


class KernelAead:
    """GCM or CCM. In one piece, so that the socket's memory limits its size (sysctl net.core)."""

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        self._transform = Transform("aead", cipher.kernel_name, key)
        self._tag_size = -1

    def run(self, request: AuthRequest, dst: memoryview) -> int:
        """The length of the result. EBADMSG as ``auth``; ENOMEM for what is too large."""
        src, auth = request.src, request.auth
        encrypts = request.op == Cop.ENCRYPT
        length = len(src) + (request.tag_size if encrypts else -request.tag_size)
        if length < 0:
            raise OSError(errno.EINVAL, "shorter than its tag")
        if request.tag_size != self._tag_size:
            self._transform.set_tag_size(request.tag_size)
            self._tag_size = request.tag_size
        most = len(auth) + max(len(src), length)
        if self._transform.capacity(most + PAGESIZE) < most:
            raise OSError(errno.ENOMEM, "more than the kernel takes at once")
        # The associated data comes back too. Without any place for a result, the kernel would
        # not even look at the tag.
        result: list[Buffer] = [bytearray(max(len(auth), 0 if length else 1)), dst[:length]]
        size = len(auth) + length
        self._transform.run(request.op, request.iv, [auth, src], result, size, len(auth))
        return length

    def close(self) -> None:
        """Drop the key."""
        self._transform.close()
