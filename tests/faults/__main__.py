"""Break things under callers that check every result. From the project's folder, as root."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cuse_crypto.bench.processes import end_in_order
from cuse_crypto.errors import Failure
from tests.faults import endurance, programs, trials
from tests.faults.trials import TRIALS, Trial


@click.group(invoke_without_command=True)
@click.option("--what", type=click.Choice([*TRIALS, "all"]), default="all", show_default=True)
@click.option("--kills", type=click.IntRange(1), default=200, show_default=True)
@click.option("--callers", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--at-once", is_flag=True, help="A killed back end is replaced at once.")
@click.option("--program", type=click.Choice(["c", "python"]), default="c", show_default=True)
@click.option("--engine", default="openssl", show_default=True)
@click.option("--node", "node_kind", type=click.Choice(["auto", "cuse", "mounted"]), default="auto")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def main(context: click.Context, /, what: str, as_json: bool, **options: Any) -> None:
    """Do one thing to a device, or all, KILLS times. Exit status 1: a wrong result, or a hang."""
    end_in_order()
    if context.invoked_subcommand:
        return
    rows = []
    for name in TRIALS if what == "all" else [what]:
        try:
            rows.append({"what": name, **carry_out(name, **options)})
        except Failure as failure:
            rows.append({"what": name, "failed": str(failure)})
    print(json.dumps(rows, indent=2)) if as_json else show(rows)
    sys.exit(any(is_bad(row) for row in rows))


def is_bad(row: dict[str, Any]) -> bool:
    """What must never be."""
    return bool("failed" in row or row["wrong"] or row["hangs"] or row["ended_early"])


def carry_out(
    name: str, kills: int, callers: int, seed: int, program: str, **options: Any
) -> dict[str, Any]:
    """One trial; its figures."""
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="cuse-crypto-faults-") as folder,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task(name, total=kills)
        place = Path(folder)
        words = trials.steady_in_python()
        if program == "c":
            words = [str(programs.compiled("steady", place, "-lcrypto"))]
        trial = Trial(kills, callers, seed, words, place, **options)
        trial.progress = lambda done: progress.update(task, completed=done)
        began = time.monotonic()
        figures = TRIALS[name](trial)
        return {"blows": kills, "seconds": round(time.monotonic() - began, 1), **figures}


def show(rows: list[dict[str, Any]]) -> None:
    """As a table on the terminal."""
    names = "what", "blows", "seconds", "operations", "wrong", "hangs", "lost_streams", "longest_ms"
    table = Table(box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name.replace("_", " "), justify="left" if name == "what" else "right")
    for row in rows:
        table.add_row(*(f"{row.get(name, '')}" for name in names))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for row in rows:
        said = [row["failed"]] if "failed" in row else [f"errors: {row['errors'] or 'none'}"]
        if row.get("ended_early"):
            said.append(f"ended early: {', '.join(row['ended_early'])}")
        for line in [*said, *row.get("complaints", [])]:
            console.print(f"{row['what']}: {line}", soft_wrap=True)


main.add_command(endurance.command, "endurance")

if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"faults: {failure}")
