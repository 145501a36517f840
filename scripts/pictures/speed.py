"""The figures of docs/performance.md, drawn. They are measured there, not here."""

import hashlib
import math
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"
SIZES, CALLERS = "By size, beside the C pair", "By callers"
Table = list[dict[str, float]]


def table(heading: str) -> Table:
    """The rows under a heading of the page, by the names of the columns; those that are numbers."""
    text = PAGE.read_text().partition(f"### {heading}\n")[2].partition("\n#")[0]
    lines = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    names, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return [
        {
            name: float(cell.replace(",", ""))
            for name, cell in zip(names, row, strict=False)
            if re.fullmatch(r"[\d,.]+", cell)
        }
        for row in rows
    ]


def source() -> str:
    """What tells whether a picture shows the figures that are on the page now."""
    return hashlib.sha256(repr([table(SIZES), table(CALLERS)]).encode()).hexdigest()


def draw(path: Path) -> None:
    """Time and throughput by size, and throughput by callers."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    times, rates, callers = figure.subplots(1, 3)
    _by_size(times, "microseconds (median)", {"ours": "ours µs", "a pair in C": "C pair µs"})
    times.set_yscale("log")
    _by_size(rates, "MB/s", {"ours": "ours MB/s", "a pair in C": "C pair MB/s"})
    _by_callers(callers)
    # The same bytes for the same figures.
    with rc_context({"svg.hashsalt": "cuse-crypto"}):
        figure.savefig(path, metadata={"Date": None, "Description": source()})


def _by_size(axes: Any, quantity: str, columns: dict[str, str]) -> None:
    rows = table(SIZES)
    sizes = [row["bytes"] for row in rows]
    for label, column in columns.items():
        axes.plot(sizes, [row[column] for row in rows], "o-", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [_human(size) for size in sizes], rotation=45)
    axes.set_xlabel("bytes of one operation, AES-128-CBC")
    axes.set_ylabel(quantity)
    axes.grid(alpha=0.3)
    axes.legend()


def _by_callers(axes: Any) -> None:
    for cpus in (1, 2):
        rows = [row for row in table(CALLERS) if row["cpus"] == cpus]
        label = f"{cpus} CPU{'s' * (cpus > 1)}"
        axes.plot(
            [row["callers"] for row in rows], [row["MB/s"] for row in rows], "o-", label=label
        )
    axes.set_xlabel("callers at once, 64 KiB")
    axes.set_ylabel("MB/s")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()


def _human(size: float) -> str:
    power = min(int(math.log2(size)) // 10, 2)
    return f"{size / 1024**power:.0f}{('', 'k', 'M')[power]}"
