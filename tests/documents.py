"""The commands of a document, run as a reader would, in a machine of their own.

A fence ``sh`` is typed into one shell, ``text`` is what then has to be seen, in this order, with
``...`` for anything; any other one with a title is a file.
"""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SECONDS = 30.0
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")

MACHINE = """
set -e
mount -t tmpfs -o mode=0755 tmpfs /mnt
for name in {devices}; do touch /mnt/$name; mount --bind /dev/$name /mnt/$name; done
mkdir /mnt/shm
for name in fd stdin stdout stderr; do ln -s $(readlink /dev/$name) /mnt/$name; done
mount --move /mnt /dev
ip link set lo up
exec bash --norc --noprofile
"""
"""Nothing else has its /dev, its network or its processes: all of it ends with the shell."""


class Block(NamedTuple):
    """One fence. ``kind`` is its language."""

    kind: str
    title: str
    text: str


def blocks(document: str) -> Iterator[Block]:
    """In the order of the document."""
    for kind, title, text in FENCE.findall(document):
        yield Block(kind, title, text)


class Shell:
    """A shell in a machine of its own, in ``folder``; takes root and unshare(1)."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        machine = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = MACHINE.format(devices=" ".join(DEVICES))
        self._process = subprocess.Popen(
            ["unshare", *machine, "bash", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=os.environ | environment,
        )
        self._said = ""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._count = 0

    def _read(self) -> None:
        assert self._process.stdout
        while part := os.read(self._process.stdout.fileno(), 65536):
            with self._more:
                self._said += part.decode(errors="replace")
                self._more.notify_all()

    def run(self, commands: str, wanted: str | None) -> None:
        """Run them, and wait until all lines of ``wanted`` have been seen, in order.

        Without ``wanted`` they have to end in success.
        """
        assert self._process.stdin
        self._count += 1
        ended = f"<end of {self._count}: "
        with self._more:
            self._said = ""
        self._process.stdin.write(f"{commands}\necho '{ended}'$?'>'\n".encode())
        self._process.stdin.flush()
        patterns = [_pattern(line) for line in (wanted or "").splitlines() if line != "..."]
        ending = re.compile(ended + ("0>" if wanted is None else r"\d+>"))
        self._await(lambda lines: _seen(lines, patterns) and any(map(ending.fullmatch, lines)))

    def _await(self, condition: Callable[[list[str]], bool]) -> None:
        end = time.monotonic() + SECONDS
        with self._more:
            while not condition(self._said.splitlines()):
                left = end - time.monotonic()
                assert left > 0, self._said
                assert self._process.poll() is None, self._said
                self._more.wait(min(left, 0.5))

    def close(self) -> None:
        """End the shell, and with it everything that was started in it."""
        self._process.kill()
        self._process.wait()
        self._reader.join(SECONDS)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, line.split("..."))))


def _seen(lines: list[str], patterns: list[re.Pattern[str]]) -> bool:
    rest = iter(lines)
    return all(any(pattern.fullmatch(line) for line in rest) for pattern in patterns)
