"""What an engine is. It never sees a pid, an address of a guest, or a descriptor of a front end."""

from typing import Protocol

from cuse_crypto.abi.algorithms import Cipher


class EngineSession(Protocol):
    """A cipher with its key. One call at a time."""

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        """Encrypt (op 0) or decrypt (op 1) ``src`` to the first ``len(src)`` bytes of ``dst``.

        ``iv`` has the cipher's size; ``len(src)`` is a multiple of its block size. ``dst`` has
        SLACK bytes more than that, and does not overlap. OSError with the errno for the caller.
        """

    def close(self) -> None:
        """Give back what it holds."""


class EngineFile(Protocol):
    """An open file of the device."""

    def session(self, cipher: Cipher, key: bytes) -> EngineSession:
        """A session; OSError(EINVAL) if the engine cannot have it. ``key`` has a size it allows."""

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
