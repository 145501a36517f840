"""The engine that copies: for tests, and for measuring everything but cryptography."""

from cuse_crypto.abi.algorithms import CIPHERS, Cipher


class NullSession:
    """Gives back what it gets."""

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        """A copy."""
        dst[: len(src)] = src

    def close(self) -> None:
        """Holds nothing."""


class NullEngine:
    """Engine, and open file in one, for it has no state."""

    name = "null"
    algorithms = frozenset(CIPHERS)

    def open(self) -> "NullEngine":
        """Itself."""
        return self

    def session(self, cipher: Cipher, key: bytes) -> NullSession:
        """Any."""
        return NullSession()

    def close(self) -> None:
        """Holds nothing."""
