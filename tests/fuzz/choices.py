"""Bytes as a row of choices. What comes after the end is zeros, so that any bytes will do."""

from collections.abc import Sequence
from typing import Any, TypeVar

from cuse_crypto.layout import Layout

T = TypeVar("T")


class Choices:
    """Taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """So many bytes have not been used."""
        return max(len(self._data) - self._at, 0)

    def take(self, size: int) -> bytes:
        """``size`` bytes."""
        part = self._data[self._at : self._at + size]
        self._at += size
        return part.ljust(size, b"\0")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def number(self, size: int = 1) -> int:
        """A number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def chance(self, one_in: int) -> bool:
        """True once in so many times; not after the end."""
        return self.number() % one_in == one_in - 1

    def pick(self, some: Sequence[T]) -> T:
        """One of them."""
        return some[self.number(1 if len(some) < 256 else 2) % len(some)]

    def record(self, layout: Layout[Any]) -> Any:
        """Any values that its members can have."""
        return layout.read(self.take(layout.size))

    def size(self) -> int:
        """Mostly small; at times one that no length can be."""
        if self.chance(16):
            return self.number(4)
        return self.number() if self.chance(2) else self.number() % 20

    def change(self, data: bytearray, most: int = 4) -> bool:
        """Put other bytes into ``data``, ``most`` of them, half of the time none; whether so."""
        before = bytes(data)
        if data and self.chance(2):
            for _ in range(1 + self.number() % most):
                data[self.number(2) % len(data)] = self.number()
        return data != before
