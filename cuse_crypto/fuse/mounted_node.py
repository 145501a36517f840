"""A FUSE file system whose root is one regular file, mounted over the path of the device.

For kernels without CUSE. Unmodified programs open it and make ioctls; the kernel copies the
argument structure itself, by the size and direction in the request number.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import threading
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.channel import Channel
from cuse_crypto.fuse.node import DEV, Attributes, Kind, open_kernel, taken

FUSE = DEV / "fuse"
TYPE = "fuse.cuse-crypto"
REMEDY = "modprobe fuse"
MOUNTS = Path("/proc/self/mountinfo")
CONNECTIONS = Path("/sys/fs/fuse/connections")

# sys/mount.h
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MNT_FORCE, MNT_DETACH = 0x1, 0x2
CAP_SYS_ADMIN = 21

_libc = ctypes.CDLL(None, use_errno=True)


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
    """``/dev/<name>`` as a mounted file, over a placeholder that an flock marks as in use."""

    kind: Kind = "mounted"

    def __init__(self, name: str, attributes: Attributes, fd: int = -1, lock: int = -1) -> None:
        """A new one, or that of a predecessor by its descriptors."""
        self.path = DEV / name
        self.attributes = attributes
        self._mounted = fd >= 0
        self.channel = Channel(fd)
        self.lock = lock
        if self._mounted:
            return
        self.lock = _claim(self.path)
        try:
            self.channel = Channel(open_kernel(FUSE, REMEDY))
            self._mount()
            self._initialise()
        except BaseException:
            self.close()
            raise

    def _mount(self) -> None:
        options = (
            f"fd={self.channel.fd},rootmode={stat.S_IFREG:o},user_id={os.geteuid()},"
            f"group_id={os.getegid()},allow_other,default_permissions"
        )
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
        arguments = self.path.name, os.fspath(self.path), TYPE, options
        if _libc.mount(*(text.encode() for text in arguments[:3]), flags, options.encode()):
            reason = os.strerror(ctypes.get_errno())
            raise Failure(f"cannot mount {self.path}: {reason}; run as root with CAP_SYS_ADMIN")
        self._mounted = True

    def _initialise(self) -> None:
        buffer = memoryview(bytearray(protocol.READ_BUFFER))
        request = protocol.decode(buffer[: self.channel.read(buffer)])
        if request.opcode.name != "FUSE_INIT":
            raise protocol.ProtocolError(f"{request.opcode.name} came before FUSE_INIT")
        self.channel.reply(request.header.unique, 0, protocol.init_reply(request.body))

    def waiting(self) -> int:
        """As in Node; of a mount that is not there, none. OSError without a fusectl file system."""
        mount = _mount(self.path)
        if mount is None:
            return 0
        return int((CONNECTIONS / mount.device.partition(":")[2] / "waiting").read_text())

    def abort(self) -> None:
        """Unmount, and end the connection also for those who have the file open."""
        if self._mounted:
            self._mounted = False
            unmount(self.path, MNT_FORCE | MNT_DETACH)

    def close(self) -> None:
        """Unmount and remove the placeholder."""
        self.abort()
        self.channel.close()
        if self.lock >= 0:
            lock, self.lock = self.lock, -1
            _remove(self.path, lock)


def sweep(path: Path) -> None:
    """Remove what a front end that was killed left at ``path``; nothing else is touched."""
    if mount_type(path) == TYPE and is_stale(path):
        unmount(path, MNT_DETACH)
    if mount_type(path) != TYPE:
        with contextlib.suppress(Failure, FileNotFoundError):
            _remove(path, _lock(path, create=False))


def _remove(path: Path, lock: int) -> None:
    """Remove the placeholder, and only then its lock."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        # EBUSY: another mount namespace, or another bind of /dev, still shows the mount.
        raise Failure(f"{path} stays behind: {error.strerror}; unmount it elsewhere too") from None
    finally:
        os.close(lock)


def _claim(path: Path) -> int:
    """The locked descriptor of an empty file at ``path``."""
    sweep(path)
    if mount_type(path) == TYPE:
        raise taken(path, "it is being served")
    return _lock(path, create=True)


def _lock(path: Path, *, create: bool) -> int:
    """Lock the placeholder; Failure if it is something else, or locked by a living front end."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_CREAT * create, 0)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Failure(f"cannot create {path}: {error.strerror}; choose another --name") from None
    status = os.fstat(fd)
    try:
        # Permissions of 0 tell the placeholder from any file that somebody put there.
        if not stat.S_ISREG(status.st_mode) or status.st_size or stat.S_IMODE(status.st_mode):
            raise taken(path, "it exists and is not ours")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            raise taken(path, "it is being served") from None
        raise
    return fd


class Mount(NamedTuple):
    """One line of proc_pid_mountinfo(5)."""

    device: str
    type: str


def _mount(path: Path) -> Mount | None:
    """What is mounted at ``path`` itself."""
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        about = Path(f"/proc/self/fdinfo/{fd}").read_text().split()
    finally:
        os.close(fd)
    # By its number: there may be one of the same path in a /dev that is mounted over.
    number = about[about.index("mnt_id:") + 1]
    for line in MOUNTS.read_text().splitlines():
        fields = line.split()
        if (fields[0], fields[4]) == (number, os.fspath(path)):
            return Mount(fields[2], fields[fields.index("-") + 1])
    return None


def mount_type(path: Path) -> str | None:
    """The file system type of what is mounted at ``path`` itself."""
    mount = _mount(path)
    return mount.type if mount else None


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


def unmount(path: Path, flags: int) -> None:
    if not _libc.umount2(os.fspath(path).encode(), flags):
        return
    error = ctypes.get_errno()
    # ENOENT and EINVAL: somebody else has unmounted it.
    if error not in (errno.ENOENT, errno.EINVAL):
        raise Failure(f"cannot unmount {path}: {os.strerror(error)}")
