"""Whether this machine lets a program have a ``/dev`` of its own, with our node in it."""

import errno
import os
import signal
import stat

from cuse_crypto import namespaces
from cuse_crypto.cli.guards import Process, forked
from cuse_crypto.errors import Failure
from cuse_crypto.fuse import claim

NODE, ALIAS = "cryptodev0", "crypto"
"""Two names of one node."""
OWN = {NODE, ALIAS, claim.FOLDER}
"""What is not to be the host's."""
PATIENCE = 10.0
"""Seconds for an attempt."""
FUSE = namespaces.DEV / "fuse"


def enter() -> None:
    """Into namespaces in which a node can be mounted; Failure where the machine forbids it."""
    _check_fuse()
    namespaces.enter()


def _check_fuse() -> None:
    """Failure, unless it can be opened."""
    try:
        fd = os.open(FUSE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(_why_no_fuse(error.errno)) from None
    is_device = stat.S_ISCHR(os.fstat(fd).st_mode)
    os.close(fd)
    if not is_device:
        raise Failure(f"{FUSE} is no device; modprobe fuse")


def _why_no_fuse(number: int | None) -> str:
    if number == errno.EACCES:
        closed = f"has mode {stat.S_IMODE(FUSE.stat().st_mode):04o}, closed to uid {os.geteuid()}"
        return f"{FUSE} {closed}; as root: chmod 666 {FUSE}"
    if number in (errno.EPERM, errno.ENOENT):
        why = os.strerror(number)
        return f"{FUSE}: {why}; modprobe fuse, and for a container: --device {FUSE}"
    return f"{FUSE}: {os.strerror(number or 0)}; modprobe fuse"


def why_not_run() -> str | None:
    """Why ``run`` cannot work here, with the remedy; None where it has just been done."""
    from cuse_crypto.fuse.mounted_node import MountedNode
    from cuse_crypto.fuse.node import Attributes

    def attempt() -> None:
        os.close(hear)
        try:
            enter()
            namespaces.private_dev(without=OWN)
            MountedNode(NODE, Attributes()).close()
        except Failure as failure:
            os.write(say, str(failure).encode())

    hear, say = os.pipe()
    pid = forked(attempt)
    process = Process.of("attempt", pid)
    os.close(say)
    with open(hear) as answer:
        if not process.has_ended(PATIENCE):
            # Not waited for: it hangs in the kernel, where a signal may not reach it.
            process.send(signal.SIGKILL)
            return f"mounting does not end within {PATIENCE:.0f} s; see dmesg"
        why = answer.read()
    os.close(process.fd)
    os.waitpid(pid, 0)
    return why or None
