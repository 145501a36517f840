"""A process for one CRIOGET: it looks at the caller, becomes its user, traces it, and ends."""

import errno
import os
import struct

from cuse_crypto.frontend.crioget.caller import Caller, Nursery, Refused
from cuse_crypto.frontend.crioget.tracer import duplicate
from cuse_crypto.linux import credentials, signals, task
from cuse_crypto.linux.credentials import PR_SET_PDEATHSIG
from cuse_crypto.linux.ptrace import Gone, Tracee

REQUEST = struct.Struct("=iIQ")
"""What the front end sends: the caller's thread, cmd and arg of its ioctl."""
READY = struct.pack("=I", 0)
"""The answer: the caller is seized, and is to be answered with 0. Else an errno, and why."""
ANSWERED = b"1"
"""The front end says then that it has done so."""
LINK = 0
"""The only descriptor."""
SEIZE_TIME = 0.1
"""Seconds until the answer. SEIZE may wait for an execve(2) of another thread, which waits for the
caller, who waits for us: only the end of this process ends that."""
ANSWER_TIME = 2.0
"""Seconds for the front end to answer the caller and say so: it may have died."""


def live(link: int, parent: int, nursery: Nursery) -> None:
    """The life of a helper."""
    os.dup2(link, LINK)
    os.closerange(LINK + 1, os.sysconf("SC_OPEN_MAX"))
    # Until it becomes another user. Then its deadlines end it.
    credentials.prctl(PR_SET_PDEATHSIG, signals.SIGKILL)
    signals.block_all()
    signals.set_action(signals.SIGCHLD, signals.SIG_DFL)
    if os.getppid() == parent:
        deadline = signals.Deadline()
        _touch(nursery)
        message = os.read(LINK, REQUEST.size)
        if message:
            _serve(message, nursery, deadline)


def _touch(nursery: Nursery) -> None:
    """Go the way of a request now, for memory that is copied when it is touched first is copied
    before anybody waits.
    """
    try:
        Caller(os.getppid(), 0, 0, nursery)
    except Refused:
        return


def _serve(message: bytes, nursery: Nursery, deadline: signals.Deadline) -> None:
    deadline.set(SEIZE_TIME)
    try:
        thread, cmd, arg = REQUEST.unpack(message)
        caller = Caller(thread, cmd, arg, nursery)
        tracee = _seized(caller, nursery)
    except Refused as reason:
        os.write(LINK, struct.pack("=I", errno.EOPNOTSUPP) + str(reason).encode())
        return
    deadline.set(ANSWER_TIME)
    os.write(LINK, READY)
    os.set_blocking(LINK, False)
    try:
        duplicate(tracee, caller, LINK, deadline)
    except (Gone, OSError):
        # Killed in the middle: no ptrace(2) finds it any more.
        return


def _seized(caller: Caller, nursery: Nursery) -> Tracee:
    """With the caller's rights, from here on."""
    try:
        rights = caller.permitted, caller.effective
        credentials.become(caller.uid, caller.gid, *rights, caller.namespace)
        if caller.namespace is not None:
            os.close(caller.namespace)
        credentials.prctl(PR_SET_PDEATHSIG, 0)
        tracee = Tracee(caller.thread)
        caller.check_again(nursery)
        tracee.interrupt()
    except OSError as error:
        raise Refused(_why(error)) from None
    return tracee


def _why(error: OSError) -> str:
    scope = task.yama_scope()
    if error.errno == errno.EPERM and scope:
        return f"may not be traced: kernel.yama.ptrace_scope is {scope}; set it to 0"
    return "is not dumpable, or in a user namespace that another user has made"
