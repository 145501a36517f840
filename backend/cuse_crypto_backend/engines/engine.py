"""What an engine is. It never sees a pid, an address of a guest, or a descriptor of a front end."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from cuse_crypto.abi.algorithms import Cipher, Mac


class Hashing:
    """What an operation does to the hash of its session. Plain bits, for the hot path."""

    START = 1
    """Forget what was hashed before."""
    FINISH = 2
    """Give the digest; the next operation starts."""


class Algorithms(NamedTuple):
    """What a session computes: a cipher, a mac (a hash, or one with a key), or both."""

    cipher: Cipher | None
    mac: Mac | None


class Keys(NamedTuple):
    """The key of the cipher and that of the mac; empty where there is none."""

    cipher: bytes
    mac: bytes


class AuthRequest(NamedTuple):
    """One authenticated operation; ``kind`` and sizes have been checked against the algorithms.

    ``auth`` is authenticated and not encrypted, ``src`` is both. With AEAD, ``src`` of a
    decryption ends in the tag, and the result of an encryption does. With TLS the tag and the
    padding are inside. With SRTP ``auth`` holds ``src`` at ``offset``, and ``tag`` is apart.
    """

    kind: int
    op: int
    tag_size: int
    iv: bytes
    auth: memoryview
    src: memoryview
    offset: int
    tag: bytes


class AuthKind:
    """As in ``crypt_auth_op.flags``, and 0 for AEAD."""

    AEAD = 0
    TLS = 0x10
    SRTP = 0x20


Run = Callable[[int, bytes, memoryview, memoryview], None]
"""``run(op, iv, src, dst)``: as EngineSession.crypt without a hash; ``src`` is not empty."""
Short = Callable[[int, memoryview, int, int, memoryview], None]
"""``short(op, request, at, size, dst)``: the same; the IV lies at ``at`` of ``request``, and behind
it ``size`` bytes of source, whole blocks. Others may change ``request`` and ``dst`` meanwhile."""


class EngineSession(Protocol):
    """Algorithms with their keys, and a hash under way. One call at a time."""

    @property
    def short(self) -> Short | None:
        """For a cipher that has a shorter way than ``crypt``."""

    @property
    def next_iv(self) -> bytes:
        """Of OFB: the last block of key stream that the operation before used a part of, from which
        the next one goes on. Who has only the result of a part of a block cannot tell. Else b"".
        """

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview, hashing: int) -> bytes:
        """Encrypt (op 0) or decrypt (op 1) ``src`` to the first ``len(src)`` bytes of ``dst``.

        The mac is over the plaintext; its digest is returned with FINISH, else b"". ``iv`` has the
        cipher's size; ``len(src)`` is a multiple of its block size. ``dst`` has SLACK bytes more
        than that, and does not overlap; without a cipher it is not touched. OSError with the errno
        for the caller.
        """

    def auth(self, request: AuthRequest, dst: memoryview) -> tuple[int, bytes]:
        """Do ``request``; the length of the result in ``dst``, and the tag if it is apart (SRTP).

        ``dst`` has room for ``src``, a tag, padding and SLACK. OSError(EBADMSG) for what is not
        authentic; then ``dst`` is not sent to anybody.
        """

    def copy_hash(self, source: "EngineSession") -> None:
        """Take over the hash under way in another session of the same engine."""

    def names(self) -> tuple[str, str]:
        """The implementations of cipher and mac, as CIOCGSESSINFO shows them; "" for none."""

    def close(self) -> None:
        """Give back what it holds."""


class EngineFile(Protocol):
    """An open file of the device."""

    def session(self, algorithms: Algorithms, keys: Keys) -> EngineSession:
        """A session; OSError(EINVAL) if the engine cannot have it. Keys have allowed sizes."""

    def close(self) -> None:
        """Give back what it holds."""


class Engine(Protocol):
    """Where operations are computed. Used by several threads at once."""

    name: str

    @property
    def algorithms(self) -> frozenset[int]:
        """The cryptodev numbers of the algorithms that it has."""

    def open(self) -> EngineFile:
        """An open file; OSError if there can be no more."""


SLACK = 32
"""Bytes that an engine may use behind the result."""
