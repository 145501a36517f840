"""The system calls of a process that computes for others, as a filter of the kernel (seccomp(2)).

A list of what is allowed: with it an attacker meets a third of the kernel's system calls, and a new
one is closed until somebody wants it. It costs no more than a list of what is forbidden: the kernel
looks up what is always allowed in a bitmap.
"""

import contextlib
import ctypes
import errno
import fcntl
import logging
import mmap
import os
import termios
from collections.abc import Collection
from typing import Any

from cuse_crypto.linux import credentials

log = logging.getLogger(__name__)

# fmt: off
_ALLOWED = """
    read write readv writev pread64 pwrite64 lseek close close_range dup dup2 dup3
    pipe pipe2 poll ppoll select pselect6 _newselect eventfd2 epoll_create1 epoll_ctl
    epoll_wait epoll_pwait epoll_pwait2 splice vmsplice memfd_create
    accept accept4 shutdown recv recvfrom recvmsg send sendto sendmsg
    getsockopt setsockopt getsockname getpeername
    stat fstat lstat newfstatat fstatat64 statx fstatfs fstatfs64 ftruncate
    brk munmap mremap madvise mlock munlock mincore membarrier
    futex futex_time64 futex_waitv set_robust_list get_robust_list rseq set_tid_address
    sched_yield sched_getaffinity sched_getparam sched_getscheduler
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend
    sigaltstack sigreturn restart_syscall
    getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp
    clock_gettime clock_gettime64 clock_getres clock_nanosleep clock_nanosleep_time64
    gettimeofday nanosleep time times getrusage getrlimit sysinfo uname getrandom getcpu
    setitimer getitimer timer_create timer_settime timer_delete
    wait4 waitid waitpid exit exit_group
"""
# fmt: on

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_CTL_NNP, _CTL_TSYNC = 3, 4
_EQUAL, _MASKED = 4, 7
LIBRARY = "libseccomp.so.2"
# linux/sched.h
CLONE_THREAD, CLONE_NEW = 0x00010000, 0x7E020080
"""The second are all kinds of namespaces."""
_PRCTL = credentials.PR_SET_PDEATHSIG, credentials.PR_SET_NAME
_FCNTL = (
    fcntl.F_DUPFD,
    fcntl.F_DUPFD_CLOEXEC,
    fcntl.F_GETFD,
    fcntl.F_SETFD,
    fcntl.F_GETFL,
    fcntl.F_SETFL,
    fcntl.F_GETPIPE_SZ,
    fcntl.F_SETPIPE_SZ,
    fcntl.F_ADD_SEALS,
    fcntl.F_GET_SEALS,
)
"""Not F_SETOWN and its like, by which a signal is sent to any process."""
WAKE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""How what is waited for is opened: see SharedConnection.shut."""
_LARGE = 0o100000
"""O_LARGEFILE of x86-64, which a C library may add."""
_IOCTLS = termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX, termios.TCGETS


class _Comparison(ctypes.Structure):
    """scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def confine(
    families: Collection[int] = (), all_ioctls: bool = False, opens: Collection[int] = ()
) -> bool:
    """No other system calls in any thread from now on, and none that makes a process.

    ``families``: of sockets that it may still make; to listen and to accept needs none.
    ``all_ioctls``: it works on a device. ``opens``: flags with which files may be opened, besides
    what its own pipes are. False, and a line in the log, without libseccomp.
    """
    try:
        with contextlib.closing(_Filter()) as filtering:
            _fill(filtering, families, all_ioctls)
            _fill_arguments(filtering, {WAKE, *(flags | os.O_CLOEXEC for flags in opens)})
            filtering.load()
    except OSError as error:
        log.warning("no filter of system calls: %s; install libseccomp2", error)
        return False
    return True


def why_no_filter() -> str | None:
    """Why there would be none, with the remedy; None if it can be had."""
    try:
        _Filter().close()
    except OSError as error:
        return f"{error}; apt install libseccomp2"
    return None


def _fill(filtering: "_Filter", families: Collection[int], all_ioctls: bool) -> None:
    for name in _ALLOWED.split():
        filtering.allow(name)
    filtering.allow("clone", [_Comparison(0, _MASKED, CLONE_THREAD | CLONE_NEW, CLONE_THREAD)])
    # What it is asked for stands in memory, where no filter can look: have the C library do
    # without it.
    filtering.add(_ERRNO | errno.ENOSYS, "clone3")
    filtering.allow("prctl", _equal(0, _PRCTL))
    filtering.allow("socket", _equal(0, families))
    if families:
        filtering.allow("bind")
    filtering.allow("ioctl", None if all_ioctls else _equal(1, _IOCTLS))


def _fill_arguments(filtering: "_Filter", opens: Collection[int]) -> None:
    """What is allowed with some arguments alone."""
    for flags in opens:
        filtering.allow("openat", [_Comparison(2, _MASKED, 0xFFFFFFFF & ~_LARGE, flags)])
    for name in ("mmap", "mmap2", "mprotect"):
        # Nothing is executed that is not there already.
        filtering.allow(name, [_Comparison(2, _MASKED, mmap.PROT_EXEC, 0)])
    # Only this process itself.
    filtering.allow("tgkill", _equal(0, [os.getpid()]))
    filtering.allow("prlimit64", _equal(0, [0]))
    for name in ("fcntl", "fcntl64"):
        filtering.allow(name, _equal(1, _FCNTL))


def _equal(argument: int, values: Collection[int]) -> list[_Comparison]:
    return [_Comparison(argument, _EQUAL, value, 0) for value in values]


class _Filter:
    """A filter of libseccomp's, for the machine's own system calls; EPERM for all others."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(LIBRARY)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(_ERRNO | errno.EPERM))
        for attribute in (_CTL_NNP, _CTL_TSYNC):
            self._call("attr_set", attribute, ctypes.c_uint32(1))

    def allow(self, name: str, cases: Collection[_Comparison] | None = None) -> None:
        """In any of these cases, or in all; names that this machine has not are passed over."""
        for case in [()] if cases is None else [(one,) for one in cases]:
            self.add(_ALLOW, name, *case)

    def add(self, action: int, name: str, *comparisons: _Comparison) -> None:
        """What is to be done where all comparisons hold."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        # Below zero are those that other machines have.
        if number >= 0:
            array = (_Comparison * len(comparisons))(*comparisons)
            self._call("rule_add_array", ctypes.c_uint32(action), number, len(array), array)

    def load(self) -> None:
        """OSError where the kernel has no filters."""
        self._call("load")

    def close(self) -> None:
        """Give its memory back; what is loaded stays."""
        self._library.seccomp_release(self._context)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, f"seccomp_{name}")(self._context, *arguments)
        if status < 0:
            raise OSError(-status, f"seccomp_{name}: {os.strerror(-status)}")
