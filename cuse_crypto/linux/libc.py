"""The C library, for what Python has no function for."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
"""Functions of it set errno for ``checked``."""


def syscall(number: int, *arguments: object) -> int:
    """One that the C library has no function for; OSError where the kernel says no."""
    return checked(int(libc.syscall(number, *arguments)))


def checked(result: int) -> int:
    """The result of a function of the C library; OSError for a negative one."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
