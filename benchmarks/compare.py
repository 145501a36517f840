"""How fast this device is, beside one of the same shape in C (c_pair/) and beside its goals.

From the project's folder: ``python -m benchmarks.compare --help``. Everything is measured by a
caller in C, in rounds, with all processes on one CPU unless a table says otherwise.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import programs
from benchmarks.sections import SECTIONS, Bench, Section
from cuse_crypto.bench import devices
from cuse_crypto.bench.processes import end_in_order
from cuse_crypto.errors import Failure


@click.command()
@click.argument("names", nargs=-1, metavar="[SECTION]...", type=click.Choice(list(SECTIONS)))
@click.option("--cpu", type=int, help="Where all processes run.  [default: the last one]")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True)
@click.option("--command", help="The cuse-crypto to measure.  [default: this one]")
@click.option("--json", "form", flag_value="json", help="For programs.")
@click.option("--markdown", "form", flag_value="markdown", help="For docs/performance.md.")
def main(
    names: Sequence[str], cpu: int | None, rounds: int, command: str | None, form: str | None
) -> None:
    """Measure all sections, or those named."""
    end_in_order()
    there = devices.available()
    cpu = there[-1] if cpu is None else cpu
    cpus = frozenset({cpu, *[one for one in there if one != cpu][:1]})
    with tempfile.TemporaryDirectory(prefix="cuse-crypto-compare-") as folder:
        built = programs.compile_all(Path(folder))
        bench = Bench(built, [command] if command else [], cpu, cpus, rounds)
        found = {}
        for name in names or SECTIONS:
            if sys.stderr.isatty():
                print(f"{name} ...", file=sys.stderr)
            found[name] = SECTIONS[name](bench)
    if form == "json":
        print(json.dumps({name: one._asdict() for name, one in found.items()}, indent=2))
    for section in found.values():
        if form == "markdown":
            print(markdown(section))
        elif form is None:
            show(section)


def heading(name: str) -> str:
    """``"ours µs"`` of ``"ours_us"``."""
    words = name.split("_")
    return " ".join({"us": "µs", "mb": "MB", "mb/s": "MB/s", "c": "C"}.get(w, w) for w in words)


def text(value: Any) -> str:
    """With as many digits as there is meaning in."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = 2 if value < 10 else 1 if value < 1000 else 0
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def show(section: Section) -> None:
    """As a table on the terminal."""
    table = Table(title=f"{section.title} ({section.note})", title_justify="left")
    table.box = box.SIMPLE_HEAD
    for name in section.rows[0]:
        table.add_column(heading(name), justify="right")
    for row in section.rows:
        table.add_row(*map(text, row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


def markdown(section: Section) -> str:
    """As a table of a document."""
    names = list(section.rows[0])
    lines = [[heading(name) for name in names], ["---:"] * len(names)]
    lines += [[text(row[name]) for name in names] for row in section.rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"### {section.title}\n\n{section.note}\n\n{table}\n"


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"compare: {failure}")
