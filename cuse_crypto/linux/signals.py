"""Signals of a process without handlers: to block them all, to wait for one, to be killed in time.

By the C library: the module ``signal`` brings ``enum`` along, which makes each fork(2) of the small
process that uses this a tenth slower.
"""

import ctypes

from cuse_crypto.linux.libc import checked, libc

# asm-generic/signal.h, time.h: the same on x86 and aarch64
SIGINT, SIGHUP, SIGKILL, SIGTERM, SIGCHLD, SIGSTOP, SIGTRAP = 2, 1, 9, 15, 17, 19, 5
SIG_DFL, SIG_IGN = 0, 1
_SIG_SETMASK = 2
_CLOCK_MONOTONIC = 1
_SIGEV_SIGNAL = 0
_LONG = 3600.0


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class _Sigevent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


_ALL = (ctypes.c_ulong * 16)(*[(1 << 8 * ctypes.sizeof(ctypes.c_ulong)) - 1] * 16)
_CHILD = (ctypes.c_ulong * 16)(1 << SIGCHLD - 1)
libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.signal.restype = ctypes.c_void_p


def _timespec(seconds: float) -> _Timespec:
    whole = int(seconds)
    return _Timespec(whole, int((seconds - whole) * 1e9))


def block_all() -> None:
    """Of this thread; SIGKILL and SIGSTOP cannot be."""
    checked(libc.sigprocmask(_SIG_SETMASK, _ALL, None))


def set_action(number: int, action: int) -> None:
    """SIG_DFL or SIG_IGN."""
    libc.signal(number, action)


def wait_child(seconds: float) -> None:
    """Sleep until a child or a tracee changes (SIGCHLD, which is blocked), or for that long."""
    libc.sigtimedwait(_CHILD, None, ctypes.byref(_timespec(min(max(0.0, seconds), _LONG))))


class Deadline:
    """SIGKILL for this process by its own timer: no other process has to end it."""

    def __init__(self) -> None:
        """Not set yet. A timer is not inherited by fork(2)."""
        event = _Sigevent(None, SIGKILL, _SIGEV_SIGNAL)
        self._timer = ctypes.c_void_p()
        checked(libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)))

    def set(self, seconds: float) -> None:
        """From now, in place of what was set before; 0 for none."""
        value = _Itimerspec(_Timespec(), _timespec(seconds))
        checked(libc.timer_settime(self._timer, 0, ctypes.byref(value), None))
