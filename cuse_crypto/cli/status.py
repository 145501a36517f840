"""``cuse-crypto status``: what the devices of this machine have done so far."""

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from cuse_crypto.cli.options import announce
from cuse_crypto.errors import Failure

if TYPE_CHECKING:
    from rich.console import Console

    from cuse_crypto.status.client import Counters, Tree


@click.command("status")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(name: str | None, as_json: bool) -> None:
    """Say what devices there are, what they have done, and for whom.

    NAME is a device (cryptodev0, or /dev/cryptodev0) or the folder of its status files; without
    it, all that have status files.
    """
    from cuse_crypto.status.client import find, trees

    found = [find(name)] if name else trees()
    if not found:
        raise Failure("no device has status files here; start one with `cuse-crypto up`")
    if as_json:
        announce(json.dumps([_plain(tree) for tree in found], indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for tree in found:
        _show(console, tree)


def _plain(tree: "Tree") -> dict[str, object]:
    counters = tree.counters()
    return {
        "folder": str(tree.folder),
        "info": tree.info(),
        "sessions": [dataclasses.asdict(session) for session in tree.sessions()],
        "ioctls": {name: dataclasses.asdict(one) for name, one in counters.ioctls.items()},
        **counters.totals,
    }


def _show(console: "Console", tree: "Tree") -> None:
    from rich import box
    from rich.table import Table

    info, counters, sessions = tree.info(), tree.counters(), tree.sessions()
    files = counters.totals.get("open_files", 0)
    console.print(
        f"{info['node']} ({info['kind']} node, engine {info['engine']}), since {info['began']}: "
        f"{files} open files, {counters.totals.get('sessions', 0)} sessions",
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("ioctl")
    for heading in ("count", "errors", "bytes", "mean us"):
        table.add_column(heading, justify="right")
    table.add_column("errno")
    for row in _rows(counters):
        table.add_row(*row)
    console.print(table)
    if sessions:
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("pid", "uid", "command", "algorithm", "operations", "bytes", "seconds"):
            table.add_column(
                heading, justify="left" if heading in ("command", "algorithm") else "right"
            )
        for one in sessions:
            numbers = one.operations, one.bytes, one.age
            who = str(one.pid), str(one.uid), one.command, one.algorithm
            table.add_row(*who, *map(str, numbers))
        console.print(table)


def _rows(counters: "Counters") -> list[tuple[str, ...]]:
    return [
        (
            *(name, str(one.count), str(one.failed), str(one.bytes)),
            f"{one.seconds / one.count * 1e6:.1f}" if one.count else "",
            " ".join(f"{name} {count}" for name, count in one.errors.items()),
        )
        for name, one in counters.ioctls.items()
    ]
