"""Containers of podman whose files are this machine's, without an image and without a network."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import PROJECT, Service

LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
EMPTY = ("etc", "proc", "sys", "dev", "run", "root")
ETC = ("passwd", "group", "ld.so.cache")
MOST = 4096
LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}


class Podman:
    """With its state in ``folder``, which ``close`` empties of what runs and what is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = folder / "root"
        self._make_root()
        state = [f"--root={folder / 'state'}", f"--runroot={folder / 'running'}"]
        runtime = ["--runtime", found] if (found := shutil.which("runc")) else []
        self._podman = ["podman", *state, "--storage-driver=vfs", *runtime]

    def _make_root(self) -> None:
        for name in EMPTY:
            (self._root / name).mkdir(parents=True)
        (self._root / "tmp").mkdir(mode=0o1777)
        for name in LINKED:
            if Path("/", name).is_symlink():
                (self._root / name).symlink_to(f"usr/{name}")
        for name in ETC:
            shutil.copy(Path("/etc", name), self._root / "etc" / name)

    def command(self, options: tuple[str, ...], program: tuple[object, ...]) -> list[str]:
        """``podman run`` of ``program``, with ``options`` and what this machine may ask for."""
        shared = {Path("/usr"), PROJECT, Path(sys.prefix), Path(sys.base_prefix), self.folder}
        mounts = [f"--volume={path}:{path}:ro" for path in sorted(shared)]
        # What podman sets otherwise may be more than this machine lets anybody have.
        limits = [f"--ulimit={name}={_limit(number)}" for name, number in LIMITS.items()]
        run = ["run", "--rm", "--network=none", "--env=PYTHONDONTWRITEBYTECODE=1"]
        return [
            *(*self._podman, *run, *mounts, *limits, *options, "--rootfs", str(self._root)),
            *map(str, program),
        ]

    def run(self, *options: str, program: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
        """A container until it ends."""
        return self._call(self.command(options, program))

    def exec(self, name: str, *program: object) -> subprocess.CompletedProcess[str]:
        """One more program in a container that runs."""
        return self._call([*self._podman, "exec", name, *map(str, program)])

    def pid(self, name: str) -> int:
        """Of the container's first process."""
        inspect = [*self._podman, "inspect", "--format={{.State.Pid}}", name]
        return int(self._call(inspect).stdout)

    @contextlib.contextmanager
    def serving(self, *options: str, program: tuple[object, ...]) -> Iterator[tuple[str, Service]]:
        """A container that serves as its process 1 while the block lasts, and ends in order."""
        name = f"cryptotest-{uuid.uuid4().hex}"
        process = subprocess.Popen(
            self.command((f"--name={name}", *options), program),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        try:
            service = Service(process, process.stdout.readline().strip(), Path("/"))
            yield name, service
            assert service.stop() == 0, service.said()
        finally:
            self._call([*self._podman, "rm", "--force", "--ignore", "--time=0", name])
            process.wait(timeout=60)

    def close(self) -> None:
        """End what is left."""
        self._call([*self._podman, "rm", "--all", "--force", "--time=0"])
        self._call([*self._podman, "unmount", "--all"])

    def _call(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"TMPDIR": str(self.folder)}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, env=environment
        )


def _limit(number: int) -> int:
    hard = resource.getrlimit(number)[1]
    return MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
