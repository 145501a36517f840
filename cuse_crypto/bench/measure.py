"""Rounds of runs, and what they come to.

Every round runs every cell once, one after another: what disturbs the machine for a while disturbs
all of them, and the median over the rounds does not show it.
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Self

from cuse_crypto.bench.processes import Process
from cuse_crypto.bench.subjects import Subject, Work
from cuse_crypto.errors import Failure


class Cell(NamedTuple):
    """One thing to be measured: so many callers at once, each with a session of its own."""

    subject: Subject
    work: Work
    callers: int


class Result(NamedTuple):
    """What a cell took. ``p50`` and the like are microseconds of one operation.

    ``p50`` and ``operations_per_second`` (of all callers together) are medians of the rounds;
    the others are of all operations.
    """

    subject: str
    cipher: str
    size: int
    callers: int
    operations: int
    operations_per_second: float
    min: float
    p50: float
    p99: float
    max: float

    @property
    def megabytes_per_second(self) -> float:
        """Millions of bytes."""
        return self.operations_per_second * self.size / 1e6

    def report(self) -> dict[str, Any]:
        """As JSON has it; benchmarks/caller.c prints the same."""
        return {
            "subject": self.subject,
            "cipher": self.cipher,
            "size": self.size,
            "callers": self.callers,
            "count": self.operations,
            "operations_per_second": round(self.operations_per_second, 1),
            "megabytes_per_second": round(self.megabytes_per_second, 3),
            "microseconds": {
                name: round(getattr(self, name), 2) for name in ("min", "p50", "p99", "max")
            },
        }


Runs = list[list[int]]
"""Of one round: for each caller the nanoseconds of its operations."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of all do not exceed."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def summarise(cell: Cell, rounds: Sequence[Runs]) -> Result:
    """Statistics of a cell, from nanoseconds."""
    everything = sorted(one / 1e3 for runs in rounds for run in runs for one in run)
    return Result(
        cell.subject.name,
        cell.work.cipher,
        cell.work.size,
        cell.callers,
        len(everything),
        statistics.median(sum(len(run) / sum(run) * 1e9 for run in runs) for runs in rounds),
        everything[0],
        statistics.median(
            statistics.median(one for run in runs for one in run) / 1e3 for runs in rounds
        ),
        percentile(everything, 0.99),
        everything[-1],
    )


class Callers:
    """Processes that make operations, all at once or some of them."""

    def __init__(self, most: int) -> None:
        with ExitStack() as stack:
            command = [sys.executable, "-m", "cuse_crypto.bench.caller"]
            self._processes = [stack.enter_context(Process(command)) for _ in range(most)]
            self._stack = stack.pop_all()

    def run(self, cell: Cell, seconds: float) -> Runs:
        """Have as many callers as the cell says work for so long. Failure if one cannot."""
        callers = self._processes[: cell.callers]
        job = {
            "kind": cell.subject.kind,
            "path": cell.subject.path,
            "cipher": cell.work.cipher,
            "size": cell.work.size,
            "seconds": seconds,
        }
        for caller in callers:
            caller.say(json.dumps(job))
        for caller in callers:
            self._answer(caller, cell)
        for caller in callers:
            caller.say("go")
        return [self._answer(caller, cell)["nanoseconds"] for caller in callers]

    def _answer(self, caller: Process, cell: Cell) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(caller.hear())
        if "error" in answer:
            where = cell.subject.path or cell.subject.title
            raise Failure(f"{where}, {cell.work.size} bytes: {answer['error']}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def measure(
    cells: Sequence[Cell], rounds: int, seconds: float, advance: Callable[[Cell], None]
) -> list[Result]:
    """All cells, in about so many seconds; ``advance`` is told of each run that begins."""
    each = seconds / (len(cells) * rounds)
    taken: list[list[Runs]] = [[] for _ in cells]
    with Callers(max(cell.callers for cell in cells)) as callers:
        for _ in range(rounds):
            for cell, runs in zip(cells, taken, strict=True):
                advance(cell)
                runs.append(callers.run(cell, each))
    return [summarise(cell, runs) for cell, runs in zip(cells, taken, strict=True)]
