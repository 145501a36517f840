"""A ``/dev`` of one's own: user_namespaces(7) and mount_namespaces(7).

The process that enters takes its children along, and keeps its uid. Everything that is mounted goes
with the last of them. Knows nothing of what is to stand in that ``/dev``.
"""

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from cuse_crypto.errors import Failure
from cuse_crypto.hardening import privileges
from cuse_crypto.linux import credentials, mounts, task
from cuse_crypto.linux.libc import checked, libc, syscall

DEV = Path("/dev")
HOST = DEV / ".host"
"""Where the host's is in a private one."""
PTMX = "ptmx"
"""It looks for its file system beside itself, and does not find that from another place."""
STATUS = Path("/proc/self/status")

# linux/sched.h, sys/mount.h
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
_PLAIN = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC

# asm-generic/unistd.h, fcntl.h, linux/mount.h
SYS_OPEN_TREE = 428
AT_FDCWD = -100
CLONE_ALL = 0x1 | 0x8000 | os.O_CLOEXEC

CLONE_SETTING = Path("/proc/sys/kernel/unprivileged_userns_clone")
APPARMOR_SETTING = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
COUNT_SETTING = Path("/proc/sys/user/max_user_namespaces")
MOUNTS_SETTING = Path("/proc/sys/user/max_mnt_namespaces")


def enter() -> None:
    """Into a new mount namespace, in a new user namespace where that is what it takes.

    Only for a process of one thread. Failure in one line where the machine forbids it.
    """
    if task.yama_scope() == 3:
        raise Failure(
            "kernel.yama.ptrace_scope is 3: the memory of callers is closed to everybody; "
            "set it to 1 at boot"
        )
    if not _is_enough():
        _enter_user_namespace(os.geteuid(), os.getegid())
    with _refusals("mount namespace"):
        unshare(CLONE_NEWNS)
        # What the host mounts is seen here, and not the other way round.
        mount("none", "/", flags=MS_REC | MS_SLAVE)


def _is_enough() -> bool:
    """Root as it is: it may mount, and reach the memory of all."""
    needed = credentials.CAP_SYS_ADMIN, credentials.CAP_SYS_PTRACE
    return os.geteuid() == 0 and all(privileges.has(one) for one in needed)


def _enter_user_namespace(uid: int, gid: int) -> None:
    """One in which these are the only user and group."""
    # user_namespaces(7): since Linux 5.12, and nothing would be left of it in there.
    lacks_setfcap = uid == 0 and not privileges.has(credentials.CAP_SETFCAP)
    with _refusals("user namespace"):
        unshare(CLONE_NEWUSER)
    try:
        with _refusals("user namespace of its own"):
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except Failure:
        if not lacks_setfcap:
            raise
        raise Failure(
            "no user namespace for uid 0 without CAP_SETFCAP; "
            "in a container: --cap-add SETFCAP, or another --user"
        ) from None


