"""Capabilities (capabilities(7)), and that nothing brings them back."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from cuse_crypto.linux import credentials
from cuse_crypto.linux.credentials import (
    CAP_DAC_OVERRIDE,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_PTRACE,
    bits,
    prctl,
)

CHANGE_USER = CAP_SETGID, CAP_SETUID
CALLERS = CAP_SYS_PTRACE, CAP_DAC_OVERRIDE
"""To reach the memory of callers of all users, and the socket of a back end of another user."""
_LAST = Path("/proc/sys/kernel/cap_last_cap")


def keep(capabilities: Collection[int] = (), through_exec: Collection[int] = ()) -> None:
    """Give up all but these of what this thread has, and the way to ever have more.

    But for ``through_exec``: those root has (again) after execve(2).

    Threads that are there already keep theirs: to be called before there are any.
    """
    prctl(credentials.PR_SET_NO_NEW_PRIVS, 1)
    had = credentials.permitted()
    kept, inherited = bits(*capabilities) & had, bits(*through_exec) & had
    # What is not in the bounding set any more cannot be made inheritable.
    credentials.set_capabilities(had, had, inherited)
    # Without CAP_SETPCAP there is no way to; nothing is executed, so it would change nothing.
    with contextlib.suppress(OSError):
        for number in range(int(_LAST.read_text()) + 1):
            prctl(credentials.PR_CAPBSET_DROP, number)
    prctl(credentials.PR_CAP_AMBIENT, credentials.PR_CAP_AMBIENT_CLEAR_ALL)
    # As another user they are only kept where this is asked for.
    prctl(credentials.PR_SET_KEEPCAPS, 1)
    credentials.set_capabilities(kept, kept, inherited)


def has(capability: int) -> bool:
    """Whether this thread has it."""
    return bool(credentials.permitted() >> capability & 1)


def in_user_namespace() -> bool:
    """Whether this is a user namespace (user_namespaces(7)): its root is nobody outside of it."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", str((1 << 32) - 1)]
