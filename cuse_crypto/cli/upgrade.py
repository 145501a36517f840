"""``cuse-crypto upgrade``: front ends start the installed program anew, with all that is open."""

import os
import signal
import time

import click

from cuse_crypto import namespaces
from cuse_crypto.cli.options import announce
from cuse_crypto.errors import Failure
from cuse_crypto.fuse.claim import Server, servers
from cuse_crypto.linux.processes import opened, pid_namespace

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
    if namespaces.HOST.is_dir():
        raise Failure("the device of cuse-crypto run cannot be upgraded; start run again")
    wanted = {name.removeprefix("/dev/") for name in names}
    found = {name: one for name, one in _serving().items() if not wanted or name in wanted}
    missing = wanted - set(found)
    if missing or not found:
        named = ", ".join(f"/dev/{name}" for name in sorted(missing)) or "any node"
        raise Failure(f"no front end of {named} runs here; see: pgrep -af cuse-crypto")
    for name, server in found.items():
        _upgrade(name, server)


def _serving() -> dict[str, Server]:
    """As recorded where only their owner can write. Any process can have their name and command
    line.
    """
    try:
        return servers()
    except PermissionError:
        raise Failure(f"front ends are not of uid {os.geteuid()}; run as root") from None


def _upgrade(name: str, server: Server) -> None:
    pid = server.process.pid
    if server.process.namespace != pid_namespace():
        raise Failure(f"/dev/{name} is served from another container; run it in there")
    try:
        with opened(server.process) as fd:
            signal.pidfd_send_signal(fd, signal.SIGUSR2)
    except ProcessLookupError:
        raise Failure(f"/dev/{name} has no front end just now; try again, or start one") from None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        now = _serving().get(name)
        if now and now.generation > server.generation:
            announce(f"upgraded: /dev/{name} (process {now.process.pid})")
            return
        if now and now.refused > server.refused:
            raise Failure(
                f"/dev/{name} was not upgraded: a thread waits for memory of uid {now.hung_uid} "
                "that does not come; end that user's programs which use the device"
            )
        time.sleep(PAUSE)
    raise Failure(f"process {pid} still is the old one; see what it says in its log")
