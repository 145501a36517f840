"""``cuse-crypto up``: back end and front end as two children, one command."""

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import trio

from cuse_crypto.cli.configuration import VARIABLE
from cuse_crypto.cli.keeper import Keeper
from cuse_crypto.cli.options import (
    engine_option,
    limit_options,
    node_options,
    sandbox_option,
    set_up_process,
    user_option,
    verbose_option,
)
from cuse_crypto.cli.shown import sweep_status
from cuse_crypto.cli.supervise import supervise
from cuse_crypto.fuse.mounted_node import sweep
from cuse_crypto.fuse.node import DEV, checked_name, pick
from cuse_crypto.linux import folders
from cuse_crypto.wire.address import Address

RUNTIME = Path("/run/cuse-crypto")
PRIVATE = RUNTIME / ".up"
"""No device has a name like this: status files of one are beside it."""


@click.command("up")
@node_options
@limit_options
@engine_option
@user_option
@sandbox_option
@verbose_option
def command(engine: str, user: str | None, sandbox: bool, verbose: bool, **options: Any) -> None:
    """Make /dev/cryptodev0 and serve it, until Ctrl-C.

    Starts the back end and the front end as two processes of their own, and replaces them when
    they are killed.
    """
    set_up_process("up", verbose)
    # The children are told everything here.
    os.environ[VARIABLE] = os.devnull
    checked_name(options["name"])
    pick(options["kind"])
    with _runtime_folder() as folder:
        address = Address.parse(f"unix:{folder / 'backend.sock'}")
        listener, keeper = address.listen(), Keeper(folder / "notify.sock")
        flags = [*["-v"] * verbose, *["--no-sandbox"] * (not sandbox)]
        listen = f"fd:{listener.fileno()}"
        backend = ["backend", "--listen", listen, "--engine", engine, *flags]
        backend += ["--user", user] if user else []
        device = ["device", "--backend", str(address), *flags]
        for name, value in options.items():
            spelled = f"{value:o}" if name == "mode" else str(value)
            device += ["--node" if name == "kind" else f"--{name.replace('_', '-')}", spelled]
        try:
            started = trio.run(supervise, backend, listener, device, keeper)
        finally:
            listener.close()
            keeper.close()
            # Only a front end that was killed has left anything.
            sweep(DEV / options["name"])
            sweep_status(options["name"], options["status"])
    sys.exit(0 if started else 1)


@contextlib.contextmanager
def _runtime_folder() -> Iterator[Path]:
    """A private folder for the socket, removed at the end; those of killed predecessors too."""
    try:
        RUNTIME.mkdir(mode=0o755, exist_ok=True)
        # Closed to others, for any user could lock a folder that is open to all.
        PRIVATE.mkdir(mode=0o700, exist_ok=True)
        folders.check(PRIVATE)
        with _locked(PRIVATE):
            for left in PRIVATE.iterdir():
                # The lock of a folder goes with whoever made it, in whatever pid namespace it was.
                with contextlib.suppress(BlockingIOError), _locked(left, fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix="up-", dir=PRIVATE))
            lock = contextlib.ExitStack()
            lock.enter_context(_locked(folder))
    except OSError:
        folder, lock = Path(tempfile.mkdtemp(prefix="cuse-crypto-")), contextlib.ExitStack()
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    """``how``: LOCK_NB to have BlockingIOError instead of waiting."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(fd)
