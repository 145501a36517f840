"""System calls that Python has not: prctl(2), capset(2) and mlockall(2)."""

import ctypes
import os

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
PR_SET_MDWE = 65
PR_MDWE_REFUSE_EXEC_GAIN = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def prctl(option: int, argument: int = 0) -> None:
    """OSError where the kernel says no."""
    checked(_libc.prctl(option, argument, 0, 0, 0))


def capset(header: bytes, data: bytes) -> None:
    """Of the calling thread; the structures are those of linux/capability.h."""
    checked(_libc.capset(header, data))


def mlockall(flags: int) -> None:
    """OSError where that much may not be locked."""
    checked(_libc.mlockall(flags))


def checked(result: int) -> int:
    """The result of a function of the C library; OSError for -1."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
