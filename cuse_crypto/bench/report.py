"""What was measured, as tables for people and as JSON for programs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from cuse_crypto.bench.measure import Result
from cuse_crypto.bench.subjects import Subject

KERNEL, NULL, OPENSSL = "no_work", "null", "openssl"
"""Subjects whose differences are the layers."""


class Layers(NamedTuple):
    """Where the time of one operation goes, in microseconds by the medians.

    ``kernel``: to the front end and back. ``plumbing``: the caller's memory, the wire and a back
    end that copies. ``cipher``: what is left.
    """

    size: int
    kernel: float
    plumbing: float
    cipher: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.kernel + self.plumbing + self.cipher


class Report(NamedTuple):
    """A whole measurement. ``missing``: why something is not in it, by title."""

    subjects: Sequence[Subject]
    results: Sequence[Result]
    missing: dict[str, str]
    about: dict[str, Any]

    def find(self, subject: str, size: int, callers: int = 1) -> Result | None:
        """The result of one cell, if it was measured."""
        wanted = subject, size, callers
        found = (one for one in self.results if (one.subject, one.size, one.callers) == wanted)
        return next(found, None)

    def sizes(self) -> list[int]:
        """In bytes, in order."""
        return sorted({one.size for one in self.results if one.subject != KERNEL})

    def callers(self) -> list[int]:
        """In order."""
        return sorted({one.callers for one in self.results})

    def layers(self) -> list[Layers]:
        """By size; none where one of the subjects is not there."""
        found = []
        kernel = next((one for one in self.results if one.subject == KERNEL), None)
        for size in self.sizes():
            null, openssl = self.find(NULL, size), self.find(OPENSSL, size)
            if kernel and null and openssl:
                shares = kernel.p50, null.p50 - kernel.p50, openssl.p50 - null.p50
                found.append(Layers(size, *shares))
        return found

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "about": self.about,
            "subjects": {one.name: one.title for one in self.subjects},
            "results": [one.report() for one in self.results],
            "layers": [
                {name: round(value, 2) for name, value in one._asdict().items()}
                for one in self.layers()
            ],
            "missing": self.missing,
        }


def human(size: int) -> str:
    """``"64 KiB"`` of 65536."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor and not size % factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


WIDTH = 120
"""Columns, where there is no terminal that has a width."""


def headline(report: Report) -> str:
    """One line on what was measured."""
    about = report.about
    cpus = ", ".join(map(str, about["cpus"]))
    return f"{about['cipher']}, {about['key_bits']} bits, CPU {cpus}, {about['rounds']} rounds"


def show(report: Report) -> None:
    """Print all tables that there is something for."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(headline(report))
    alone = [one for one in report.subjects if one.name != KERNEL]
    console.print(_by_size("microseconds: median and 99th percentile", report, alone, _latency))
    console.print(_by_size("MB/s", report, alone, _throughput))
    if len(report.callers()) > 1:
        console.print(_by_callers(report))
    if report.layers():
        console.print(_shares(report))
    elif kernel := report.find(KERNEL, 0):
        console.print(f"an ioctl without work: {kernel.p50:.1f} microseconds")
    for title, reason in report.missing.items():
        console.print(f"not here: {title} ({reason})")


def _latency(result: Result) -> str:
    return f"{result.p50:,.1f} {result.p99:>8,.1f}"


def _throughput(result: Result) -> str:
    return f"{result.megabytes_per_second:,.1f}"


def _table(title: str, *headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _by_size(title: str, report: Report, subjects: Sequence[Subject], form: Any) -> Table:
    table = _table(title, "", *(one.title for one in subjects))
    for size in report.sizes():
        found = [report.find(one.name, size, report.callers()[0]) for one in subjects]
        table.add_row(human(size), *(form(one) if one else "-" for one in found))
    return table


def _by_callers(report: Report) -> Table:
    """Of the subjects that were measured with several."""
    most = report.callers()[-1]
    many = [one for one in report.subjects if report.find(one.name, report.sizes()[0], most)]
    heads = [f"{n} caller{'s' * (n > 1)}" for n in report.callers()]
    table = _table("by callers: operations a second, median microseconds", "", "", *heads)
    for subject in many:
        for size in report.sizes():
            found = [report.find(subject.name, size, n) for n in report.callers()]
            cells = (f"{r.operations_per_second:,.0f} {r.p50:>9,.1f}" if r else "-" for r in found)
            table.add_row(subject.title, human(size), *cells)
        table.add_section()
    return table


def _shares(report: Report) -> Table:
    table = _table(
        "where the time goes: microseconds", "", "kernel", "plumbing", "cipher", "in all"
    )
    for one in report.layers():
        parts = (one.kernel, one.plumbing, one.cipher)
        cells = (f"{part:,.1f} {part / one.total:>5.0%}" for part in parts)
        table.add_row(human(one.size), *cells, f"{one.total:,.1f}")
    return table
