"""The engine that copies: for tests, and for measuring everything but cryptography."""

from functools import partial

from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.abi.structs import Cop
from cuse_crypto_backend.engines.engine import (
    Algorithms,
    AuthKind,
    AuthRequest,
    EngineSession,
    Hashing,
    Keys,
    Short,
)


def _copy(iv_size: int, op: int, request: memoryview, at: int, size: int, dst: memoryview) -> None:
    dst[:size] = request[at + iv_size : at + iv_size + size]


class NullSession:
    """Gives back what it gets; digests and tags are zeros, and are not verified."""

    def __init__(self, algorithms: Algorithms) -> None:
        self._algorithms = algorithms
        self.short: Short | None = None
        self.next_iv = b""
        if algorithms.cipher:
            self.short = partial(_copy, algorithms.cipher.iv_size)
            if algorithms.cipher.mode == "ofb":
                self.next_iv = bytes(algorithms.cipher.iv_size)

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview, hashing: int) -> bytes:
        """A copy."""
        if self._algorithms.cipher:
            dst[: len(src)] = src
        mac = self._algorithms.mac
        return bytes(mac.digest_size) if mac and hashing & Hashing.FINISH else b""

    def auth(self, request: AuthRequest, dst: memoryview) -> tuple[int, bytes]:
        """A copy, longer by the tag or shorter by it; with TLS as long as it was."""
        change = 0
        if request.kind == AuthKind.AEAD:
            change = request.tag_size if request.op == Cop.ENCRYPT else -request.tag_size
        length = min(len(request.src), len(request.src) + change)
        dst[:length] = request.src[:length]
        if change > 0:
            dst[length : length + change] = bytes(change)
        makes_tag = request.kind == AuthKind.SRTP and request.op == Cop.ENCRYPT
        tag = bytes(request.tag_size) if makes_tag else b""
        return len(request.src) + change, tag

    def copy_hash(self, source: EngineSession) -> None:
        """There is no state."""

    def names(self) -> tuple[str, str]:
        """That it copies."""
        cipher, mac = self._algorithms
        return "copy-null" if cipher else "", "zero-null" if mac else ""

    def close(self) -> None:
        """Holds nothing."""


class NullEngine:
    """Engine, and open file in one, for it has no state."""

    name = "null"
    algorithms = frozenset(CIPHERS) | frozenset(MACS)

    def open(self) -> "NullEngine":
        """Itself."""
        return self

    def session(self, algorithms: Algorithms, keys: Keys) -> NullSession:
        """Any."""
        return NullSession(algorithms)

    def close(self) -> None:
        """Holds nothing."""
