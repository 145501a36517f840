"""The right to serve ``/dev/NAME``, and who does it.

A file for each name, in a folder that only its owner can enter. An flock on the file is the
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure
from cuse_crypto.fuse.node import DEV, taken
from cuse_crypto.linux.processes import Identity, is_alive

FOLDER = ".cuse-crypto"
"""No node has a name like this: see checked_name."""
_SIZE = 256
"""Bytes of a file: more than its numbers can take."""


class Server(NamedTuple):
    """The process that serves a name, the ``generation``-th front end of its node.

    Generation 0 is one that is starting, and cannot be told to upgrade. ``refused``: upgrades that
    it has refused, because a thread hung in the memory of ``hung_uid``.
    ``supervisor``, as far as it is one of this project's, has what the next front end takes over.
    """

    process: Identity
    supervisor: Identity | None
    generation: int
    refused: int = 0
    hung_uid: int = 0

    @property
    def is_dead(self) -> bool:
        """No process serves it or will take it over, though a thread that hangs has the right."""
        return not any(one and is_alive(one) for one in (self.process, self.supervisor))


def take(path: Path, end: Callable[[], None] = lambda: None) -> int:
    """The descriptor that has the right to ``path``; Failure if another process has it.

    ``end`` is called where a dead process has it, for what that still keeps open.
    """
    try:
        while True:
            with contextlib.suppress(FileNotFoundError), _folder(path.parent) as folder:
                # Two that find the same dead process would both take its right.
                fcntl.flock(folder, fcntl.LOCK_EX)
                fd = _locked(path, folder, end)
                # With no name left, the process that had the lock before has removed it.
                if os.fstat(fd).st_nlink:
                    return fd
                os.close(fd)
    except OSError as error:
        raise Failure(f"cannot create {path}: {error.strerror}; choose another --name") from None


def _locked(path: Path, folder: int, end: Callable[[], None]) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path.name, flags, 0o600, dir_fd=folder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        server = _read(fd)
        os.close(fd)
        if server and server.is_dead:
            # The dead process keeps its right, to a file that has no name any more.
            os.unlink(path.name, dir_fd=folder)
            end()
            return _locked(path, folder, end)
        raise taken(path, "it is being served") from None
    _begin(fd)
    return fd


def adopt(path: Path, fd: int, end: Callable[[], None] = lambda: None) -> int:
    """The right that a predecessor has left as ``fd``; a new one where that is none."""
    if _is_right(path, fd):
        _begin(fd)
        return fd
    if fd >= 0:
        os.close(fd)
    return take(path, end)


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


def record(
    fd: int, generation: int, supervisor: int = 0, refused: int = 0, hung_uid: int = 0
) -> None:
    """This process serves, as in Server; ``fd`` has the right to the name, and ``supervisor`` is a
    pid or 0.
    """
    above = Identity.of(supervisor) if supervisor else None
    _write(fd, Server(Identity.own(), above, generation, refused, hung_uid))


def _begin(fd: int) -> None:
    """This process is about to serve: what a dead one has recorded is not about it."""
    before = _read(fd)
    _write(fd, Server(Identity.own(), before.supervisor if before else None, 0))


def _write(fd: int, server: Server) -> None:
    written = json.dumps(server).encode()
    # In one call over what was there, so that a reader finds the old one or the new one.
    os.pwrite(fd, written.ljust(_SIZE), 0)


def _read(fd: int) -> Server | None:
    """What has been recorded; None where that is nothing that can be read."""
    try:
        process, above, *numbers = json.loads(os.pread(fd, _SIZE, 0))
        supervisor = Identity(*map(int, above)) if above else None
        return Server(Identity(*map(int, process)), supervisor, *map(int, numbers))
    except (TypeError, ValueError):
        return None


def servers(dev: Path = DEV) -> dict[str, Server]:
    """Who serves, or did when it was killed, by name; not who is starting. PermissionError if only
    root may see.
    """
    found: dict[str, Server] = {}
    with contextlib.suppress(FileNotFoundError), _folder(dev, create=False) as folder:
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                server = _read(fd)
                os.close(fd)
                if server and server.generation:
                    found[name] = server
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
