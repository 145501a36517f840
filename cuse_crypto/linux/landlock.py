"""Landlock (landlock(7)): what a process may open by a path, given up for good.

Since Linux 5.13, where the boot option `lsm` has it. Each version of it (ABI) knows of more that
can be given up; what this machine's does not know of stays open.
"""

import ctypes
import os
import struct
from collections.abc import Collection
from pathlib import Path

from cuse_crypto.linux.libc import syscall

# linux/landlock.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
READ_FILE, WRITE_FILE, IOCTL_DEV = 1 << 2, 1 << 1, 1 << 15
_FILES = (0, 13, 14, 15, 15, 16)
"""Rights of the file system in version 0, 1, ...; later versions have as many as the last."""
_ALL_TCP, _ALL_SCOPES = 0x3, 0x3
_TCP_SINCE, _SCOPES_SINCE = 4, 6
_RULESET = struct.Struct("=QQQ")
"""landlock_ruleset_attr: rights of files, of TCP, and scopes (abstract sockets, signals)."""
_RULE = struct.Struct("=Qi")
"""landlock_path_beneath_attr, which is packed."""


def version() -> int:
    """Of this kernel's Landlock; 0 where there is none."""
    try:
        return syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    except OSError:
        return 0


def restrict(read: Collection[Path] = (), devices: Collection[Path] = ()) -> bool:
    """Open nothing by a path from now on, in this thread and those that it starts.

    But for ``read``, and for ``devices``, to work on. Descriptors that are open stay so, and what
    has no path, such as a pipe in /proc/self/fd. False where the kernel has no Landlock. The thread
    has to have no_new_privs or CAP_SYS_ADMIN.
    """
    known = version()
    if not known:
        return False
    rights = (1 << _FILES[min(known, len(_FILES) - 1)]) - 1
    tcp = _ALL_TCP if known >= _TCP_SINCE else 0
    scopes = _ALL_SCOPES if known >= _SCOPES_SINCE else 0
    attributes = _RULESET.pack(rights, tcp, scopes)
    size = 24 if scopes else 16 if tcp else 8
    rules = syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    try:
        for path in read:
            _allow(rules, path, READ_FILE & rights)
        for path in devices:
            _allow(rules, path, (READ_FILE | WRITE_FILE | IOCTL_DEV) & rights)
        syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    return True


def _allow(rules: int, path: Path, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        syscall(_ADD_RULE, rules, _PATH_BENEATH, _RULE.pack(rights, fd), 0)
    finally:
        os.close(fd)
