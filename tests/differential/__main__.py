"""Compare a device with the model. From the project's folder, as root."""

import contextlib
import sys
import time
from collections import Counter
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.differential.device import serving
from tests.differential.model import DEVIATIONS
from tests.differential.player import Player, said
from tests.differential.search import Found, try_one


@click.command()
@click.option("--sequences", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--seed", default="1", show_default=True, help="Of the run; sequence N has SEED/N.")
@click.option("--only", type=int, help="Play the sequence of this number alone.")
@click.option("--device", type=click.Path(path_type=Path), help="Instead of one that is started.")
@click.option("--engine", default="openssl", show_default=True, help="Of the one that is started.")
@click.option("--node", default="auto", show_default=True, help="Its kind.")
@click.option("--most", type=click.IntRange(1), default=5, help="Differences after which to stop.")
def main(
    sequences: int,
    seed: str,
    only: int | None,
    device: Path | None,
    engine: str,
    node: str,
    most: int,
) -> None:
    """Play sequences of ioctls on a node and in the model. Exit status 1: they differ."""
    numbers = range(sequences) if only is None else range(only, only + 1)
    found: list[Found] = []
    with contextlib.ExitStack() as stack:
        path = device or stack.enter_context(serving("--engine", engine, "--node", node))
        player = Player(path)
        console = Console(stderr=True, highlight=False)
        progress = stack.enter_context(Progress(console=console, transient=True))
        task, began = progress.add_task(str(path), total=len(numbers)), time.monotonic()
        for number in numbers:
            difference = try_one(player, number, f"{seed}/{number}")
            found += [difference] if difference else []
            progress.update(task, advance=1)
            if difference:
                progress.console.print(f"{difference}\n", markup=False, soft_wrap=True)
            if len(found) == most:
                break
    report(player, len(numbers), seed, found, time.monotonic() - began)
    sys.exit(bool(found))


def report(player: Player, count: int, seed: str, found: list[Found], seconds: float) -> None:
    """What was asked and answered."""
    table = Table(box=box.SIMPLE_HEAD)
    answers = [
        number for number, _ in Counter(key[1] for key in player.tally.elements()).most_common()
    ]
    for heading in ("", "steps", *map(said, answers)):
        table.add_column(heading, justify="right" if heading else "left")
    names = sorted({name for name, _ in player.tally})
    for name in names:
        row = [player.tally[name, number] for number in answers]
        table.add_row(name, f"{sum(row):,}", *(f"{times:,}" if times else "" for times in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    console.print(table)
    console.print(
        f"{count:,} sequences of seed {seed}, {player.tally.total():,} ioctls in {seconds:.0f} s:"
        f" {len(found)} differences; {len(DEVIATIONS)} deviations are the model's too"
    )


if __name__ == "__main__":
    main()
