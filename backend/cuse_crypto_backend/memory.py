"""Memory for messages under way, of which each owner has a share.

A connection has memory for small messages. For a longer one it reserves all that the message will
take before it reads the rest, so that the peer has to wait (backpressure). A connection
that waits holds nothing that others wait for.
"""

import threading
import time
from collections.abc import Callable

from cuse_crypto.wire.connection import ConnectionLost
from cuse_crypto.wire.messages import PeerError
from cuse_crypto_backend.shares import Owner, Shares

TOTAL = 1 << 30
"""Bytes of all long messages; one owner alone has half of it, see shares."""
FREE = (128 << 10) + 4096
"""Bytes of a message that every connection may have."""
COPIES = 3
"""Times the length of a message: request, reply, and what an engine needs meanwhile."""
PATIENCE = 20.0
"""Seconds that a message waits; a front end waits 30 for its answer."""
_LOOK = 0.05
"""Seconds until it is looked again at what peers have given back, which they do not say."""
_LOOK_OF_OTHERS = 0.5
"""Seconds until one that waits for its turn looks whether it has ended."""


class Memory:
    """The memory of all connections."""

    def __init__(self, total: int = TOTAL) -> None:
        self.shares = Shares(total)
        self.changed = threading.Condition()
        self.holdings: dict[Owner, set[Holding]] = {}
        self._turns: dict[Owner, threading.Lock] = {}

    def forget(self, owner: Owner) -> None:
        """Its last connection has gone; with ``changed`` held."""
        del self.holdings[owner]
        self._turns.pop(owner, None)

    def turn(self, owner: Owner) -> threading.Lock:
        """One of an owner's connections waits for memory, the others for their turn to: a thousand
        that look would take the processor.
        """
        with self.changed:
            return self._turns.setdefault(owner, threading.Lock())

    def measure(self, owner: Owner) -> None:
        """Take back what the peers of ``owner`` have freed; with ``changed`` held."""
        for holding in self.holdings.get(owner, ()):
            holding.measure()


class Holding:
    """What one connection has of it.

    ``charged`` counts until it is trimmed. Memory that the peer has as well is not freed by
    forgetting it here: it counts until the peer has freed it, as ``remaining`` says.
    """

    def __init__(self, memory: Memory, owner: Owner) -> None:
        self.length = FREE
        """The longest message that may be received without asking."""
        self.remaining: Callable[[], int] | None = None
        """Bytes of a memory file that both ends have."""
        self._memory = memory
        self._owner = owner
        self._charged = 0
        self._ended = False
        with memory.changed:
            memory.holdings.setdefault(owner, set()).add(self)

    def reserve(self, length: int) -> None:
        """Have memory for a message of ``length``, and wait for it.

        PeerError if it cannot be had in time, ConnectionLost after ``end``.
        """
        if length <= self.length:
            return
        end = time.monotonic() + PATIENCE
        turn = self._memory.turn(self._owner)
        while not turn.acquire(timeout=_LOOK_OF_OTHERS):
            self._check(end, length)
        try:
            self._await(end, length)
        finally:
            turn.release()

    def _await(self, end: float, length: int) -> None:
        with self._memory.changed:
            self.measure()
            while not self._take(COPIES * length):
                self._check(end, length)
                self._memory.changed.wait(_LOOK)
                self._memory.measure(self._owner)
            self.length = length

    def _check(self, end: float, length: int) -> None:
        if self._ended:
            raise ConnectionLost("ended here")
        if time.monotonic() > end:
            raise PeerError(f"it waited {PATIENCE:g} s for the memory of {length} bytes")

    def _take(self, size: int) -> bool:
        more = size - self._charged
        if more > 0:
            if not self._memory.shares.take(self._owner, more):
                return False
            self._charged = size
        return True

    def is_scarce(self) -> bool:
        """Nothing should be kept for the next message."""
        return self._memory.shares.is_scarce(self._owner)

    def trimmed(self) -> None:
        """Our memory has been given back."""
        with self._memory.changed:
            self.length = FREE
            self._keep(self.remaining() if self.remaining else 0)

    def measure(self) -> None:
        """What the peer has freed does not count any more, unless a message is under way here."""
        if self.remaining and self.length == FREE:
            self._keep(self.remaining())

    def _keep(self, size: int) -> None:
        if size < self._charged:
            self._memory.shares.give(self._owner, self._charged - size)
            self._charged = size
            self._memory.changed.notify_all()

    def end(self) -> None:
        """Wake the thread that waits here, from any other."""
        with self._memory.changed:
            self._ended = True
            self._memory.changed.notify_all()

    def close(self) -> None:
        """The memory is gone."""
        memory = self._memory
        with memory.changed:
            self.remaining = None
            self._keep(0)
            holdings = memory.holdings[self._owner]
            holdings.discard(self)
            if not holdings:
                memory.forget(self._owner)
