"""What a service says to whoever started it, and what it was given: sd_notify(3), sd_listen_fds(3).

systemd speaks this, and so does ``cuse-crypto up``: both keep descriptors for a successor.
"""

import array
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable

FIRST = 3
"""SD_LISTEN_FDS_START"""
TIMEOUT = 1
"""Seconds for somebody who listens and does not hear."""
_TIMEVAL = struct.pack("ll", TIMEOUT, 0)


def notify(*assignments: str, descriptors: Iterable[int] = ()) -> bool:
    """Send ``READY=1`` and its like, with ``descriptors``; False where nobody wants to hear it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(address)
        sock.sendmsg(["\n".join(assignments).encode()], ancillary if ancillary[0][2] else [])
        return True
    return False


class Supervisor:
    """Whoever started this process, by a socket that is open before no more can be opened."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]
        self._socket: socket.socket | None = None
        if address:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL)
                sock.connect(address)
                self._socket = sock
            except OSError:
                sock.close()

    def tell(self, *assignments: str, wait: bool = True) -> None:
        """``READY=1`` and its like; nothing happens where nobody wants to hear it.

        ``wait``: for one who has much to hear, a few seconds.
        """
        if self._socket:
            with contextlib.suppress(OSError):
                flags = 0 if wait else socket.MSG_DONTWAIT
                self._socket.send("\n".join(assignments).encode(), flags)

    def close(self) -> None:
        """Nothing more will be said."""
        if self._socket:
            self._socket.close()


def watchdog_period() -> float | None:
    """Seconds within which the supervisor wants to hear ``WATCHDOG=1``; None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if mine and microseconds.isdecimal() else None


def store(name: str, descriptor: int) -> None:
    """Have ``descriptor`` kept for a successor, which finds it in ``inherited``.

    OSError where there is somebody who should, and does not hear.
    """
    heard = notify("FDSTORE=1", f"FDNAME={name}", descriptors=[descriptor])
    if not heard and os.environ.get("NOTIFY_SOCKET"):
        raise OSError(errno.EAGAIN, "whoever looks after this process does not hear")


def discard(name: str) -> None:
    """Have what was stored under ``name`` closed."""
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")


def inherited() -> list[tuple[str, int]]:
    """Names and numbers of the descriptors that this process was started with; asked for once.

    They are not passed on to children.
    """
    count, names = os.environ.pop("LISTEN_FDS", "0"), os.environ.pop("LISTEN_FDNAMES", "")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not count.isdecimal():
        return []
    numbers = range(FIRST, FIRST + int(count))
    for number in numbers:
        os.set_inheritable(number, False)
    named = names.split(":") if names else []
    return list(zip([*named, *["unknown"] * len(numbers)], numbers, strict=False))
