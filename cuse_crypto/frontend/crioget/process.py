"""The nursery, as the front end has it."""

import errno
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.frontend.crioget.nursery import AGAIN, ONE
from cuse_crypto.linux import credentials, task
from cuse_crypto.linux.credentials import CAP_SETGID, CAP_SETUID, bits
from cuse_crypto.linux.ptrace import IOCTLS

HANDED_OVER = "crioget"
"""The name of its socket among the descriptors that an upgraded program inherits."""
_RIGHTS = struct.Struct("=2i")
"""A helper's socket, and its pidfd."""
_ROOT = Path(__file__).parents[3]
_START = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from cuse_crypto.frontend.crioget.nursery import main; main()"
)
# Nothing of the environment, of the user's folders, or of other packages.
_COMMAND = [sys.executable, "-I", "-S", "-c", _START, str(_ROOT)]


class Spare(NamedTuple):
    """A helper that waits for a request: its socket, and its pidfd."""

    link: socket.socket
    pidfd: int

    def close(self) -> None:
        """Give both back. One that has no request yet ends."""
        self.link.close()
        os.close(self.pidfd)


class NurseryProcess:
    """The process that forks helpers. To be made before this one gives up privileges."""

    def __init__(self, policy: str, inherited: int | None = None) -> None:
        """``policy``: of caller.py; ``inherited``: the socket that this program's predecessor in
        the same process has had: that nursery becomes the installed program, too.
        """
        if inherited is not None:
            self._socket = socket.socket(fileno=inherited)
            self._socket.set_inheritable(False)
            self._send(AGAIN + policy.encode())
            return
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            # Not waited for: it goes with this process, and this process with it never.
            self._process = subprocess.Popen(
                [*_COMMAND, str(number), policy, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={},
                cwd="/",
                pass_fds=[number],
            )

    def fileno(self) -> int:
        """Readable when there is something to ``take``."""
        return self._socket.fileno()

    def order(self) -> None:
        """Ask for one more helper; OSError when the nursery has died."""
        self._socket.send(ONE)

    def take(self) -> Spare:
        """One that was ordered; OSError where there is none: ECHILD when the nursery has died."""
        # A helper without a request ends with its socket: an upgraded program must not have it.
        flags, room = socket.MSG_CMSG_CLOEXEC, socket.CMSG_LEN(_RIGHTS.size)
        data, rights, _, _ = self._socket.recvmsg(4, room, flags)
        if rights:
            link, pidfd = _RIGHTS.unpack(rights[0][2])
            return Spare(socket.socket(fileno=link), pidfd)
        number = struct.unpack("=I", data)[0] if data else errno.ECHILD
        raise OSError(number, os.strerror(number))

    def handed_over(self) -> dict[str, int]:
        """For the program that this process becomes."""
        return {HANDED_OVER: self.fileno()}

    def close(self) -> None:
        """It ends, with all helpers that have no request."""
        self._socket.close()

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError:
            # It has died; the next order of a helper fails.
            return


def why_no_crioget() -> str | None:
    """Why no caller can have it here, with the fix; None where most can."""
    if not IOCTLS:
        return f"not for {os.uname().machine}: x86-64, its 32-bit programs and aarch64"
    if scope := task.yama_scope():
        return f"kernel.yama.ptrace_scope is {scope}; sysctl kernel.yama.ptrace_scope=0"
    if os.geteuid() == 0 and bits(CAP_SETUID, CAP_SETGID) & ~credentials.permitted():
        return "other users' programs cannot be traced; grant CAP_SETUID and CAP_SETGID"
    return None
