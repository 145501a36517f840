"""``cuse-crypto replay``: a recording, made again on another device, and compared."""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cuse_crypto.cli.options import announce
from cuse_crypto.errors import Failure

if TYPE_CHECKING:
    from cuse_crypto.status.replaying import Outcome


@click.command("replay")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--device", default="/dev/cryptodev0", show_default=True, help="Where to make it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in a line for each ioctl.")
def command(path: Path, device: str, as_json: bool) -> None:
    """Make the ioctls of FILE again, which `cuse-crypto trace --record FILE` has written.

    One after the other, as they ended. Says what was different: errno, structure, bytes. Exit
    status 1 if anything was. Without keys in FILE, made-up ones are used, and no bytes compared.
    """
    from cuse_crypto.status.recording import read
    from cuse_crypto.status.replaying import DIFFERENT, Replay

    try:
        with open(path) as lines:
            header, events = read(lines, str(path))
            replay = Replay(device, header)
            verdicts: Counter[str] = Counter()
            try:
                for number, outcome in enumerate(replay.run(events), 2):
                    verdicts[outcome.verdict] += 1
                    _tell(number, outcome, as_json)
            finally:
                replay.close()
    except OSError as error:
        name = error.filename or path
        raise Failure(f"{name}: {error.strerror or os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError:
        raise Failure(f"{path} is no recording: no text") from None
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    keys = "" if header["keys"] else " (made-up keys: bytes were not compared)"
    announce(f"{counts or 'nothing recorded'}{keys}") if not as_json else None
    sys.exit(1 if verdicts[DIFFERENT] else 0)


def _tell(number: int, outcome: "Outcome", as_json: bool) -> None:
    if as_json:
        event = outcome.event
        told = {"line": number, "ioctl": event.get("ioctl"), "verdict": outcome.verdict}
        announce(json.dumps(told | {"why": outcome.why}))
    elif outcome.why:
        name = outcome.event.get("ioctl", "")
        announce(f"line {number}: {name} {outcome.verdict}: {outcome.why}")
