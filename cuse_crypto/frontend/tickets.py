"""Who answers an ioctl: its worker, or whoever sees that its caller has been interrupted."""

import errno


class Answered(Exception):
    """The caller has its answer already; nothing is left to be sent."""


class Ticket:
    """The right to answer one ioctl, which is taken once."""

    __slots__ = ("_mine", "_untaken", "interrupted", "thread", "unique")

    def __init__(self, unique: int, thread: int) -> None:
        """``thread``: the caller's thread id, as the kernel gave it."""
        self.unique = unique
        self.thread = thread
        self.interrupted = False
        self._mine = False
        self._untaken = [True]

    def take(self) -> bool:
        """True for the first who asks, in whichever thread: to pop from a list is atomic."""
        try:
            return self._untaken.pop()
        except IndexError:
            return False

    def claim(self) -> None:
        """From here on only the worker answers; Answered if somebody has.

        When claimed before: OSError(EINTR) if the caller is dying.
        """
        if not self._mine:
            if not self.take():
                raise Answered
            self._mine = True
        elif self.interrupted:
            raise OSError(errno.EINTR, "interrupted")

    def settle(self) -> None:
        """Claim, if that has not been done."""
        if not self._mine:
            self.claim()


def is_dying(thread: int) -> bool:
    """True when the thread has a SIGKILL pending, as after any signal that ends its process."""
    try:
        with open(f"/proc/{thread}/status") as status:
            pending = [line.split()[1] for line in status if line.startswith(("SigPnd", "ShdPnd"))]
    except OSError:
        return True
    return any(int(mask, 16) & 1 << 8 for mask in pending)
