"""The process that forks helpers: a program of its own, so that nothing of the front end's memory
is in it, with no descriptor but one socket.

For each byte that it is sent it forks one helper, ahead of time, and sends two descriptors of it:
the other end of its socket, and its pidfd. It ends with the front end.
"""

import _socket
import gc
import os
import resource
import struct
import sys

from cuse_crypto.frontend.crioget import helper
from cuse_crypto.frontend.crioget.caller import Nursery
from cuse_crypto.linux import credentials, signals
from cuse_crypto.linux.credentials import (
    CAP_DAC_OVERRIDE,
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_PTRACE,
    PR_SET_PDEATHSIG,
    bits,
)

ONE, AGAIN = b"1", b"r"
"""What the front end says: one more helper; run the installed program again, which may be newer,
with the policy that follows."""
NEEDED = bits(CAP_SETUID, CAP_SETGID, CAP_SYS_PTRACE, CAP_DAC_OVERRIDE, CAP_KILL)
"""To become callers, and to look into their /proc/PID; to end with its helpers. What it has besides
stays permitted, for helpers of callers who have it; it is not in effect."""


def main() -> None:
    """Arguments: the socket's number, the policy, the pid of the front end."""
    link, policy, parent = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    credentials.prctl(PR_SET_PDEATHSIG, signals.SIGKILL)
    with open("/proc/self/comm", "w") as comm:
        comm.write("cuse-crioget")
    if os.getppid() != parent:
        return
    nursery = _confined(policy)
    # What is not collected is not written to, and so not copied by fork(2).
    gc.disable()
    gc.freeze()
    _serve(_socket.socket(fileno=link), nursery)


def _confined(policy: str) -> Nursery:
    for number in (signals.SIGINT, signals.SIGHUP, signals.SIGTERM, signals.SIGCHLD):
        # It ends with the front end; children are not waited for.
        signals.set_action(number, signals.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nursery = Nursery(policy)
    credentials.set_capabilities(nursery.permitted, nursery.permitted & NEEDED)
    credentials.lock()
    return nursery


def _serve(link: _socket.socket, nursery: Nursery) -> None:
    while said := link.recv(64):
        if said[:1] == AGAIN:
            os.set_inheritable(link.fileno(), True)
            *words, _, parent = sys.orig_argv
            os.execv(sys.executable, [*words, said[1:].decode(), parent])
        _fork_one(link, nursery)


def _fork_one(link: _socket.socket, nursery: Nursery) -> None:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    parent = os.getpid()
    try:
        pid = os.fork()
        if not pid:
            try:
                helper.live(theirs.fileno(), parent, nursery)
            finally:
                os._exit(0)
        _send(link, ours.fileno(), os.pidfd_open(pid))
    except OSError as error:
        link.send(struct.pack("=I", error.errno or 0))
    finally:
        ours.close()
        theirs.close()


def _send(link: _socket.socket, *descriptors: int) -> None:
    rights = struct.pack(f"={len(descriptors)}i", *descriptors)
    link.sendmsg([b"\0" * 4], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    os.close(descriptors[-1])