def nowhere() -> int:
    """A descriptor of an empty folder, in memory, that nothing but this descriptor leads to."""
    with _refusals("file system in memory"):
        mount("tmpfs", DEV, "tmpfs", _PLAIN, "mode=700")
        fd = os.open(DEV, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        unmount(DEV)
    return fd


def private_dev(without: Collection[str]) -> None:
    """Put a ``/dev`` in place of the host's: with all that is in that, but for these names."""
    with os.scandir(DEV) as entries:
        kinds = {entry.name: _kind(entry) for entry in entries}
    served = _served()
    with _refusals("/dev of its own"):
        host = syscall(SYS_OPEN_TREE, AT_FDCWD, _path(DEV), CLONE_ALL)
        mode = 0o755 if os.geteuid() == 0 else 0o555
        mount("tmpfs", DEV, "tmpfs", _PLAIN, f"mode={mode:o},size=1m")
        HOST.mkdir()
        mounts.attach(host, HOST)
    os.close(host)
    for name in kinds.keys() - {*without, HOST.name}:
        # It may be gone meanwhile, as devices that are unplugged are.
        with contextlib.suppress(OSError):
            # A served file goes with its server, and has to go here too.
            _take_along(name, kinds[name], by_link=name in served or name == PTMX)


def _kind(entry: os.DirEntry[str]) -> int:
    """By what the folder says of it: a look at a served file could wait for its server."""
    if entry.is_symlink():
        return stat.S_IFLNK
    return stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else stat.S_IFREG


def _served() -> set[str]:
    """The names of mounted nodes and their like (proc_pid_mountinfo(5))."""
    lines = map(str.split, mounts.MOUNTS.read_text().splitlines())
    return {Path(line[4]).name for line in lines if line[line.index("-") + 1].startswith("fuse.")}


def _take_along(name: str, kind: int, *, by_link: bool) -> None:
    if kind == stat.S_IFLNK:
        (DEV / name).symlink_to((HOST / name).readlink())
    elif by_link:
        (DEV / name).symlink_to(Path(HOST.name, name))
    else:
        show(HOST / name, DEV / name, is_folder=kind == stat.S_IFDIR)


def show(source: Path, target: Path, *, is_folder: bool = False) -> None:
    """``source`` at ``target`` too, which does not exist yet; OSError if there is none."""
    if is_folder:
        target.mkdir()
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    try:
        mount(str(source), target, flags=MS_BIND | MS_REC * is_folder)
    except OSError:
        target.rmdir() if is_folder else target.unlink()
        raise


def leave_private_dev() -> None:
    """Have the host's ``/dev`` again, in this process alone."""
    with _refusals("other mount namespace"):
        unshare(CLONE_NEWNS)
        unmount(DEV)


def members() -> Iterator[int]:
    """The pids of the processes in this mount namespace, as far as this one may see that."""
    ours = os.stat("/proc/self/ns/mnt").st_ino
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/mnt").st_ino == ours:
                    yield int(name)


@contextlib.contextmanager
def _refusals(wanted: str) -> Iterator[None]:
    """An OSError becomes a Failure that names the setting."""
    try:
        yield
    except OSError as error:
        raise Failure(f"no {wanted} for uid {os.geteuid()}: {_why(error)}") from None


def _why(error: OSError) -> str:
    """The setting that forbids it, and the remedy."""
    if error.errno == errno.ENOSPC:
        settings = [path for path in (COUNT_SETTING, MOUNTS_SETTING) if path.exists()]
        none = [path for path in settings if path.read_text().strip() == "0"]
        full = " and ".join(map(_sysctl, none or settings))
        return f"{full}, and that is reached; as root raise it with sysctl -w"
    if error.errno in (errno.EPERM, errno.EACCES):
        for path, forbids, allows in ((CLONE_SETTING, "0", 1), (APPARMOR_SETTING, "1", 0)):
            if path.exists() and path.read_text().strip() == forbids:
                return f"{_sysctl(path)}; as root: sysctl -w {_name(path)}={allows}"
        if "\nSeccomp:\t2\n" in STATUS.read_text():
            return (
                f"{error.strerror}, by a seccomp filter; in a container: "
                "--security-opt seccomp=unconfined, in a service: RestrictNamespaces=no"
            )
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        return f"{error.strerror}; it takes a kernel with CONFIG_USER_NS"
    if error.errno == errno.EACCES:
        return (
            f"{error.strerror}, by AppArmor or SELinux; in a container: "
            "--security-opt apparmor=unconfined or label=disable"
        )
    return f"{error.strerror}, by a chroot or a security module; run it outside of that, or as root"


def _sysctl(path: Path) -> str:
    return f"{_name(path)} is {path.read_text().strip()}"


def _name(path: Path) -> str:
    return ".".join(path.parts[3:])


def unshare(flags: int) -> None:
    """OSError where the kernel says no."""
    checked(libc.unshare(flags))


def mount(
    source: str, target: str | Path, kind: str = "none", flags: int = 0, options: str = ""
) -> None:
    """mount(2)"""
    words = source.encode(), _path(target), kind.encode()
    checked(libc.mount(*words, ctypes.c_ulong(flags), options.encode()))


def unmount(path: str | Path) -> None:
    """Also what somebody still uses, whom it stays with."""
    checked(libc.umount2(_path(path), mounts.MNT_DETACH))


def _path(path: str | Path) -> bytes:
    return os.fsencode(path)
