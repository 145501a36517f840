"""The right to serve ``/dev/NAME``, and who does it.

A file for each name, in a folder that nobody but its owner can enter. An flock on the file is the
right: on the node or on what lies under it any user who can open that could take it. A process that
serves writes into the file who it is, for `cuse-crypto upgrade`.

The file is removed by who has the lock. A crash leaves it behind without one; the next one that
takes the name takes that file. In ``/dev``, for it is the names in there that are taken.
"""

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure
from cuse_crypto.fuse.node import DEV, taken
from cuse_crypto.linux.processes import Identity

FOLDER = ".cuse-crypto"
"""No node has a name like this: see checked_name."""
_SIZE = 128
"""Bytes of a file: more than its numbers can take."""


class Server(NamedTuple):
    """The process that serves a name, the ``generation``-th front end of its node."""

    process: Identity
    generation: int


def take(path: Path) -> int:
    """The descriptor that has the right to ``path``; Failure if another process has it."""
    try:
        while True:
            with contextlib.suppress(FileNotFoundError), _folder(path.parent) as folder:
                fd = _locked(path, folder)
                # With no name left it was removed by whoever had the lock before.
                if os.fstat(fd).st_nlink:
                    return fd
                os.close(fd)
    except OSError as error:
        raise Failure(f"cannot create {path}: {error.strerror}; choose another --name") from None


def _locked(path: Path, folder: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path.name, flags, 0o600, dir_fd=folder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise taken(path, "it is being served") from None
    return fd


def adopt(path: Path, fd: int) -> int:
    """The right that a predecessor has left as ``fd``; a new one where that is none."""
    if _is_right(path, fd):
        return fd
    if fd >= 0:
        os.close(fd)
    return take(path)


def _is_right(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path.parent / FOLDER / path.name))
    except OSError:
        return False


def release(path: Path, fd: int) -> None:
    """Give the right and the descriptor back."""
    folder = path.parent / FOLDER
    if _is_right(path, fd):
        (folder / path.name).unlink()
    give_up(fd)
    os.close(fd)
    with contextlib.suppress(OSError):
        folder.rmdir()


def give_up(fd: int) -> None:
    """The right that ``fd`` has, if it has any, for all descriptors that were made from it.

    Explicitly: a thread of a dead process that hangs in the kernel keeps its descriptors open.
    """
    if fd >= 0:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)


def record(fd: int, generation: int) -> None:
    """This process serves; ``fd`` has the right to the name."""
    written = json.dumps([*Identity.own(), generation]).encode()
    # In one call over what was there, so that a reader finds the old one or the new one.
    os.pwrite(fd, written.ljust(_SIZE), 0)


def servers(dev: Path = DEV) -> dict[str, Server]:
    """Who serves, or did when it was killed, by name. PermissionError if only root may see."""
    found: dict[str, Server] = {}
    with contextlib.suppress(FileNotFoundError), _folder(dev, create=False) as folder:
        for name in os.listdir(folder):
            with contextlib.suppress(OSError, TypeError, ValueError):
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                with open(fd, "rb") as file:
                    *process, generation = map(int, json.loads(file.read(_SIZE)))
                found[name] = Server(Identity(*process), generation)
    return found


@contextlib.contextmanager
def _folder(dev: Path, *, create: bool = True) -> Iterator[int]:
    """A descriptor of the folder. Failure where it is open to others."""
    path = dev / FOLDER
    if create:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise Failure(f"{path} is not closed to other users; remove it")
        yield fd
    finally:
        os.close(fd)
