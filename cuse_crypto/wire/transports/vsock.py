"""``vsock:CID:PORT``: between virtual machines and their host (vsock(7)); the kernel says who."""

import errno
import fcntl
import socket
import struct

from cuse_crypto.errors import Failure
from cuse_crypto.wire.connection import Connection, set_timeouts
from cuse_crypto.wire.tls import Credentials

NAMES = {"any": socket.VMADDR_CID_ANY, "local": 1, "host": socket.VMADDR_CID_HOST}
"""What may stand for a CID; the second is VMADDR_CID_LOCAL."""
BACKLOG = 128
_REMEDY = "modprobe vhost_vsock on a host, vmw_vsock_virtio_transport or vsock_loopback elsewhere"


def check(rest: str) -> None:
    """Failure for what is no CID and port."""
    cid, _, port = rest.rpartition(":")
    if not ((cid in NAMES or cid.isdecimal()) and port.isdecimal() and int(port) < 1 << 32):
        raise Failure(f"vsock:{rest}: write vsock:CID:PORT; a CID is a number, any, local or host")


def _split(rest: str) -> tuple[int, int]:
    cid, _, port = rest.rpartition(":")
    return NAMES[cid] if cid in NAMES else int(cid), int(port)


def listen(rest: str, tls: Credentials | None) -> socket.socket:
    """Failure where that cannot be."""
    try:
        sock = socket.socket(socket.AF_VSOCK)
    except OSError as error:
        raise Failure(f"cannot listen on vsock:{rest}: {error.strerror}; {_REMEDY}") from None
    try:
        sock.bind(_split(rest))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Failure(f"cannot listen on vsock:{rest}: {error.strerror}; {_REMEDY}") from None
    return sock


class VsockConnection(Connection):
    """A connection over vsock."""

    def set_timeouts(self, receiving: float, sending: float) -> None:
        """As in Connection. Python takes only numbers as options of such a socket, and a time is
        none: so it is not told what kind of socket this is.
        """
        kind = socket.AF_UNIX, socket.SOCK_STREAM, 0
        plain = socket.socket(*kind, fileno=self.socket.fileno())
        try:
            set_timeouts(plain, receiving, sending)
        finally:
            plain.detach()


def connect(rest: str, timeout: float, deadline: float, tls: Credentials | None) -> Connection:
    """OSError if nobody answers in time."""
    sock = socket.socket(socket.AF_VSOCK)
    try:
        sock.settimeout(timeout)
        sock.connect(_split(rest))
        return VsockConnection(sock, deadline)
    except OSError as error:
        sock.close()
        if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise OSError(error.errno, f"{error.strerror}; {_REMEDY}") from None
        raise
    except BaseException:
        sock.close()
        raise


def own_cids() -> frozenset[int]:
    """Of this machine: VMADDR_CID_LOCAL, and the one that others know it by."""
    found = {NAMES["local"]}
    try:
        with open("/dev/vsock", "rb") as device:
            told = fcntl.ioctl(device, socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, bytes(4))
            found.add(struct.unpack("=I", told)[0])
    except OSError:
        pass
    return frozenset(found) - {socket.VMADDR_CID_ANY}
