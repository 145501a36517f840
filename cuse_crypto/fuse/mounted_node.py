"""A FUSE file system whose root is one regular file, mounted over the path of the device.

For kernels without CUSE. Unmodified programs open it and make ioctls; the kernel copies the
argument structure itself, by the size and direction in the request number.

What lies at the path, and who may change that: only who has the right to the name (see claim).

    nothing -> placeholder -> our mount        a start; the mount is complete before it appears
    stale mount -> our mount on top of it      a start after all of a predecessor were killed
    our mount -> (stale mounts ->) placeholder -> nothing        an end

A crash leaves what is there. The placeholder is the inode of a socket, which nothing can open, not
even root (ENXIO): who opens the path gets the device or an error, and can never hold anything else.
"""

import errno
import os
import stat
import threading
from functools import partial
from pathlib import Path

from cuse_crypto.errors import Failure
from cuse_crypto.fuse import claim, protocol
from cuse_crypto.fuse.channel import Channel
from cuse_crypto.fuse.node import DEV, Attributes, Kind, open_kernel, taken
from cuse_crypto.linux import mounts
from cuse_crypto.linux.mounts import mount_at, mount_type, unmount

FUSE = DEV / "fuse"
SUBTYPE = "cuse-crypto"
TYPE = f"fuse.{SUBTYPE}"
REMEDY = "modprobe fuse"
CONNECTIONS = Path("/sys/fs/fuse/connections")
CAP_SYS_ADMIN = 21


def why_no_mount() -> str | None:
    """Why this machine cannot mount a node, with the remedy; None if it seems that it can."""
    try:
        os.close(open_kernel(FUSE, REMEDY))
    except Failure as failure:
        return str(failure)
    if not _may_mount():
        remedy = "run as root" if os.geteuid() else "run as root with CAP_SYS_ADMIN"
        return f"uid {os.geteuid()} may not mount; {remedy}, or use cuse-crypto run"
    return None


def _may_mount() -> bool:
    """Root has CAP_SYS_ADMIN, and so has whoever has made a user namespace."""
    words = Path("/proc/self/status").read_text().split()
    return bool(int(words[words.index("CapEff:") + 1], 16) >> CAP_SYS_ADMIN & 1)


class MountedNode:
    """``/dev/<name>`` as a mounted file."""

    kind: Kind = "mounted"

    def __init__(self, name: str, attributes: Attributes, fd: int = -1, lock: int = -1) -> None:
        """A new one, or that of a predecessor by its descriptors."""
        self.path = DEV / name
        self.attributes = attributes
        self._mounted = fd >= 0
        self.channel = Channel(fd)
        self.lock = claim.adopt(self.path, lock, partial(_end, self.path))
        if self._mounted:
            return
        try:
            _prepare(self.path)
            self.channel = Channel(open_kernel(FUSE, REMEDY))
            self._mount()
        except BaseException:
            self.close()
            raise

    def _mount(self) -> None:
        """Over what is at the path, once the kernel has been answered."""
        options = {
            "source": self.path.name,
            "subtype": SUBTYPE,
            "fd": str(self.channel.fd),
            "rootmode": f"{stat.S_IFREG:o}",
            "user_id": str(os.geteuid()),
            "group_id": str(os.getegid()),
            "allow_other": None,
            "default_permissions": None,
        }
        flags = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
        try:
            with mounts.detached(TYPE, options, flags) as mount:
                self._initialise()
                mounts.attach(mount, self.path)
        except OSError as error:
            reason = f"{error.strerror}; run as root with CAP_SYS_ADMIN"
            raise Failure(f"cannot mount {self.path}: {reason}") from None
        self._mounted = True

    def _initialise(self) -> None:
        buffer = memoryview(bytearray(protocol.READ_BUFFER))
        request = protocol.decode(buffer[: self.channel.read(buffer)])
        if request.opcode.name != "FUSE_INIT":
            raise protocol.ProtocolError(f"{request.opcode.name} came before FUSE_INIT")
        self.channel.reply(request.header.unique, 0, protocol.init_reply(request.body))

    def waiting(self) -> int:
        """As in Node; of a mount that is not there, none. OSError without a fusectl file system."""
        mount = mount_at(self.path)
        if mount is None:
            return 0
        return int((CONNECTIONS / mount.device.partition(":")[2] / "waiting").read_text())

    def abort(self) -> None:
        """Unmount, and end the connection also for those who have the file open."""
        if self._mounted:
            self._mounted = False
            unmount(self.path, mounts.MNT_FORCE | mounts.MNT_DETACH)

    def close(self) -> None:
        """Unmount and remove the placeholder, and give the right to the name back."""
        self.abort()
        self.channel.close()
        if self.lock >= 0:
            lock, self.lock = self.lock, -1
            _give_back(self.path, lock)


def sweep(path: Path) -> None:
    """Remove what a front end that was killed left at ``path``; nothing else is touched."""
    try:
        lock = claim.take(path, partial(_end, path))
    except Failure:
        # It is being served, or no front end of this user can have left anything.
        return
    _give_back(path, lock)


def _end(path: Path) -> None:
    """The mount of a dead process that keeps its channel open, so that the kernel still waits."""
    if mount_type(path) == TYPE:
        unmount(path, mounts.MNT_FORCE | mounts.MNT_DETACH)


def _give_back(path: Path, lock: int) -> None:
    """Remove what is ours at ``path``, and only then the right to be there."""
    try:
        while _is_left_over(path):
            unmount(path, mounts.MNT_DETACH)
        if mount_type(path) is None and _is_placeholder(path):
            path.unlink()
    except OSError as error:
        # EBUSY: another mount namespace, or another bind of /dev, still shows the mount.
        raise Failure(f"{path} stays behind: {error.strerror}; unmount it elsewhere too") from None
    finally:
        claim.release(path, lock)


def _prepare(path: Path) -> None:
    """Have something at ``path`` to mount over; Failure if what is there is not ours."""
    if _is_left_over(path):
        return
    if mount_type(path) == TYPE:
        raise taken(path, "it is being served")
    try:
        if not _is_placeholder(path):
            os.mknod(path, stat.S_IFSOCK)
        elif not stat.S_ISSOCK(path.lstat().st_mode):
            # An older version's: its place is taken at once by one that nothing can open.
            new = path.parent / claim.FOLDER / f".{path.name}"
            new.unlink(missing_ok=True)
            os.mknod(new, stat.S_IFSOCK)
            new.rename(path)
    except FileExistsError:
        raise taken(path, "it exists and is not ours") from None
    except OSError as error:
        raise Failure(f"cannot create {path}: {error.strerror}; choose another --name") from None


def _is_left_over(path: Path) -> bool:
    """A mount of ours whose server is gone."""
    return mount_type(path) == TYPE and is_stale(path)


def _is_placeholder(path: Path) -> bool:
    """An inode without permissions, which tells it from what others put there: that of a socket, or
    an empty file, as older versions had it.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    is_kind = stat.S_ISSOCK(status.st_mode) or (stat.S_ISREG(status.st_mode) and not status.st_size)
    return is_kind and not stat.S_IMODE(status.st_mode)


def is_stale(path: Path) -> bool:
    """True when the process that served the mount is gone, which the kernel says by ENOTCONN."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            # Not stat(2), whose answer may be remembered.
            os.statvfs(path)
        except OSError as error:
            answers.append(error.errno == errno.ENOTCONN)

    # A server that is stopped answers never; it is there all the same.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout=2)
    return any(answers)
