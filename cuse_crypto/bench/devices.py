"""Devices of our own, to be measured; and the CPUs on which everything runs."""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuse_crypto.bench.processes import Process
from cuse_crypto.errors import Failure

_numbers = itertools.count()


class Device(Process):
    """A process that serves a node, and says ``ready: ...`` when it does."""

    def __init__(self, command: Sequence[str | Path], path: str) -> None:
        """Wait until it is ready. Failure with what it said, if it ends instead."""
        super().__init__(command)
        self.path = path
        try:
            self.ready = self.hear().removeprefix("ready: ")
        except Failure as failure:
            self.close()
            raise Failure(str(failure).removeprefix("cuse-crypto: ")) from None
        except BaseException:
            self.close()
            raise


def start(engine: str, *options: str, program: Sequence[str] = ()) -> Device:
    """A device as ``cuse-crypto up`` makes it, under a name that nothing else has.

    ``program``: another ``cuse-crypto`` than this one.
    """
    name = f"cryptobench-{os.getpid()}-{next(_numbers)}"
    command = [*(program or (sys.executable, "-m", "cuse_crypto"))]
    return Device([*command, "up", "--name", name, "--engine", engine, *options], f"/dev/{name}")


def available() -> list[int]:
    """The CPUs on which this process may run."""
    return sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def pinned(cpus: frozenset[int]) -> Iterator[None]:
    """Within it this thread and whatever it starts run on these CPUs only."""
    before = os.sched_getaffinity(0)
    if not cpus <= before:
        listed = ",".join(map(str, sorted(before)))
        raise Failure(f"not all of these CPUs are to be had; choose from --cpus {listed}")
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
