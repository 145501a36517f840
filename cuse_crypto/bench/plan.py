"""From what is asked for to a report: the devices, the cells, the runs."""

import errno
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from cuse_crypto.bench import devices
from cuse_crypto.bench.measure import Cell, Result, measure
from cuse_crypto.bench.report import KERNEL, NULL, OPENSSL, Report
from cuse_crypto.bench.subjects import Subject, Work
from cuse_crypto.errors import Failure


@dataclass(frozen=True)
class Plan:
    """What to measure. ``path``: an existing node, or None for devices of our own."""

    path: str | None
    cipher: str
    sizes: Sequence[int]
    callers: Sequence[int]
    cpus: frozenset[int]
    rounds: int
    seconds: float

    @property
    def work(self) -> Work:
        """The smallest."""
        return Work(self.cipher, self.sizes[0])

    def about(self) -> dict[str, object]:
        """The circumstances."""
        return {
            "cipher": self.cipher,
            "key_bits": len(self.work.key) * 8,
            "cpus": sorted(self.cpus),
            "rounds": self.rounds,
            "machine": platform.machine(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        }


def carry_out(plan: Plan, begin: Callable[[int], Callable[[Cell], None]]) -> Report:
    """Measure. ``begin`` is told how many runs there will be; what it returns, of each run.

    Failure where a device cannot be had; what else cannot be had is told by the report.
    """
    with devices.pinned(plan.cpus), ExitStack() as ending:
        subjects = list(_nodes(plan, ending))
        missing = {}
        for subject in _others():
            if reason := _why_not(subject, plan.work):
                missing[subject.title] = reason
            else:
                subjects.append(subject)
        cells = list(_cells(plan, subjects))
        results: list[Result] = measure(
            cells, plan.rounds, plan.seconds, begin(len(cells) * plan.rounds)
        )
    return Report(subjects, results, missing, plan.about())


def _nodes(plan: Plan, ending: ExitStack) -> Iterator[Subject]:
    if plan.path is not None:
        given = Subject("device", plan.path, "device", plan.path)
        try:
            given.attempt(plan.work)
        except OSError as error:
            raise Failure(f"{plan.path}: {error.strerror}") from None
        yield Subject(KERNEL, "an ioctl without work", "no_work", plan.path)
        yield given
        return
    paths = {engine: ending.enter_context(devices.start(engine)).path for engine in (NULL, OPENSSL)}
    yield Subject(KERNEL, "an ioctl without work", "no_work", paths[OPENSSL])
    yield Subject(NULL, "engine null", "device", paths[NULL])
    yield Subject(OPENSSL, "engine openssl", "device", paths[OPENSSL])


def _others() -> Iterator[Subject]:
    from cuse_crypto_backend.engines.cryptodev import DEVICE

    yield Subject("host", f"host {DEVICE}", "device", DEVICE)
    yield Subject("af_alg", "AF_ALG", "kernel")
    yield Subject("in_process", "in process", "in_process")


def _why_not(subject: Subject, work: Work) -> str | None:
    """Why it is not to be had here; None if it is."""
    try:
        subject.attempt(work)
    except OSError as error:
        return os.strerror(error.errno or errno.EIO)
    except Failure as failure:
        return str(failure)
    return None


def _cells(plan: Plan, subjects: Sequence[Subject]) -> Iterator[Cell]:
    """All subjects with the first number of callers, and devices with the others as well.

    What does not depend on the size is measured once.
    """
    for size in plan.sizes:
        for subject in subjects:
            if subject.kind == "device":
                for callers in plan.callers:
                    yield Cell(subject, Work(plan.cipher, size), callers)
            elif subject.name != KERNEL:
                yield Cell(subject, Work(plan.cipher, size), plan.callers[0])
            elif size == plan.sizes[0]:
                yield Cell(subject, Work(plan.cipher, 0), 1)
