"""How fast this device is beside one of the same shape in C (c_pair/).

Both are measured by the same caller (caller.c), in turn, round by round, all processes on one CPU.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from benchmarks import programs
from cuse_crypto.bench import devices
from cuse_crypto.errors import Failure

GOALS = {256: 1.25, 4096: 1.15, 65536: 0.97, 1 << 20: 0.82}
"""By size in bytes: ours, as a multiple of what the C pair takes."""


class Ratio(NamedTuple):
    """One size. Medians in microseconds; ``ratio`` is the median of the rounds' ratios."""

    size: int
    ours: float
    c_pair: float
    ratio: float
    goal: float


def ratios(caller: Path, ours: str, c_pair: str, rounds: int) -> list[Ratio]:
    """AES-128-CBC by size: the two in turn, so that what disturbs one disturbs the other."""
    taken: dict[int, list[tuple[float, float]]] = {size: [] for size in GOALS}
    for _ in range(rounds):
        for size, pairs in taken.items():
            count = max(60, 1500 * 256 // (256 + size // 24))
            both = [programs.run(caller, path, size=size, count=count) for path in (ours, c_pair)]
            pairs.append((both[0].p50, both[1].p50))
    return [
        Ratio(
            size,
            statistics.median(ours for ours, _ in pairs),
            statistics.median(c_pair for _, c_pair in pairs),
            statistics.median(ours / c_pair for ours, c_pair in pairs),
            GOALS[size],
        )
        for size, pairs in taken.items()
    ]


@click.command()
@click.option("--cpu", default=1, show_default=True, help="Where all processes run.")
@click.option("--rounds", default=15, show_default=True)
@click.option("--command", help="The cuse-crypto to measure. [default: this Python's]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(cpu: int, rounds: int, command: str | None, as_json: bool) -> None:
    """Compare this device with the C pair."""
    with tempfile.TemporaryDirectory(prefix="cuse-crypto-compare-") as folder:
        built = programs.compile_all(Path(folder))
        node = f"{folder}/c-pair"
        program = [command] if command else []
        with (
            devices.pinned({cpu}),
            devices.start("openssl", program=program) as ours,
            devices.Device([built.c_pair, node], node) as c_pair,
        ):
            found = ratios(built.caller, ours.path, c_pair.path, rounds)
    if as_json:
        print(json.dumps([row._asdict() for row in found], indent=2))
    else:
        show(found)


def show(found: list[Ratio]) -> None:
    """As a table."""
    table = Table(title="AES-128-CBC, one caller, all processes on one CPU")
    for heading in ("bytes", "ours µs", "C pair µs", "ours / C", "goal", ""):
        table.add_column(heading, justify="right")
    for row in found:
        verdict = "yes" if row.ratio <= row.goal else "no"
        numbers = f"{row.ours:.1f}", f"{row.c_pair:.1f}", f"{row.ratio:.2f}", f"{row.goal:.2f}"
        table.add_row(f"{row.size}", *numbers, verdict)
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"compare: {failure}")
