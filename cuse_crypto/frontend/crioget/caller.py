"""Whether a helper may trace a caller, and as whom: what /proc says, read before anything is done.

The kernel has the last word: the helper has no more rights than the caller, whatever is read here.
"""

import os
import time

from cuse_crypto.linux import credentials, task
from cuse_crypto.linux.credentials import (
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_ADMIN,
    CAP_SYS_PTRACE,
    bits,
)
from cuse_crypto.linux.ptrace import IOCTLS

AUTO, UNFILTERED, OFF = "auto", "unfiltered", "off"
"""``--crioget``: callers under the filter of their container too, those without any, none."""
_PAUSE = 0.00005


class Refused(Exception):
    """The caller is answered EOPNOTSUPP; the message is the end of a sentence about it."""


class Nursery:
    """What the nursery has, and may give to a helper."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.uid, self.gid = os.geteuid(), os.getegid()
        self.permitted = credentials.permitted()
        self.user_namespace = task.user_namespace("self")


class Caller:
    """A thread that sleeps in CRIOGET on its descriptor ``fd``, and what its helper becomes."""

    def __init__(self, thread: int, cmd: int, arg: int, nursery: Nursery) -> None:
        """Refused where no helper may trace it."""
        self.thread, self.cmd, self.arg = thread, cmd, arg
        try:
            found = task.status(thread)
            is_ours = task.user_namespace(thread) == nursery.user_namespace
            enters = not is_ours and nursery.permitted & bits(CAP_SYS_ADMIN)
            self.namespace = task.open_user_namespace(thread) if enters else None
        except OSError as error:
            raise _closed(error) from None
        self.uid, self.gid = _ids(found, nursery)
        if enters:
            self.permitted, self.effective = int(found[b"CapPrm"], 16), 0
        else:
            self.permitted, self.effective = _capabilities(found, self.uid, nursery, is_ours)
        _check_tracer(found)
        _check_filters(found, thread, nursery.policy)
        try:
            self.fd = self._descriptor()
        except OSError as error:
            raise _closed(error) from None

    def _descriptor(self) -> int:
        """Of its system call; Refused where that is another one."""
        while (call := task.system_call(self.thread)) is None:
            # It is on its way to sleep, or a signal has woken it. The helper's deadline ends this.
            time.sleep(_PAUSE)
        if not self.is_call(call):
            raise Refused("is not in its ioctl any more")
        return call[1] & 0xFFFFFFFF

    def is_call(self, call: list[int]) -> bool:
        """Whether it is this ioctl: a number, and at least three arguments."""
        number, _, cmd, arg, *_ = call
        return number in IOCTLS and cmd & 0xFFFFFFFF == self.cmd and arg == self.arg

    def check_again(self, nursery: Nursery) -> None:
        """Now that it is seized: it is the same thread still, in the same call."""
        with _raised(self.permitted, self.effective):
            self._descriptor()
        if self.effective:
            # This helper's capability reaches other users, too.
            Caller(self.thread, self.cmd, self.arg, nursery)


class _raised:
    """With all permitted capabilities, which /proc asks for. What counts for an execve(2) of the
    tracee's are those that the tracer had when it seized it.
    """

    def __init__(self, permitted: int, effective: int) -> None:
        self._permitted, self._effective = permitted, effective

    def __enter__(self) -> None:
        if self._permitted:
            credentials.set_capabilities(self._permitted, self._permitted)

    def __exit__(self, *_: object) -> None:
        if self._permitted:
            credentials.set_capabilities(self._permitted, self._effective)


def _closed(error: OSError) -> Refused:
    if isinstance(error, PermissionError):
        return Refused("is closed to its own user (not dumpable)")
    return Refused(f"has gone ({error.strerror})")


def _ids(found: dict[bytes, bytes], nursery: Nursery) -> tuple[int, int]:
    uids, gids = found[b"Uid"].split(), found[b"Gid"].split()
    if len({*uids}) > 1 or len({*gids}) > 1:
        raise Refused("has several user or group ids (setuid)")
    uid, gid = int(uids[0]), int(gids[0])
    may_change = bits(CAP_SETUID, CAP_SETGID) & ~nursery.permitted == 0
    if (uid, gid) != (nursery.uid, nursery.gid) and not may_change:
        raise Refused("is another user's; the front end lacks CAP_SETUID and CAP_SETGID")
    return uid, gid


def _capabilities(
    found: dict[bytes, bytes], uid: int, nursery: Nursery, is_ours: bool
) -> tuple[int, int]:
    """Permitted and effective ones of the helper. The kernel lets it seize a caller whose permitted
    ones are among its own; or, in another user namespace, one whose namespace its user has made.
    """
    permitted = int(found[b"CapPrm"], 16) if is_ours else 0
    if permitted & ~nursery.permitted == 0:
        return permitted, 0
    # A service may lack what root has. An execve(2) gives root nothing that it has not: no
    # capability, and no user that it could not become.
    becomes_anybody = bits(CAP_SETUID, CAP_SETGID) & ~permitted == 0
    gains_nothing = int(found[b"CapBnd"], 16) & ~permitted == 0
    traces = bits(CAP_SYS_PTRACE)
    if uid == 0 and becomes_anybody and gains_nothing and nursery.permitted & traces:
        return traces, traces
    raise Refused("has capabilities that the front end lacks")


def _check_tracer(found: dict[bytes, bytes]) -> None:
    if int(found[b"TracerPid"]) not in (0, os.getpid()):
        raise Refused("is being traced (strace, a debugger)")


def _check_filters(found: dict[bytes, bytes], thread: int, policy: str) -> None:
    """A filter may answer dup(2) with SIGSYS. That of a container is on all its processes from the
    first one on, and allows dup; further ones are the program's.
    """
    if found.get(b"Seccomp", b"0") == b"0":
        return
    if policy != AUTO:
        raise Refused("has a system call filter (--crioget auto allows that of a container)")
    try:
        first = task.status(task.first_of_pid_namespace(thread))
    except (OSError, KeyError):
        raise Refused("has a system call filter, and its container is not known") from None
    count = found.get(b"Seccomp_filters")
    if count is None or first.get(b"Seccomp_filters") != count:
        raise Refused("has a system call filter of its own (seccomp)")
