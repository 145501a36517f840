"""Mounts: what is mounted where, and file systems that are mounted before anybody sees them.

fsopen(2), fsconfig(2), fsmount(2) and move_mount(2), since Linux 5.2; umount(2); mountinfo.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure
from cuse_crypto.linux.libc import checked, libc, syscall

MOUNTS = Path("/proc/self/mountinfo")

# sys/mount.h; the first three are the same for fsmount(2)
NOSUID, NODEV, NOEXEC = 0x2, 0x4, 0x8
MNT_FORCE, MNT_DETACH = 0x1, 0x2

# asm-generic/unistd.h, linux/mount.h
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_FROM_DESCRIPTOR = 0x4
_AT_FDCWD = -100


class Mount(NamedTuple):
    """One line of proc_pid_mountinfo(5)."""

    device: str
    type: str


def mount_at(path: Path) -> Mount | None:
    """What is mounted at ``path`` itself, the topmost if there are several."""
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
    mount = mount_at(path)
    return mount.type if mount else None


def unmount(path: Path, flags: int) -> None:
    """The topmost mount at ``path``, if there is one. Failure where the kernel says no."""
    try:
        checked(libc.umount2(os.fsencode(path), flags))
    except OSError as error:
        # ENOENT and EINVAL: another process has unmounted it.
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise Failure(f"cannot unmount {path}: {error.strerror}") from None


@contextlib.contextmanager
def detached(kind: str, options: Mapping[str, str | None], flags: int) -> Iterator[int]:
    """The descriptor of a mount that is at no path yet; it goes, unless ``attach`` is called.

    ``options``: None for those without a value; ``flags``: NOSUID and its like.
    """
    context = syscall(_FSOPEN, kind.encode(), _CLOEXEC)
    try:
        for name, value in options.items():
            command = _SET_FLAG if value is None else _SET_STRING
            syscall(_FSCONFIG, context, command, name.encode(), value and value.encode(), 0)
        syscall(_FSCONFIG, context, _CREATE, None, None, 0)
        mount = syscall(_FSMOUNT, context, _CLOEXEC, flags)
    finally:
        os.close(context)
    try:
        yield mount
    finally:
        os.close(mount)


def attach(mount: int, path: Path) -> None:
    """At once, over whatever is at ``path``, which is no symbolic link that would be followed."""
    syscall(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(path), _FROM_DESCRIPTOR)
