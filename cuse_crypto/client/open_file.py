"""An open crypto device: the owner of its descriptor, and the one place that makes ioctls.

Knows numbers and layouts of the ABI, and nothing of what an operation means.
"""

import errno
import fcntl
import os
import struct
import warnings
from typing import Any, Literal, TypeVar

from cuse_crypto.abi.ioctls import IOCTLS, layout_of

RecordT = TypeVar("RecordT", bound=tuple[Any, ...])

_WIDTH: Literal[32, 64] = 64 if struct.calcsize("P") == 8 else 32
_ROWS = {row.name: (row.number(_WIDTH), layout_of(row, _WIDTH)) for row in IOCTLS}

_REMEDIES = {
    errno.ENOENT: "no such device; start one with `cuse-crypto up --name {name}`",
    errno.ENOTCONN: "its front end has died; start it again with `cuse-crypto up --name {name}`",
    errno.EACCES: "not allowed; become one of its group, or use `cuse-crypto up --mode 0666`",
}


class OpenFile:
    """The descriptor of an open device, -1 once it is closed.

    Any thread may make a call; nobody may ``close`` while somebody does.
    """

    busy = False
    """Operations may be in flight: the device writes to memory of ours, and must not be closed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = -1
        self.path = os.fspath(path)
        try:
            self._fd = os.open(path, os.O_RDWR)
        except OSError as error:
            number = error.errno or errno.EIO
            remedy = _REMEDIES.get(number, os.strerror(number))
            message = remedy.format(name=os.path.basename(self.path))
            raise OSError(number, message, self.path) from None

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._fd < 0

    def fileno(self) -> int:
        """The descriptor. ValueError once it is closed."""
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    def call(self, name: str, request: RecordT, *, repeatable: bool = True) -> RecordT:
        """Make the ioctl ``name``; its structure as the device gave it back.

        OSError with the device's errno. A call that a signal interrupted is made again, as the rest
        of Python does it (PEP 475), unless a part of it may have been done that cannot be done
        twice: then it is an InterruptedError. Only a node of cuse-crypto can be interrupted, after
        a tenth of a second.
        """
        number, layout = _ROWS[name]
        argument = bytearray(layout.size)
        layout.pack_into(argument, 0, *request)
        while True:
            try:
                fcntl.ioctl(self.fileno(), number, argument)
            except InterruptedError:
                if not repeatable:
                    reason = "interrupted by a signal; how much of it was done is not known"
                    raise self.error(errno.EINTR, name, reason) from None
            except OSError as error:
                raise self.error(error.errno or errno.EIO, name) from None
            else:
                answer: RecordT = layout.read(argument)
                return answer

    def error(self, number: int, name: str, reason: str = "") -> OSError:
        """What ``name`` failed with; ``reason`` where more than the errno is known."""
        return OSError(number, f"{name}: {reason or os.strerror(number)}", self.path)

    def close(self) -> None:
        """Give the descriptor back, and with it all sessions. Again is harmless."""
        if self.busy:
            raise ValueError(f"{self.path} has a queue that is still open")
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if self._fd >= 0:
            message = f"unclosed crypto device {self.path}"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            os.close(self._fd)
