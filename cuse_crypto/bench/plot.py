"""A figure of what was measured, by matplotlib, which need not be there."""

from pathlib import Path
from typing import Any

from cuse_crypto.bench.report import KERNEL, Report, headline, human
from cuse_crypto.errors import Failure
from cuse_crypto.extras import require

SUFFIXES = (".svg", ".png", ".pdf")


def check(path: Path) -> None:
    """Failure with the remedy, if no figure could be written there: better before than after."""
    if path.suffix not in SUFFIXES:
        raise Failure(f"{path} is no name for a figure; let it end with {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise Failure(f"{path.parent} is no folder; create it first")
    require("plot", "a plot")


def draw(report: Report, path: Path) -> None:
    """Latency and throughput by size, a line for each subject and number of callers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    latency, throughput = figure.subplots(1, 2)
    _axes(latency, "microseconds (median)", report.sizes())
    _axes(throughput, "MB/s", report.sizes())
    for subject in report.subjects:
        if subject.name == KERNEL:
            continue
        for callers in report.callers():
            found = [report.find(subject.name, size, callers) for size in report.sizes()]
            points = [one for one in found if one]
            if not points:
                continue
            label = subject.title + (f", {callers} callers" if callers > 1 else "")
            sizes = [one.size for one in points]
            style = "o-" if callers == report.callers()[0] else "o--"
            latency.plot(sizes, [one.p50 for one in points], style, label=label)
            throughput.plot(sizes, [one.megabytes_per_second for one in points], style)
    figure.legend(loc="outside right upper")
    figure.suptitle(headline(report))
    try:
        figure.savefig(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from None


def _axes(axes: Any, quantity: str, sizes: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [human(size) for size in sizes], rotation=45)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_ylabel(quantity)
    axes.grid(alpha=0.3)
