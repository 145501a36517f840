"""Keeping what is in memory from where it would outlive the process (core dumps and swap), and what
is written there from being executed.
"""

import logging
import resource

from cuse_crypto.hardening import privileges
from cuse_crypto.linux import credentials
from cuse_crypto.linux.libc import checked, libc

log = logging.getLogger(__name__)

# bits/mman-linux.h, the same on x86-64 and aarch64.
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4


def no_dump() -> None:
    """No core dump, and no look inside by another process of the same user (ptrace(2), /proc).

    A change of user undoes the second.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    credentials.prctl(credentials.PR_SET_DUMPABLE, 0)


def no_new_code() -> None:
    """No memory that is writable and executable, and none that becomes executable (Linux 6.3)."""
    try:
        credentials.prctl(credentials.PR_SET_MDWE, credentials.PR_MDWE_REFUSE_EXEC_GAIN)
    except OSError as error:
        # EPERM: it has been done before, which systemd's MemoryDenyWriteExecute is not.
        log.debug("memory may become executable: %s; it takes Linux 6.3", error.strerror)


def no_swap() -> bool:
    """What is touched from now on stays in memory; False where this process may not have that.

    Without the capability there must be no limit: what is met later would refuse memory that need
    not be locked.
    """
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    able = privileges.has(credentials.CAP_IPC_LOCK) and not privileges.in_user_namespace()
    if not (unlimited or able):
        log.debug("memory may be swapped out, keys too: no CAP_IPC_LOCK, and a limit (ulimit -l)")
        return False
    checked(libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT))
    return True
