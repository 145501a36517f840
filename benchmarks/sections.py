"""What is measured, a section each: a title, and rows of figures beside their goals."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks import programs, resources
from benchmarks.programs import Programs, Run
from cuse_crypto.bench import devices
from cuse_crypto.bench.devices import Device
from cuse_crypto.bench.processes import Process

Row = dict[str, Any]
Options = dict[str, int]

RATIO_GOALS = {256: 1.25, 4096: 1.15, 65536: 0.97, 1 << 20: 0.82}
"""By size in bytes: ours, at most so many times what the C pair takes."""
SIZES = (16, 256, 4096, 16384, 65536, 262144, 1 << 20, 16 << 20)
CALLERS_GOAL = 1.6
SMALL = {"size": 16, "count": 2000}
LARGE = {"size": 16 << 20, "count": 1 << 20, "announce": True}
FAIRNESS_GOAL = 5.0
RESIDENT_GOAL, GROWTH_GOAL = 45.0, 30.0
"""Megabytes: of one idle process; of 1,000 open files with 10 sessions each."""
WATCHED = 3.0
"""Seconds."""


class Section(NamedTuple):
    """One table. ``note`` says under what circumstances."""

    title: str
    note: str
    rows: list[Row]


@dataclass(frozen=True)
class Bench:
    """What all sections share."""

    programs: Programs
    program: Sequence[str]
    """The cuse-crypto to measure."""
    cpu: int
    cpus: frozenset[int]
    """Two, of which ``cpu`` is one; or that one alone."""
    rounds: int

    def ours(self) -> Device:
        """A device of ours."""
        return devices.start("openssl", program=self.program)

    def pair(self) -> Device:
        """The C pair."""
        node = str(self.programs.c_pair.with_name("node"))
        return Device([self.programs.c_pair, node], node)

    def run(self, device: Device, **options: int) -> Run:
        """One run of the caller."""
        return programs.run(self.programs.caller, device.path, **options)

    def in_turn(self, device: Device, cases: Sequence[Options]) -> list[list[Run]]:
        """All cases round by round; their runs, case by case."""
        taken = [[self.run(device, **case) for case in cases] for _ in range(self.rounds)]
        return [list(runs) for runs in zip(*taken, strict=True)]


def _count(size: int) -> int:
    """Operations that together take some 50 ms."""
    return max(4, 1000 * 4096 // (4096 + size))


def _p50(runs: list[Run]) -> float:
    return statistics.median(run.p50 for run in runs)


def _p99(runs: list[Run]) -> float:
    return statistics.median(run.p99 for run in runs)


def _rate(runs: list[Run]) -> float:
    return statistics.median(run.operations_per_second for run in runs)


def sizes(bench: Bench) -> Section:
    """Ours and the C pair in turn, so that what disturbs one disturbs the other."""
    rows: list[Row] = []
    taken: dict[int, list[tuple[Run, Run]]] = {size: [] for size in SIZES}
    with devices.pinned(frozenset({bench.cpu})), bench.ours() as ours, bench.pair() as pair:
        for _ in range(bench.rounds):
            for size, runs in taken.items():
                options = {"size": size, "count": _count(size)}
                runs.append((bench.run(ours, **options), bench.run(pair, **options)))
    for size, runs in taken.items():
        ratio = statistics.median(one.p50 / other.p50 for one, other in runs)
        mine, theirs = _p50([one for one, _ in runs]), _p50([other for _, other in runs])
        row: Row = {"bytes": size, "ours_us": mine, "c_pair_us": theirs, "ours_/_c_pair": ratio}
        row["ours_mb/s"], row["c_pair_mb/s"] = size / mine, size / theirs
        rows.append(row | _judged(RATIO_GOALS.get(size), ratio))
    return Section("By size, beside the C pair", "AES-128-CBC, one caller, one CPU", rows)


def _judged(most: float | None, value: float) -> Row:
    return {"goal": most and f"<= {most}", "met": None if most is None else value <= most}


def callers(bench: Bench) -> Section:
    """Several at once, on one CPU and on two."""
    size, rows = 65536, []
    for cpus in dict.fromkeys((frozenset({bench.cpu}), bench.cpus)):
        cases = [{"size": size, "callers": n, "count": _count(size)} for n in (1, 2, 4, 8)]
        with devices.pinned(cpus), bench.ours() as ours:
            measured = bench.in_turn(ours, cases)
        one = _rate(measured[0])
        for case, runs in zip(cases, measured, strict=True):
            gain, rate = _rate(runs) / one, _rate(runs)
            row: Row = {"cpus": len(cpus), "callers": case["callers"], "operations/s": rate}
            row |= {"mb/s": rate * size / 1e6, "p50_us": _p50(runs), "p99_us": _p99(runs)}
            judged = len(cpus) > 1 and case["callers"] == 8
            row |= {"gain": gain, "goal": f">= {CALLERS_GOAL}" if judged else None}
            rows.append(row | {"met": gain >= CALLERS_GOAL if judged else None})
    return Section("By callers", "AES-128-CBC, 64 KiB; gain: as operations/s of one caller", rows)


def fairness(bench: Bench) -> Section:
    """A caller of 16 bytes, alone and beside one of 16 MiB, in turn."""
    rows: list[Row] = []
    for cpus in dict.fromkeys((frozenset({bench.cpu}), bench.cpus)):
        alone: list[Run] = []
        beside: list[Run] = []
        with devices.pinned(cpus), bench.ours() as ours:
            words = programs.command(bench.programs.caller, ours.path, **LARGE)
            for _ in range(bench.rounds):
                alone.append(bench.run(ours, **SMALL))
                with Process(words) as large:
                    large.hear()
                    beside.append(bench.run(ours, **SMALL))
        factor = _p99(beside) / _p99(alone)
        row: Row = {"cpus": len(cpus), "alone_p50_us": _p50(alone), "alone_p99_us": _p99(alone)}
        row |= {"beside_p50_us": _p50(beside), "beside_p99_us": _p99(beside), "factor": factor}
        rows.append(row | _judged(FAIRNESS_GOAL, factor))
    return Section("Beside a caller of 16 MiB", "a caller of 16 bytes; factor: of the p99", rows)


def memory(bench: Bench) -> Section:
    """Resident megabytes of each process, idle and with many sessions."""
    rows: list[Row] = []
    hold = {"files": 1000, "sessions": 10, "count": 10000, "hold": True}
    with devices.pinned(frozenset({bench.cpu})), bench.ours() as ours:
        roles = resources.family(ours.pid)
        idle = {pid: resources.resident(pid) for pid in roles}
        rows += [
            {"what": f"{roles[pid]}, idle", "mb": mb} | _judged(RESIDENT_GOAL, mb)
            for pid, mb in idle.items()
        ]
        many = programs.command(bench.programs.caller, ours.path, **hold)
        with Process(many) as caller:
            caller.hear()
            more = sum(resources.resident(pid) - mb for pid, mb in idle.items())
        what = "more with 1,000 open files of 10 sessions"
        rows.append({"what": what, "mb": more} | _judged(GROWTH_GOAL, more))
    return Section("Memory", "resident, shared libraries included", rows)


def idle(bench: Bench) -> Section:
    """Wake-ups of processes that nobody calls, and of ones that somebody has open."""
    rows: list[Row] = []
    with devices.pinned(frozenset({bench.cpu})), bench.ours() as ours:
        pids = list(resources.family(ours.pid))
        bench.run(ours, callers=4)
        hold = programs.command(bench.programs.caller, ours.path, callers=4, hold=True)
        rows.append(_idle_row("nothing open", resources.wake_ups(pids, WATCHED)))
        with Process(hold) as caller:
            caller.hear()
            rows.append(_idle_row("4 open files", resources.wake_ups(pids, WATCHED)))
    return Section("Wake-ups without calls", f"all threads, watched for {WATCHED:g} s", rows)


def _idle_row(what: str, wake_ups: float) -> Row:
    return {"what": what, "wake-ups/s": wake_ups} | _judged(0, wake_ups)


def growth(bench: Bench) -> Section:
    """What more open files and sessions cost, each used in turn."""
    shapes = ((1, 1), (1, 100), (1, 10000), (100, 1), (1000, 1), (1000, 10))
    cases = [{"files": f, "sessions": s, "count": max(2000, f * s)} for f, s in shapes]
    with devices.pinned(frozenset({bench.cpu})), bench.ours() as ours:
        measured = bench.in_turn(ours, cases)
    rows = [
        {"open_files": case["files"], "sessions_of_each": case["sessions"]}
        | {"p50_us": _p50(runs), "p99_us": _p99(runs)}
        for case, runs in zip(cases, measured, strict=True)
    ]
    return Section("By open files and sessions", "AES-128-CBC, 256 bytes, one CPU", rows)


SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "sizes": sizes,
    "callers": callers,
    "fairness": fairness,
    "memory": memory,
    "idle": idle,
    "growth": growth,
}
