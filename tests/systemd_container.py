"""systemd as process 1 of namespaces of its own, on this machine's files, under its kernel: quick.

What it changes goes into an overlay, which lasts from one boot to the next. It has no udev, and no
/dev but the usual.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.systemd_machine import FIRST, PREPARE, SYSTEMD
from tests.virtual_machine import PATH

# Process 1 until systemd is.
BEGIN = """\
set -e
mount --make-rprivate /
mount -t overlay -o lowerdir=/,upperdir=$state/upper,workdir=$state/work overlay $new
cd $new
mount -t proc proc proc
mount --rbind /sys sys
mount --make-rprivate sys
umount -R sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=0755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s fd/${number%:*} dev/${number#*:}; done
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 0666 dev/${device%:*} c 1 ${device#*:}
done
mknod -m 0666 dev/tty c 5 0
mknod -m 0666 dev/fuse c 10 229
mount --bind $state $new/$state
"""
# No udev: what it would tell is not for a container.
END = f"""\
for unit in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket; do
    ln -s /dev/null $units/$unit
done
mkdir -p .old
pivot_root . .old
cd /
umount -l .old
rmdir .old
exec env -i PATH="$PATH" container=tests {SYSTEMD} --unit=multi-user.target --show-status=0
"""


def why_not() -> str | None:
    """One line that says why this machine cannot run it; None if it can."""
    if os.geteuid():
        return "namespaces with systemd in them need root"
    if not SYSTEMD.exists():
        return "Debian packages are missing: systemd"
    if not _cgroups():
        return "no cgroup2 is mounted"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("upper", "work", "new"):
            Path(folder, name).mkdir()
        overlay = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
        line = f"mount -t overlay -o {overlay} overlay {folder}/new"
        tried = subprocess.run(
            ["unshare", "--mount", "sh", "-c", line], capture_output=True, text=True, check=False
        )
    return f"no overlay here: {tried.stderr.strip()}" if tried.returncode else None


class Container:
    """One, which is gone between the calls of ``boot`` but for its files in ``state``."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._prepare = FIRST + PREPARE
        for name in ("upper", "work", "new"):
            (state / name).mkdir()

    def boot(self, command: str, *, timeout: float) -> subprocess.CompletedProcess[str]:
        """Boot, run ``command`` as a service that is the last to start, and shut down in order."""
        state = self._state
        names = {"new": state / "new", "state": state, "init": state / "init"}
        values = "".join(f"{name}={shlex.quote(str(path))}\n" for name, path in names.items())
        (state / "start").write_text(values + BEGIN + self._prepare + END)
        (state / "init").write_text(
            f"export PATH={PATH}\n({command}) >{state}/output 2>&1\n"
            f"echo $? >{state}/status\nsystemctl exit\n"
        )
        self._prepare = PREPARE
        namespaces = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child"]
        with _cgroup() as group:
            # A shell that has moved there before it makes a namespace of it.
            line = f"echo $$ >{group}/cgroup.procs && exec unshare {' '.join(namespaces)} sh start"
            done = subprocess.run(
                ["sh", "-c", line],
                cwd=state,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        status = state / "status"
        assert status.exists(), done.stderr
        output = (state / "output").read_text()
        code = int(status.read_text())
        status.unlink()
        return subprocess.CompletedProcess(command, code, output, done.stderr)


def _cgroups() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    return None


@contextlib.contextmanager
def _cgroup() -> Iterator[Path]:
    """A group of its own, removed with all that systemd made below it."""
    root = _cgroups()
    assert root
    group = Path(tempfile.mkdtemp(prefix="tests-", dir=root))
    try:
        yield group
    finally:
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(folder)


@contextlib.contextmanager
def container() -> Iterator[Container]:
    """A new one, whose files are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="container-") as folder:
        yield Container(Path(folder))
        # What overlayfs leaves in its folder is closed to rmtree.
        shutil.rmtree(Path(folder, "work"), ignore_errors=True)
