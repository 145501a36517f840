"""Programs in ``cuse-crypto run``, and those who serve them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.talkers import Talker

COMMAND = [sys.executable, "-P", "-m", "cuse_crypto"]
RUN = [*COMMAND, "run"]
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
HASH = (
    "import sys; from cuse_crypto import CryptoDevice\n"
    "with CryptoDevice(*sys.argv[1:]) as device:\n"
    "    print(device.hash('sha256', b'abc').hexdigest())\n"
)


def run(
    before: Sequence[str], *command: object, options: Sequence[str] = (), **more: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*before, *RUN, *options, "--", *map(str, command)],
        **{"capture_output": True, "text": True, "check": False, "timeout": 60} | more,
    )


def output(before: Sequence[str], *command: object, **more: object) -> str:
    done = run(before, *command, **more)  # type: ignore[arg-type]
    assert (done.returncode, done.stderr) == (0, ""), f"{done}"
    return done.stdout


def session(pid: int) -> set[int]:
    """Those who serve the program ``pid``: the session of the front end in its namespace."""
    (leader,) = map(os.getsid, serving(pid))
    return {pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if in_(pid, leader)}


def serving(pid: int) -> list[int]:
    """The front end in the mount namespace of ``pid``, if it is in one of its own."""
    namespace = mount_namespace(pid)
    inside = members(namespace) if namespace != mount_namespace(os.getpid()) else []
    return [one for one in inside if said_by(one, "cuse-crypto device ")]


def said_by(pid: int, words: str) -> bool:
    """Whether ps shows it so."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().startswith(words)
    return False


def in_(pid: int, leader: int) -> bool:
    with contextlib.suppress(OSError):
        return os.getsid(pid) == leader and is_alive(pid)
    return False


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def mount_namespace(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/mnt").st_ino


def members(namespace: int) -> list[int]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mount_namespace(int(name)) == namespace:
                found.append(int(name))
    return found


class Running(Talker):
    """A program in ``run`` that has said ``here``."""

    def __init__(self, before: Sequence[str], *command: object) -> None:
        super().__init__(*before, *RUN, "--", *command, stderr=subprocess.PIPE)
        try:
            assert self.hear() == "here", self.process.stderr and self.process.stderr.read()
            self.pid = self.process.pid
            self.namespace = mount_namespace(self.pid)
            self.daemons = session(self.pid)
        except BaseException:
            self.__exit__()
            raise

    def role(self, number: str) -> int:
        """A daemon by what ps shows of it; of the guards the first is the parent of all."""
        if number.startswith("guard"):
            return sorted(self._titled("run"))[int(number[-1]) - 1]
        (pid,) = self._titled(number)
        return pid

    def _titled(self, word: str) -> list[int]:
        return [pid for pid in self.daemons if said_by(pid, f"cuse-crypto {word} ")]

    def is_gone(self) -> bool:
        """Nobody is there any more, nor left in its namespace."""
        return not members(self.namespace) and not any(map(is_alive, self.daemons))


def output_of(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout
