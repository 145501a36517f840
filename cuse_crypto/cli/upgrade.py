"""``cuse-crypto upgrade``: front ends start the installed program anew, with all that is open."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click

from cuse_crypto.cli.options import announce
from cuse_crypto.errors import Failure
from cuse_crypto.frontend.ledger import HEADER, NAME, header

PROC = Path("/proc")
PATIENCE = 20.0
"""Seconds for a front end to be there again."""
PAUSE = 0.05


@click.command("upgrade")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def command(names: tuple[str, ...]) -> None:
    """Start the front ends of these nodes anew, or of all, as the program is installed now.

    Open files and sessions stay, and so do the processes' numbers: programs do not notice, but for
    a hash that is under way (EIO). A back end need not be upgraded like this: when it is restarted,
    front ends connect again.
    """
    wanted = {name.removeprefix("/dev/") for name in names}
    found = {pid: name for pid, name in _front_ends() if not wanted or name in wanted}
    missing = wanted - set(found.values())
    if missing or not found:
        named = ", ".join(f"/dev/{name}" for name in sorted(missing)) or "any node"
        raise Failure(f"no front end of {named} runs here; see: pgrep -af cuse-crypto")
    for pid, name in found.items():
        _upgrade(pid, name)


def _upgrade(pid: int, name: str) -> None:
    before = _ledger(pid)
    try:
        os.kill(pid, signal.SIGUSR2)
    except PermissionError:
        raise Failure(f"process {pid} serves /dev/{name} for another user; run as root") from None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        now = _ledger(pid)
        if before and now and now.generation > before.generation:
            announce(f"upgraded: /dev/{name} (process {pid})")
            return
        if before and now and now.refused > before.refused:
            raise Failure(
                f"/dev/{name} was not upgraded: a thread waits for memory of uid {now.hung_uid} "
                "that does not come; end that user's programs which use the device"
            )
        time.sleep(PAUSE)
    raise Failure(f"process {pid} still is the old one; see what it says in its log")


def _front_ends() -> Iterator[tuple[int, str]]:
    """Processes, and the nodes that they serve."""
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_text().rstrip("\0").replace("\0", " ").split()
        except OSError:
            continue
        if words[:2] != ["cuse-crypto", "device"]:
            continue
        at = words.index("--name") + 1 if "--name" in words else 0
        yield int(entry.name), words[at] if at else "cryptodev0"


def ledger_of(pid: int) -> Path | None:
    """Its ledger, which outlives the program."""
    for link in (PROC / str(pid) / "fd").iterdir():
        if os.readlink(link).startswith(f"/memfd:{NAME}"):
            return link
    return None


def _ledger(pid: int) -> header | None:
    """The header of its ledger, if it can be read just now."""
    try:
        if link := ledger_of(pid):
            with link.open("rb") as content:
                return HEADER.read(content.read(HEADER.size))
    except OSError:
        return None
    return None
