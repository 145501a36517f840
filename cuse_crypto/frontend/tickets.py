"""Who answers an ioctl: its worker, or whoever sees that its caller has been interrupted."""

import errno

from cuse_crypto.linux.proc import status_of


class Answered(Exception):
    """The caller has its answer already; nothing is left to be sent."""


class Ticket:
    """The right to answer one ioctl, which is taken once."""

    interrupted = False
    """The caller dies: what has begun need not be ended."""
    _mine = False

    def __init__(self, unique: int, thread: int) -> None:
        """``thread``: the caller's thread id, as the kernel gave it."""
        self.unique = unique
        self.thread = thread
        self._untaken = [True]

    def take(self) -> bool:
        """True for the first who asks, in whichever thread: to pop from a list is atomic."""
        try:
            return self._untaken.pop()
        except IndexError:
            return False

    @property
    def is_taken(self) -> bool:
        """Somebody has answered it, or will."""
        return not self._untaken

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

    def is_pointless(self) -> bool:
        """Nobody waits for the answer: it has been given by somebody else, or the caller dies."""
        return self.interrupted if self._mine else not self._untaken

    def settle(self) -> None:
        """Claim, if that has not been done."""
        if not self._mine:
            self.claim()


# signal(7): what does not end a process that does not handle it: CHLD CONT STOP TSTP TTIN TTOU URG
# WINCH. All others do.
_HARMLESS = sum(1 << number - 1 for number in (17, 18, 19, 20, 21, 22, 23, 28))
_KILL = 1 << 9 - 1
_MASKS = "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"


def is_dying(thread: int) -> bool:
    """True when a signal is pending that ends the thread's process; or when it has gone already."""
    try:
        status = status_of(thread)
    except OSError:
        return True
    masks = {name: int(status.get(name, "0"), 16) for name in _MASKS}
    pending = masks["SigPnd"] | masks["ShdPnd"]
    survived = masks["SigBlk"] | masks["SigIgn"] | masks["SigCgt"] | _HARMLESS
    return bool(pending & ~(survived & ~_KILL))
