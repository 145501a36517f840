"""Feed the codecs and the dispatcher whatever bytes. From the project's folder."""

import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cuse_crypto.bench.processes import Process, end_in_order
from cuse_crypto.errors import Failure
from tests.fuzz.targets import TARGETS

ENGINES = ["hypothesis", "atheris"]
MEBIBYTE = 1 << 20


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...", type=click.Choice(list(TARGETS)))
@click.option("--inputs", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--engine", type=click.Choice(ENGINES), help="[default: both, where they are]")
@click.option("--input", "given", metavar="HEX", help="One input, to look at what came of it.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(
    targets: Sequence[str],
    inputs: int,
    seed: int,
    engine: str | None,
    given: str | None,
    as_json: bool,
) -> None:
    """Feed all targets, or those named, and say what came of it. Exit status 1: a finding."""
    end_in_order()
    has_atheris = importlib.util.find_spec("atheris") is not None
    if engine == "atheris" and not has_atheris:
        raise Failure("there is no atheris here; install it with: pip install -e '.[fuzz]'")
    if given is not None:
        engine = "hypothesis"
        if len(targets) != 1 or not is_hex(given):
            raise click.UsageError("--input is for one TARGET, in hexadecimal digits")
    rows = []
    for target in targets or TARGETS:
        for name in [engine] if engine else ENGINES[: 1 + has_atheris]:
            words = [target, name, str(inputs), str(seed)]
            rows.append({"target": target, "engine": name, **carry_out(words, inputs, given)})
    print(json.dumps(rows, indent=2)) if as_json else show(rows)
    sys.exit(any(row["findings"] for row in rows))


def is_hex(text: str) -> bool:
    """It can be an input."""
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True


def carry_out(words: list[str], inputs: int, given: str | None) -> dict[str, Any]:
    """Run a worker to its end; its report."""
    console = Console(stderr=True)
    given_words = [] if given is None else [given]
    with (
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        tempfile.TemporaryDirectory(prefix="cuse-crypto-fuzz-") as folder,
        Process(
            [sys.executable, "-m", "tests.fuzz.worker", *words, folder, *given_words]
        ) as worker,
    ):
        task = progress.add_task(f"{words[0]}, {words[1]}", total=inputs)
        while not (line := worker.hear()).startswith("{"):
            progress.update(task, completed=int(line))
    report: dict[str, Any] = json.loads(line)
    return report


def show(rows: list[dict[str, Any]]) -> None:
    """As a table on the terminal, and the findings behind it."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("target", "engine", "inputs", "seconds", "MiB", "fds", "findings"):
        table.add_column(name, justify="left" if name in ("target", "engine") else "right")
    for row in rows:
        before, after = row["before"], row["after"]
        memory = f"{before['rss'] / MEBIBYTE:.1f} → {after['rss'] / MEBIBYTE:.1f}"
        files = f"{before['fds']} → {after['fds']}"
        cells = row["target"], row["engine"], f"{row['inputs']:,}", f"{row['seconds']:.1f}"
        table.add_row(*cells, memory, files, str(len(row["findings"])))
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for row in rows:
        outcomes = ", ".join(f"{kind} {count:,}" for kind, count in row["outcomes"].items())
        console.print(f"{row['target']}, {row['engine']}: {outcomes}", soft_wrap=True)
        for kind, finding in row["findings"].items():
            console.print(f"{kind}, {finding['times']} times: {finding['says']}", soft_wrap=True)
            print(finding.get("trace", ""), f"--input {finding.get('input')}", sep="")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"fuzz: {failure}")
