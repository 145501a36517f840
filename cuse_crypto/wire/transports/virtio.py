"""``virtio:NAME``: a virtio-serial port of a virtual machine, which the host gives its name.

QEMU joins it to a socket of the host's; what is read and written here is its stream of bytes.
"""

import errno
import os
import select
import socket
import threading
import time
from functools import partial
from pathlib import Path

from cuse_crypto.errors import Failure
from cuse_crypto.wire.connection import Connection
from cuse_crypto.wire.stream import Stream, StreamConnection
from cuse_crypto.wire.tls import Credentials

PORTS = Path("/sys/class/virtio-ports")
_LOOK = 0.02
"""Seconds from one look at whether the host is there to the next."""
_streams: dict[str, Stream] = {}
_lock = threading.Lock()


def check(name: str) -> None:
    """Any name will do."""


def listen(name: str, tls: Credentials | None) -> socket.socket:
    """Failure: nobody can."""
    raise Failure(
        f"virtio:{name} is for the guest, to connect; on the host listen on a Unix socket and "
        "give its path to QEMU (-chardev socket,path=...)"
    )


def connect(name: str, timeout: float, deadline: float, tls: Credentials | None) -> Connection:
    """OSError if there is no such port, or nobody behind it in time."""
    with _lock:
        stream = _streams.setdefault(name, Stream(partial(_open, name)))
    return StreamConnection(stream, timeout, deadline)


def device(name: str) -> str:
    """The path in /dev of the port ``name``; OSError if there is none."""
    for port in sorted(PORTS.glob("*/name")):
        if port.read_text().strip() == name:
            return f"/dev/{port.parent.name}"
    raise OSError(
        errno.ENODEV,
        f"no virtio-serial port is named {name}; modprobe virtio_console, and on the host "
        f"-device virtserialport,chardev=...,name={name}",
    )


def _open(name: str, timeout: float) -> int:
    path = device(name)
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.EBUSY:
            reason = f"{path} is open already; one device at a time may use it"
            raise OSError(errno.EBUSY, reason) from None
        raise
    try:
        _await_host(fd, timeout)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _await_host(fd: int, timeout: float) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    end = time.monotonic() + timeout
    # A port without a host is always "ready", with POLLHUP.
    while any(event & select.POLLHUP for _, event in poll.poll(timeout * 1000)):
        if time.monotonic() > end:
            raise OSError(errno.ENOTCONN, "nobody is behind the port on the host's side")
        time.sleep(_LOOK)
