"""Which of a device's back ends its queues use: all of them the same one.

What a program has begun (a hash in several steps) is in one back end. So the queues of a device
stay together, and move on together when it goes; load is spread by device. An address may hide
several back ends (a balancer): a queue that meets another one than the others use tries again.
"""

import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Protocol

from cuse_crypto.wire.address import Address

log = logging.getLogger(__name__)

TRIES = 16
"""So often does a queue look for the back end of the others behind one address."""


class Member(Protocol):
    """A queue, as far as others need to know it."""

    place: bytes

    def is_up(self) -> bool:
        """It is connected, and the peer has not gone."""


class Route:
    """The addresses of the back ends, in the order in which they are tried. For several threads."""

    def __init__(self, addresses: Sequence[Address], first: int = 0) -> None:
        """``first``: the number of the one to begin with, counted round."""
        self._addresses = tuple(addresses)
        self._at = first % len(addresses)
        self.place = b""
        """Of the back end in use; what a back end says of itself in HELLO."""
        self._met = self.address
        """Where that was."""
        self._members: weakref.WeakSet[Member] = weakref.WeakSet()
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return " or ".join(map(str, self._addresses))

    @property
    def address(self) -> Address:
        """The one in use."""
        return self._addresses[self._at]

    @property
    def has_others(self) -> bool:
        """There is more than one."""
        return len(self._addresses) > 1

    def join(self, member: Member) -> None:
        """One more queue, forgotten with its end."""
        with self._lock:
            self._members.add(member)

    def in_order(self) -> Iterator[Address]:
        """All addresses, from the one in use on."""
        at = self._at
        yield from self._addresses[at:] + self._addresses[:at]

    def agrees(self, address: Address, place: bytes, member: Member, last: bool) -> bool:
        """Whether ``member``, which has met ``place`` at ``address``, may stay there.

        It may not while others are with another back end behind the same address, unless this was
        the ``last`` try.
        """
        with self._lock:
            if place != self.place:
                if address == self._met and not last and self._is_used(member):
                    return False
                self._move(address, place)
            return True

    def _is_used(self, member: Member) -> bool:
        """Others are with the back end in use."""
        others = (one for one in self._members if one is not member and one.place == self.place)
        return any(one.is_up() for one in others)

    def _move(self, address: Address, place: bytes) -> None:
        at = self._addresses.index(address)
        if at != self._at:
            log.warning("%s instead of %s from now on", address, self.address)
        self._at, self._met, self.place = at, address, place

    def leave(self, address: Address) -> None:
        """``address`` does not answer: the next one, if it is still in use."""
        with self._lock:
            if self.has_others and self.address == address:
                self._at = (self._at + 1) % len(self._addresses)
