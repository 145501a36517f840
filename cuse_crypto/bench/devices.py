"""Devices that are started to be measured, and end with the measurement."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from cuse_crypto.errors import Failure

PATIENCE = 20.0
"""Seconds that a device may take to end before it is killed."""
_numbers = itertools.count()


class Device:
    """A process that serves a node, and says ``ready: ...`` when it does."""

    def __init__(self, command: Sequence[str | Path], path: str) -> None:
        """Wait until it is ready. Failure with what it said, if it ends instead."""
        self.path = path
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        # A process group of its own: Ctrl-C is for us, who then end it.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            process_group=0,
        )
        assert self._process.stdout is not None
        try:
            self.ready = self._process.stdout.readline().decode().strip()
            if not self.ready.startswith("ready: "):
                self._process.wait()
                raise Failure(self._complaint())
        except BaseException:
            self.close()
            raise

    def _complaint(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return (lines or ["it ended without a word"])[-1].removeprefix("cuse-crypto: ")

    def processes(self) -> dict[int, str]:
        """Its processes that do the work, by pid: the front end, and its children."""
        family = {self._process.pid: ""}
        for _ in range(2):
            for pid, parent in _parents().items():
                if parent in family:
                    family[pid] = ""
        names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family}
        return {pid: name.replace(b"\0", b" ").decode().strip() for pid, name in names.items()}

    def close(self) -> None:
        """End it in an orderly way, and kill it if that takes too long. Again is harmless."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _parents() -> dict[int, int]:
    """Of every process the pid of its parent (proc_pid_stat(5))."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return found


def fresh_name() -> str:
    """A name of a node that nothing else has."""
    return f"cryptobench-{os.getpid()}-{next(_numbers)}"


def start(engine: str, *options: str, program: Sequence[str] = ()) -> Device:
    """A device of our own, both processes, as ``cuse-crypto up`` makes it.

    ``program``: another ``cuse-crypto`` than this one.
    """
    name = fresh_name()
    command = [*(program or (sys.executable, "-m", "cuse_crypto"))]
    return Device([*command, "up", "--name", name, "--engine", engine, *options], f"/dev/{name}")


@contextlib.contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """Within it this thread and whatever it starts run on these CPUs only."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:
        listed = ",".join(map(str, sorted(before)))
        raise Failure(f"not all of these CPUs are to be had; there are {listed}") from None
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
