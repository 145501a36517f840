"""A real character device, served from user space: CUSE."""

import contextlib
import os
import stat
from pathlib import Path

from cuse_crypto.errors import Failure
from cuse_crypto.fuse import claim, protocol
from cuse_crypto.fuse.channel import Channel
from cuse_crypto.fuse.node import DEV, Attributes, Kind, open_kernel, taken

CUSE = DEV / "cuse"
SYSFS = Path("/sys/class/cuse")
REMEDY = "modprobe cuse, or use --node mounted"


def why_no_cuse() -> str | None:
    """Why this machine cannot make a character device, with the remedy; None if it can."""
    try:
        os.close(open_kernel(CUSE, REMEDY))
    except Failure as failure:
        return str(failure)
    return None


class CuseNode:
    """``/dev/<name>`` as a character device, which goes with the last descriptor of its channel."""

    kind: Kind = "cuse"

    def __init__(self, name: str, attributes: Attributes, fd: int = -1, lock: int = -1) -> None:
        """A new one, or that of a predecessor by its descriptors."""
        self.path = DEV / name
        self.attributes = attributes
        self._sysfs = SYSFS / name
        # Who has made it is not known; to remove it once more does no harm.
        self._made = fd >= 0
        self.channel = Channel(fd)
        self.lock = claim.adopt(self.path, lock)
        if fd >= 0:
            return
        try:
            if self._sysfs.exists() or self.path.exists() or self.path.is_symlink():
                raise taken(self.path, "it exists")
            self.channel = Channel(open_kernel(CUSE, REMEDY))
            self._initialise(name)
            self._make_node()
        except BaseException:
            self.close()
            raise

    def _initialise(self, name: str) -> None:
        buffer = memoryview(bytearray(protocol.READ_BUFFER))
        request = protocol.decode(buffer[: self.channel.read(buffer)])
        if request.opcode.name != "CUSE_INIT":
            raise protocol.ProtocolError(f"{request.opcode.name} came before CUSE_INIT")
        reply = protocol.cuse_init_reply(request.body, name)
        # The kernel makes the device before this write returns; it says no by ending the channel.
        self.channel.reply(request.header.unique, 0, reply)
        if SYSFS.is_dir() and not self._sysfs.exists():
            raise taken(self.path, "the kernel refused the name")

    def _make_node(self) -> None:
        # devtmpfs makes the node, 0600 root; a /dev that is not devtmpfs (a container's) does not.
        if not self.path.exists():
            major, minor = (self._sysfs / "dev").read_text().split(":")
            os.mknod(self.path, stat.S_IFCHR | 0o600, os.makedev(int(major), int(minor)))
            self._made = True
        os.chown(self.path, self.attributes.uid, self.attributes.gid)
        self.path.chmod(self.attributes.mode)

    def waiting(self) -> int:
        """As in Node; of a device that is not there, none."""
        with contextlib.suppress(OSError):
            return int((self._sysfs / "waiting").read_text())
        return 0

    def abort(self) -> None:
        """End the connection; the kernel removes the device when the channel is closed."""
        if self.channel.fd < 0:
            return
        with contextlib.suppress(OSError):
            (self._sysfs / "abort").write_text("1")

    def close(self) -> None:
        """Remove the device."""
        self.abort()
        self.channel.close()
        if self._made:
            self.path.unlink(missing_ok=True)
            self._made = False
        if self.lock >= 0:
            lock, self.lock = self.lock, -1
            claim.release(self.path, lock)
