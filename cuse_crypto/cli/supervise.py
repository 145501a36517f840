"""The two processes of ``cuse-crypto up``, which are replaced when they are killed."""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

import trio

from cuse_crypto.cli.keeper import Keeper
from cuse_crypto.cli.options import announce
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.errors import Failure

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a child may take to end before it is killed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before one is replaced, and before one that again and again does not get ready."""
ATTEMPTS = 10
"""So often in a row may one not get ready: more often than one request may be the reason for."""


class Child:
    """A command of this program in a process group of its own, so that Ctrl-C is ours alone."""

    def __init__(self, arguments: list[str], descriptors: Sequence[int], notify: str) -> None:
        """``descriptors`` stay open in it, under their numbers; ``notify``: its NOTIFY_SOCKET."""
        self.name = "back end" if arguments[0] == "backend" else "front end"
        # Started from the main thread, which --with-parent ties its life to.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cuse_crypto", *arguments, f"--with-parent={os.getpid()}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            process_group=0,
            pass_fds=descriptors,
            env=os.environ | {"NOTIFY_SOCKET": notify},
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
        if self.was_killed:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"

    @property
    def was_killed(self) -> bool:
        """It has ended by a signal."""
        return (self.process.returncode or 0) < 0

    async def stop(self) -> int:
        """End it in an orderly way, and kill it if that takes too long; 0 if it ended well."""
        if self.process.poll() is None:
            self.process.terminate()
            with trio.move_on_after(PATIENCE):
                await self.ended()
            if self.process.poll() is None:
                self.process.kill()
        status = self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        # So it ends while it is still starting, before it has anything to clean up.
        return 0 if status == -signal.SIGTERM else status


class Kept:
    """One child after the other, of which each takes over from one that was killed."""

    def __init__(
        self, arguments: list[str], *descriptors: int, keeper: Keeper | None = None
    ) -> None:
        """``keeper`` has what one leaves to the next, besides ``descriptors``."""
        self._arguments, self._descriptors = arguments, descriptors
        self._keeper = keeper
        self.child = self._start()

    def _start(self) -> Child:
        keeper = self._keeper
        if not keeper:
            return Child(self._arguments, self._descriptors, "")
        keeper.collect()
        arguments = [*self._arguments, *keeper.arguments()]
        return Child(arguments, [*self._descriptors, *keeper.descriptors], str(keeper.path))

    async def keep(self) -> None:
        """Replace it whenever it dies; Failure when it ends by itself, or none gets ready."""
        pause, failed = FIRST_PAUSE, 0
        while True:
            how = await self.child.ended()
            name = self.child.name
            if not self.child.was_killed:
                raise Failure(f"the {name} {how}")
            log.warning("the %s %s; starting another one", name, how)
            await trio.sleep(pause)
            await self.child.stop()
            self.child = self._start()
            if await self.child.ready():
                pause, failed = FIRST_PAUSE, 0
                continue
            pause, failed = min(2 * pause, LONGEST_PAUSE), failed + 1
            if failed == ATTEMPTS:
                raise Failure(f"no {name} gets ready any more")


async def supervise(
    backend: list[str], listener: socket.socket, device: list[str], keeper: Keeper
) -> bool:
    """Run both until a signal, or until one of them ends; False if one could not start.

    ``backend`` and ``device`` are their arguments. ``listener`` is passed to each back end in turn:
    who connects meanwhile waits for the next one; ``keeper`` has what a front end leaves to the
    next. The front end ends first, so that its last requests are answered.
    """
    async with until_signalled() as signalled:
        kept = [Kept(backend, listener.fileno())]
        started = False
        failures: list[BaseException] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, signalled, nursery.cancel_scope)
                nursery.start_soon(keeper.run)
                if await kept[0].child.ready():
                    kept.append(Kept(device, keeper=keeper))
                    if line := await kept[1].child.ready():
                        announce(line)
                        started = True
                        for one in kept:
                            nursery.start_soon(one.keep)
                        await trio.sleep_forever()
                nursery.cancel_scope.cancel()
        except* Failure as group:
            failures = list(group.exceptions)
        finally:
            with trio.CancelScope(shield=True):
                for child in [one.child for one in reversed(kept)]:
                    if await child.stop() and started and not failures:
                        failures.append(Failure(f"the {child.name} did not end in an orderly way"))
    if failures:
        raise failures[0]
    return started


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
