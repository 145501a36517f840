"""``python -m tests.unprivileged [OPTION...] -- COMMAND...``, as root: the command, as an ordinary
user of an ordinary machine, where ``/dev/fuse`` is open to all and the interpreter can be read.

The machine stays as it is: that is so in a mount namespace alone. With options it is a machine
that forbids something, or a container.
"""

import argparse
import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from cuse_crypto import namespaces
from cuse_crypto.linux import credentials
from cuse_crypto.linux.libc import checked
from tests.conftest import PROJECT

UID = 54321
"""Of nobody else."""
FUSE = "/dev/fuse"
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050001


def as_user(*options: object) -> list[str]:
    """What to put in front of a command."""
    return [sys.executable, "-P", "-m", "tests.unprivileged", *map(str, options), "--"]


def main() -> None:
    """Become that user, and the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int, default=UID)
    parser.add_argument("--open", type=Path, action="append", default=[], help="what it may reach")
    parser.add_argument("--fuse", type=lambda text: int(text, 8), default=0o666, help="the mode")
    parser.add_argument("--without", type=int, action="append", default=[], help="a capability")
    parser.add_argument("--forbid", action="append", default=[], help="a system call")
    parser.add_argument("--namespaces", type=int, help="so many user namespaces may be made")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    namespaces.unshare(namespaces.CLONE_NEWNS)
    namespaces.mount("none", "/", flags=namespaces.MS_REC | namespaces.MS_SLAVE)
    _open_fuse(options.fuse)
    _open({*options.open, PROJECT, Path(sys.prefix), Path(sys.base_prefix)})
    for number in options.without:
        credentials.prctl(credentials.PR_CAPBSET_DROP, number)
    if options.namespaces is None:
        os.setgroups([])
        os.setresgid(options.uid, options.uid, options.uid)
        os.setresuid(options.uid, options.uid, options.uid)
    else:
        _count_namespaces(options.uid, options.namespaces)
    if options.forbid:
        _forbid(options.forbid)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    os.execvp(options.command[0], options.command)


def _open_fuse(mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        namespaces.mount("tmpfs", folder, "tmpfs")
        node = Path(folder, "fuse")
        os.mknod(node, 0o020000, Path(FUSE).stat().st_rdev)
        node.chmod(mode)
        namespaces.mount(str(node), FUSE, flags=namespaces.MS_BIND)
        namespaces.unmount(folder)


def _open(paths: Collection[Path]) -> None:
    """Put an open folder, with nothing but these in it, over each closed one on their way."""
    held = {path.resolve(): os.open(path, os.O_PATH) for path in paths}
    while closed := {folder for path in held if (folder := _first_closed(path))}:
        for folder in closed:
            namespaces.mount("tmpfs", str(folder), "tmpfs", options="mode=755")
        for path, fd in held.items():
            if not closed.isdisjoint(path.parents):
                path.mkdir(parents=True)
                namespaces.mount(f"/proc/self/fd/{fd}", str(path), flags=namespaces.MS_BIND)
    for fd in held.values():
        os.close(fd)


def _first_closed(path: Path) -> Path | None:
    return next((up for up in reversed(path.parents) if not up.stat().st_mode & 0o001), None)


def _count_namespaces(uid: int, count: int) -> None:
    """As this user, in a user namespace of which no more than so many may be made in turn."""
    namespaces.unshare(namespaces.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} 0 1")
    Path("/proc/self/gid_map").write_text(f"{uid} 0 1")
    namespaces.COUNT_SETTING.write_text(str(count))


def _forbid(names: Collection[str]) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        checked(library.seccomp_rule_add(context, ctypes.c_uint32(ERRNO_EPERM), number, 0))
    checked(library.seccomp_load(context))


if __name__ == "__main__":
    main()
