"""Who a process is and what it may: setresuid(2), capset(2), prctl(2)."""

import ctypes
import errno
import os
import struct

from cuse_crypto.linux.libc import checked, libc

CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_PTRACE = 1, 5, 6, 7, 19
CAP_IPC_LOCK, CAP_SYS_ADMIN, CAP_SETFCAP = 14, 21, 31
# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_SET_MDWE = 24, 38, 47, 65
PR_CAP_AMBIENT_CLEAR_ALL, PR_MDWE_REFUSE_EXEC_GAIN = 4, 1
_VERSION_3 = struct.pack("=Ii", 0x20080522, 0)
_DATA = struct.Struct("=6I")
"""Effective, permitted and inheritable ones, 0 to 31, then the same of 32 to 63."""
_CLONE_NEWUSER = 0x10000000
_SETGROUPS = "/proc/self/setgroups"

libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def prctl(option: int, argument: int = 0) -> None:
    """OSError where the kernel says no."""
    checked(libc.prctl(option, argument, 0, 0, 0))


def bits(*capabilities: int) -> int:
    """A set of them, as capset(2) and /proc have it."""
    return sum(1 << number for number in capabilities)


def permitted() -> int:
    """The capabilities of this thread, as bits."""
    data = ctypes.create_string_buffer(_DATA.size)
    checked(libc.capget(_VERSION_3, data))
    _, low, _, _, high, _ = _DATA.unpack(data.raw)
    return int(low | high << 32)


def set_capabilities(permitted: int, effective: int, inheritable: int = 0) -> None:
    """Of this thread, as bits."""
    words = effective, permitted, inheritable
    halves = [word >> shift & 0xFFFFFFFF for shift in (0, 32) for word in words]
    checked(libc.capset(_VERSION_3, _DATA.pack(*halves)))


def become(
    uid: int, gid: int, permitted: int, effective: int, namespace: int | None = None
) -> None:
    """That user for good, in no other group, with these capabilities and a way to none more.

    ``namespace``: a descriptor of the user namespace in which they count. Without KEEPCAPS the
    kernel takes all capabilities away in the same step as it changes the user.
    """
    if permitted or namespace is not None:
        prctl(PR_SET_KEEPCAPS, 1)
    _leave_groups()
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if namespace is not None:
        _enter(namespace)
    set_capabilities(permitted, effective)
    lock()


def _enter(namespace: int) -> None:
    """As that user already: the user who made the namespace may look at what root of another one
    does there. All capabilities that this process has had end here.
    """
    set_capabilities(bits(CAP_SYS_ADMIN), bits(CAP_SYS_ADMIN))
    checked(libc.setns(namespace, _CLONE_NEWUSER))


def _leave_groups() -> None:
    """In a user namespace that an ordinary user made these are that user's, and stay."""
    try:
        os.setgroups([])
    except OSError as error:
        if error.errno != errno.EPERM or not _keeps_groups():
            raise


def _keeps_groups() -> bool:
    with open(_SETGROUPS) as file:
        return os.geteuid() != 0 or file.read().strip() == "deny"


def lock() -> None:
    """No way to new privileges, and for other processes of the same user no look inside."""
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
