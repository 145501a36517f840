"""``cuse-crypto bench``: how fast a device is, and what else could do the same work."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cuse_crypto.cli.options import announce

if TYPE_CHECKING:
    from cuse_crypto.bench.measure import Cell

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}
USUAL = {
    "sizes": "16,64,256,1k,4k,16k,64k,256k,1M",
    "callers": "1,4",
    "rounds": 5,
    "seconds": 30.0,
}
QUICK = {"sizes": "16,4k,64k", "callers": "1", "rounds": 2, "seconds": 2.0}


class NumbersType(click.ParamType[tuple[int, ...]]):
    """``16,4k,1M``: in order, each once; k and M are powers of 1024."""

    name = "numbers"

    def __init__(self, most: int) -> None:
        self.most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """A usage error for anything but numbers from 1 to ``most``."""
        found = set()
        for part in value.split(","):
            match = re.fullmatch(r"([0-9]{1,12})([km]?)", part.strip().lower())
            number = int(match[1]) * UNITS[match[2]] if match else 0
            if not 1 <= number <= self.most:
                self.fail(f"{part!r} is no number from 1 to {self.most}", param, ctx)
            found.add(number)
        return tuple(sorted(found))


class CpusType(click.ParamType[frozenset[int]]):
    """``0,1``, or ``all`` that this process may use."""

    name = "cpus"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[int]:
        """A usage error for what is no list of numbers."""
        if value == "all":
            return frozenset(os.sched_getaffinity(0))
        if not re.fullmatch("[0-9]{1,5}(,[0-9]{1,5})*", value):
            self.fail(f"{value!r} is no list of CPUs; try 0,1 or all", param, ctx)
        return frozenset(map(int, value.split(",")))


class CipherType(click.ParamType[str]):
    """A name of ``cuse_crypto.client``."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """A usage error that lists the known ones."""
        from cuse_crypto.client.algorithms import find_cipher

        try:
            find_cipher(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def _usual(name: str) -> str:
    return f"[default: {USUAL[name]}; quick: {QUICK[name]}]"


@click.command("bench")
@click.option("--device", "path", help="A node to measure, instead of devices of our own.")
@click.option("--cipher", type=CipherType(), default="aes-cbc", show_default=True)
@click.option("--sizes", type=NumbersType(1 << 30), help=f"In bytes.  {_usual('sizes')}")
@click.option("--callers", type=NumbersType(256), help=f"At once.  {_usual('callers')}")
@click.option(
    "--cpus", type=CpusType(), help="Where all processes run: 0,1 or all.  [default: the last one]"
)
@click.option("--rounds", type=click.IntRange(1, 1000), help=_usual("rounds"))
@click.option("--seconds", type=click.FloatRange(0.1, 3600), help=f"About.  {_usual('seconds')}")
@click.option("--quick", is_flag=True, help="A rough figure in a few seconds.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw: .svg, .png or .pdf.")
def command(quick: bool, as_json: bool, plot: Path | None, **options: Any) -> None:
    """Measure what an operation takes, by size and by callers.

    Starts devices of its own, with the engines openssl and null, and removes them again. The same
    work is done by OpenSSL in the calling process, and by the host's /dev/crypto and AF_ALG where
    they are.
    """
    from cuse_crypto.bench import plot as drawing
    from cuse_crypto.bench import report as reporting
    from cuse_crypto.bench.plan import carry_out
    from cuse_crypto.bench.processes import end_in_order

    end_in_order()
    plan = _plan(quick, options)
    if plot:
        drawing.check(plot)
    with _progress() as begin:
        report = carry_out(plan, begin)
    if as_json:
        announce(json.dumps(report.as_json(), indent=2))
    else:
        reporting.show(report)
    if plot:
        drawing.draw(report, plot)


def _plan(quick: bool, options: dict[str, Any]) -> Any:
    """With what was not said filled in. A usage error for sizes that the cipher cannot have."""
    from cuse_crypto.bench.devices import available
    from cuse_crypto.bench.plan import Plan

    context = click.get_current_context()
    types = {parameter.name: parameter for parameter in context.command.params}
    for name, value in (QUICK if quick else USUAL).items():
        if options[name] is None:
            options[name] = types[name].type_cast_value(context, value)
    options["cpus"] = options["cpus"] or frozenset(available()[-1:])
    plan = Plan(**options)
    block = plan.work.row.block_size
    for size in plan.sizes:
        if size % block:
            reason = f"{size} is no multiple of {plan.cipher}'s {block} bytes"
            raise click.BadParameter(reason, param=types["sizes"])
    return plan


@contextmanager
def _progress() -> Iterator[Callable[[int], Callable[["Cell"], None]]]:
    """A bar on standard error, if that is a terminal; drawn between the runs, not in them."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    progress = Progress(
        console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    )

    def begin(total: int) -> Callable[["Cell"], None]:
        task = progress.add_task("", total=total)

        def advance(cell: "Cell") -> None:
            what = f"{cell.subject.title}, {cell.work.size} bytes"
            progress.update(task, advance=1, description=what, refresh=True)

        return advance

    with progress:
        yield begin
