"""Attackers: C programs that run as users without privileges, against a device open to all."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Compile, Service, StartDevice

HERE = Path(__file__).parent
ATTACKER, BYSTANDER = 65534, 65533
"""User ids: the one that attacks, and one that has nothing to do with it."""

Spawn = Callable[..., subprocess.Popen[str]]


def as_user(uid: int, *command: object) -> list[str]:
    """The command line that runs ``command`` as ``uid``, in no group and without capabilities."""
    identity = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all"]
    return ["setpriv", *identity, "--", *map(str, command)]


@pytest.fixture
def attack(compile_c: Compile) -> Callable[..., Path]:
    """``attack(NAME, *flags)``: the program made from `c/NAME.c`."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user takes root and setpriv (util-linux)")

    def compile_attack(name: str, *flags: str) -> Path:
        program = compile_c(HERE / "c" / f"{name}.c", "-pthread", *flags)
        # Folders that pytest creates are closed to other users.
        for folder in (program.parent, *program.parent.parents):
            if folder == Path("/tmp") or folder.stat().st_uid != os.geteuid():
                break
            folder.chmod(folder.stat().st_mode | 0o011)
        return program

    return compile_attack


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """``spawn(UID, *command)``: a process of that user, killed with its group after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(uid: int, *command: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            as_user(uid, *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=10)


@pytest.fixture
def open_device(start_up: StartDevice) -> Service:
    """A device of its own for one test, open to every user."""
    return start_up("--engine", "openssl", "--mode", "666")
