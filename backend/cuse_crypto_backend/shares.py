"""How much of something each owner may have, so that greedy ones never leave others nothing.

An owner may have as much as is left for all others: one alone half of the total, two a third each,
and so on; as much as one of them has is always free. (The dynamic threshold of Choudhury and Hahne,
by which a switch shares its buffers among ports.)
"""

import threading
from collections import Counter
from collections.abc import Hashable

Owner = Hashable


class Shares:
    """``total`` of something, in whatever unit. For several threads."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.of: Counter[Owner] = Counter()
        self._lock = threading.Lock()

    def take(self, owner: Owner, amount: int = 1) -> bool:
        """So much more for ``owner``; False, and nothing, if that is more than its share."""
        with self._lock:
            if self.of[owner] + amount > self.total - self.used - amount:
                self._forget(owner)
                return False
            self.of[owner] += amount
            self.used += amount
            return True

    def give(self, owner: Owner, amount: int = 1) -> None:
        """So much less."""
        with self._lock:
            self.of[owner] -= amount
            self.used -= amount
            self._forget(owner)

    def is_scarce(self, owner: Owner) -> bool:
        """``owner`` has more than half of its share."""
        return 2 * self.of.get(owner, 0) > self.total - self.used

    def _forget(self, owner: Owner) -> None:
        if not self.of[owner]:
            del self.of[owner]
