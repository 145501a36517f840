"""``cuse-crypto up``: back end and front end as two children, one command."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import trio

from cuse_crypto.cli.options import (
    announce,
    engine_option,
    limit_options,
    node_options,
    sandbox_option,
    set_up_process,
    user_option,
    verbose_option,
)
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.errors import Failure
from cuse_crypto.fuse.mounted_node import sweep
from cuse_crypto.fuse.node import DEV, checked_name, pick

RUNTIME = Path("/run/cuse-crypto")
PATIENCE = 10.0
"""Seconds that a child may take to end before it is killed."""


@click.command("up")
@node_options
@limit_options
@engine_option
@user_option
@sandbox_option
@verbose_option
def command(engine: str, user: str | None, sandbox: bool, verbose: bool, **options: Any) -> None:
    """Make /dev/cryptodev0 and serve it, until Ctrl-C.

    Starts the back end and the front end as two processes of their own.
    """
    set_up_process("up", verbose)
    checked_name(options["name"])
    pick(options["kind"])
    with _runtime_folder() as folder:
        address = f"unix:{folder / 'backend.sock'}"
        flags = [*["-v"] * verbose, *["--no-sandbox"] * (not sandbox)]
        backend = ["backend", "--listen", address, "--engine", engine, *flags]
        backend += ["--user", user] if user else []
        device = ["device", "--backend", address, *flags]
        for name, value in options.items():
            spelled = f"{value:o}" if name == "mode" else str(value)
            device += ["--node" if name == "kind" else f"--{name.replace('_', '-')}", spelled]
        try:
            started = trio.run(_supervise, backend, device)
        finally:
            # Only a front end that was killed has left anything.
            sweep(DEV / options["name"])
    sys.exit(0 if started else 1)


@contextlib.contextmanager
def _runtime_folder() -> Iterator[Path]:
    """A private folder for the socket, removed at the end; those of killed predecessors too."""
    try:
        RUNTIME.mkdir(mode=0o755, exist_ok=True)
        with _locked(RUNTIME):
            for left in RUNTIME.glob("up-*"):
                # The lock of a folder goes with whoever made it, in whatever pid namespace it was.
                with contextlib.suppress(BlockingIOError), _locked(left, fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix="up-", dir=RUNTIME))
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
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(fd)


class Child:
    """A command of this program in a process group of its own, so that Ctrl-C is ours alone."""

    def __init__(self, arguments: list[str]) -> None:
        self.name = "back end" if arguments[0] == "backend" else "front end"
        # Started from the main thread, which --with-parent ties its life to.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cuse_crypto", *arguments, "--with-parent"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            process_group=0,
        )

    async def ready(self) -> str | None:
        """Wait for its line ``ready: ...``; None if it ends instead, and then it has said why."""
        assert self.process.stdout is not None
        async with trio.lowlevel.FdStream(os.dup(self.process.stdout.fileno())) as stream:
            line = b""
            async for part in stream:
                line += part
                if line.endswith(b"\n"):
                    return line.decode().strip()
        return None

    async def ended(self) -> str:
        """Wait for its end; how it ended."""
        status = await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"

    async def stop(self) -> int:
        """End it in an orderly way, and kill it if that takes too long; 0 if it ended well."""
        if self.process.poll() is None:
            self.process.terminate()
            with trio.move_on_after(PATIENCE):
                await self.ended()
            if self.process.poll() is None:
                self.process.kill()
        status = self.process.wait()
        # So it ends while it is still starting, before it has anything to clean up.
        return 0 if status == -signal.SIGTERM else status


async def _supervise(backend_arguments: list[str], device_arguments: list[str]) -> bool:
    """Run both until a signal, or until one of them ends; False if one could not start.

    The front end ends first, so that its last requests are answered.
    """
    children: list[Child] = []
    failures: list[str] = []
    started = True
    async with until_signalled() as ending:

        async def watch(child: Child) -> None:
            how = await child.ended()
            failures.append(f"the {child.name} {how}")
            ending.set()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, ending, nursery.cancel_scope)
                for arguments in (backend_arguments, device_arguments):
                    child = Child(arguments)
                    children.append(child)
                    line = await child.ready()
                    if line is None:
                        started = False
                        ending.set()
                        await trio.sleep_forever()
                    nursery.start_soon(watch, child)
                announce(f"{line}")
        finally:
            with trio.CancelScope(shield=True):
                for child in reversed(children):
                    if await child.stop() and not failures and started:
                        failures.append(f"the {child.name} did not end in an orderly way")
    if failures:
        raise Failure(failures[0])
    return started


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
