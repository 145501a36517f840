"""A day's work in small: what both processes hold is afterwards what it was before."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.resources import family
from cuse_crypto.errors import Failure
from tests.faults import pair, programs

OPERATIONS, OPENS, SESSIONS = 2_000_000, 100_000, 100_000
CALLERS, SIZE = 4, 256
WARM = 0.02
"""The part of the work after which caches are full, and as many threads there as are needed."""
GROWTH = 2.0
"""Mebibytes by which memory may differ: pages that the allocator keeps."""
REST = 15.0
"""Seconds in which workers that are needless go."""


@click.command("endurance")
@click.option("--scale", type=click.FloatRange(0.001), default=1.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(scale: float, as_json: bool) -> None:
    """Operations, open files and sessions, many of each. Exit status 1: something has grown."""
    with tempfile.TemporaryDirectory(prefix="cuse-crypto-faults-") as folder:
        hammer, churn = (programs.compiled(name, Path(folder)) for name in ("hammer", "churn"))
        with pair.both("openssl", "auto") as device:
            report = endure(scale, device.pid, device.path, hammer, churn)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        for line in lines(report):
            console.print(line)
    sys.exit(bool(report["grown"]))


def endure(scale: float, up: int, node: str, hammer: Path, churn: Path) -> dict[str, Any]:
    """Do the work; what the processes held before and after it."""
    work(scale * WARM, node, hammer, churn)
    before = settled(up, None)
    began = time.monotonic()
    work(scale, node, hammer, churn)
    seconds = time.monotonic() - began
    after = settled(up, before)
    grown = [
        f"{role} {name}"
        for role in before
        for name in before[role]
        if after[role][name] > before[role][name] + (GROWTH if name == "MiB" else 0)
    ]
    amounts = {"operations": OPERATIONS, "opens": OPENS, "sessions": SESSIONS}
    done = {name: int(amount * scale) for name, amount in amounts.items()}
    return {**done, "seconds": seconds, "before": before, "after": after, "grown": grown}


def work(scale: float, node: str, hammer: Path, churn: Path) -> None:
    """``scale`` of all that is to be done."""
    each = max(int(OPERATIONS * scale) // CALLERS, 2)
    run([str(hammer), node, str(CALLERS), str(each), str(SIZE)])
    run([str(churn), node, str(max(int(OPENS * scale), 1)), str(max(int(SESSIONS * scale), 1))])


def run(words: list[str]) -> None:
    """A caller; Failure with what it says, if something is wrong."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{Path(words[0]).name}: {(done.stderr or done.stdout).strip()[-200:]}")


def settled(up: int, wanted: dict[str, Any] | None) -> dict[str, Any]:
    """What they hold once needless workers have gone: when it is what is wanted, or stays."""
    end = time.monotonic() + REST
    last = held(up)
    while time.monotonic() < end:
        time.sleep(0.5)
        last = held(up)
        if wanted and all(
            last[role][name] <= wanted[role][name] for role in wanted for name in ("fds", "threads")
        ):
            break
    return last


def held(up: int) -> dict[str, Any]:
    """Memory in mebibytes, descriptors and threads, by role."""
    found = {}
    for pid, role in family(up).items():
        folder = Path(f"/proc/{pid}")
        pages = int((folder / "statm").read_text().split()[1])
        found[role] = {
            "MiB": round(pages / 256, 1),
            "fds": len(list((folder / "fd").iterdir())),
            "threads": len(list((folder / "task").iterdir())),
        }
    return found


def lines(report: dict[str, Any]) -> list[str]:
    """For people."""
    said = ", ".join(f"{report[name]:,} {name}" for name in ("operations", "opens", "sessions"))
    found = [f"{said} in {report['seconds']:.0f} s"]
    for role, before in report["before"].items():
        after = report["after"][role]
        found.append(
            f"{role}: " + ", ".join(f"{name} {before[name]} → {after[name]}" for name in before)
        )
    return [*found, f"grown: {', '.join(report['grown']) or 'nothing'}"]
