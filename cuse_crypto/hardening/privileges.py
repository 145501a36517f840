"""Capabilities (capabilities(7)), and that nothing brings them back."""

import contextlib
import struct
from collections.abc import Collection
from pathlib import Path

from cuse_crypto.hardening import kernel

CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_IPC_LOCK = 1, 5, 6, 7, 14
CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SETFCAP = 19, 21, 31
CHANGE_USER = CAP_SETGID, CAP_SETUID
CALLERS = CAP_SYS_PTRACE, CAP_DAC_OVERRIDE
"""To reach the memory of callers of all users, their /proc/PID/syscall, which is closed to other
users, and the socket of a back end of another user."""
_LAST = Path("/proc/sys/kernel/cap_last_cap")
_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")
_DATA = struct.Struct("=6I")
"""Effective, permitted and inheritable ones, 0 to 31, then the same of 32 to 63."""


def keep(capabilities: Collection[int] = (), through_exec: Collection[int] = ()) -> None:
    """Give up all but these of what this thread has, and the way to ever have more.

    But for ``through_exec``: those root has (again) after execve(2).

    Threads that are there already keep theirs: to be called before there are any.
    """
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    had = _permitted()
    kept = sum(1 << number for number in capabilities) & had
    inherited = sum(1 << number for number in through_exec) & had
    # What is not in the bounding set any more cannot be made inheritable.
    _set(had, inherited)
    # Without CAP_SETPCAP there is no way to; nothing is executed, so it would change nothing.
    with contextlib.suppress(OSError):
        for number in range(int(_LAST.read_text()) + 1):
            kernel.prctl(kernel.PR_CAPBSET_DROP, number)
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    # As another user they are only kept where this is asked for.
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
    _set(kept, inherited)


def _set(permitted: int, inheritable: int) -> None:
    """Capabilities of this thread; those permitted are effective."""
    halves = [
        word >> shift & 0xFFFFFFFF
        for shift in (0, 32)
        for word in (permitted, permitted, inheritable)
    ]
    kernel.capset(_HEADER.pack(_VERSION_3, 0), _DATA.pack(*halves))


def has(capability: int) -> bool:
    """Whether this thread has it."""
    return bool(_permitted() >> capability & 1)


def in_user_namespace() -> bool:
    """Whether this is a user namespace (user_namespaces(7)): its root is nobody outside of it."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", str((1 << 32) - 1)]


def _permitted() -> int:
    with open("/proc/thread-self/status") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapPrm:"))
