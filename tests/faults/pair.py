"""A device whose two halves are processes of ours, to be killed, stopped and cut off."""

import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuse_crypto.bench.devices import Device
from cuse_crypto.bench.processes import Process

DEADLINE = 5.0
"""Seconds that the front end gives the back end for an answer."""
PROGRAM = [sys.executable, "-m", "cuse_crypto"]

_numbers = itertools.count()


def fresh_name() -> str:
    """Of a node that nothing else has had."""
    return f"cryptofault-{os.getpid()}-{next(_numbers)}"


class Spare:
    """A back end that is starting, at ``path``."""

    def __init__(self, path: Path, engine: str) -> None:
        listen = ["backend", "--listen", f"unix:{path}", "--engine", engine]
        self.path = path
        self.process = Process([*PROGRAM, *listen])
        self._ready = False

    def ready(self) -> Process:
        """Wait until it answers."""
        if not self._ready:
            self.process.hear()
            self._ready = True
        return self.process


class Backend:
    """What answers at ``path``: one back end after the other, some of them started before."""

    def __init__(self, path: Path, engine: str, spares: int = 1) -> None:
        self.path = path
        self._engine = engine
        self._numbers = itertools.count()
        self._wanted = spares
        self._spares: list[Spare] = []
        first = Spare(path, engine)
        self._running = first.process
        try:
            self._start_spares()
            for one in (first, *self._spares):
                one.ready()
        except BaseException:
            self.close()
            raise

    def _start_spares(self) -> None:
        while len(self._spares) < self._wanted:
            path = self.path.with_suffix(f".{next(self._numbers)}")
            self._spares.append(Spare(path, self._engine))

    @property
    def pid(self) -> int:
        """Of the one that answers."""
        return self._running.pid

    def prepare(self) -> None:
        """Have a spare that is ready."""
        self._start_spares()
        self._spares[0].ready()

    def _take_spare(self) -> None:
        self.prepare()
        spare = self._spares.pop(0)
        spare.path.rename(self.path)
        self._running = spare.process

    def kill(self) -> None:
        """By SIGKILL; nobody answers until ``replace``."""
        os.kill(self.pid, signal.SIGKILL)
        self._running.close()

    def replace(self) -> None:
        """A spare answers from now on."""
        self._take_spare()

    def replace_under_way(self) -> None:
        """SIGKILL while it has requests to answer; who connects again finds the spare, at once."""
        killed = self._running
        self._take_spare()
        os.kill(killed.pid, signal.SIGKILL)
        killed.close()

    def close(self) -> None:
        """End them."""
        for process in (self._running, *(spare.process for spare in self._spares)):
            process.close()
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def front_end(addresses: Sequence[str], node_kind: str, *options: str) -> Iterator[Device]:
    """A front end alone, at a fresh node; its ``path``."""
    name = fresh_name()
    words = ["device", "--name", name, "--node", node_kind, *options]
    for address in addresses:
        words += ["--backend", address]
    with Device([*PROGRAM, *words, "--deadline", f"{DEADLINE}"], f"/dev/{name}") as device:
        yield device


@contextlib.contextmanager
def both(engine: str, node_kind: str) -> Iterator[Device]:
    """A device as ``cuse-crypto up`` makes it."""
    name = fresh_name()
    words = ["up", "--name", name, "--engine", engine, "--node", node_kind]
    with Device([*PROGRAM, *words, "--deadline", f"{DEADLINE}"], f"/dev/{name}") as device:
        yield device
