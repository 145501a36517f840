"""The two processes of ``cuse-crypto up``, which are replaced when they are killed."""

import logging
import os
import signal
import socket
import subprocess
from collections.abc import Sequence

import trio

from cuse_crypto.cli.keeper import Keeper
from cuse_crypto.cli.options import announce
from cuse_crypto.cli.renewal import EXIT_MONITOR, PROGRAM
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.errors import Failure
from cuse_crypto.linux import proc

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that the front end may take to end before it is killed."""
BACK_END_PATIENCE = 1.0
"""The same of a back end, which has nothing to bring to an end: together less than five."""
KILLED = 0.5
"""Seconds that one may take to end once it is killed. One that takes longer cannot end."""
POLL = 0.1
"""Seconds between two looks at one whose exit monitor has gone."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before one is replaced, and before one that again and again does not get ready."""
ATTEMPTS = 10
"""So often in a row may one not get ready: more often than one request may be the reason for."""
MOST_UNDEAD = 8
"""Front ends that are dead and cannot end, of some 70 MB each."""


class Child:
    """A command of this program in a process group of its own, so that Ctrl-C is ours alone.

    States: running; ended, when it has been waited for; undead, when its main thread has ended and
    others hang in a page of a caller's memory, as long as that does not come. An undead process
    runs no instruction of its own any more, and is ended for all that is done here.
    """

    def __init__(self, arguments: list[str], descriptors: Sequence[int], notify: str) -> None:
        """``descriptors`` stay open in it, under their numbers; ``notify``: its NOTIFY_SOCKET."""
        self.name = "back end" if arguments[0] == "backend" else "front end"
        self.is_undead = False
        self._monitor, theirs = os.pipe()
        if self.name == "front end":
            arguments = [*arguments, f"{EXIT_MONITOR}={theirs}"]
            descriptors = [*descriptors, theirs]
        try:
            # Started from the main thread, which --with-parent ties its life to.
            self.process = subprocess.Popen(
                [*PROGRAM, *arguments, f"--with-parent={os.getpid()}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                process_group=0,
                pass_fds=descriptors,
                env=os.environ | {"NOTIFY_SOCKET": notify},
            )
        finally:
            os.close(theirs)

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
        async with trio.open_nursery() as nursery:
            if self.name == "front end":
                nursery.start_soon(self._until_undead, nursery.cancel_scope)
            if not self.is_undead:
                await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()
        if self.is_undead:
            return f"is dead, but process {self.process.pid} waits for memory of {self.waits_for()}"
        status = self.process.returncode
        if self.was_killed:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"

    async def _until_undead(self, done: trio.CancelScope) -> None:
        # Its end of the pipe closes with its main thread, or when its exit monitor is killed.
        await trio.lowlevel.wait_readable(self._monitor)
        while True:
            # All others end before the main thread, unless they hang.
            await trio.sleep(POLL)
            if proc.state(self.process.pid) == "Z" and self.process.returncode is None:
                await trio.sleep(POLL)
                self.is_undead = self.process.returncode is None
                done.cancel()
                return

    def waits_for(self) -> str:
        """Whose memory an undead process waits for."""
        uids = {proc.uid_of(pid) for pid in proc.copied_from(self.process.pid)}
        return ", ".join(f"uid {uid}" for uid in uids if uid is not None) or "a caller that is gone"

    @property
    def was_killed(self) -> bool:
        """It has ended by a signal."""
        return self.is_undead or (self.process.returncode or 0) < 0

    async def stop(self) -> int:
        """End it in an orderly way, and kill it if that takes too long; 0 if it ended well."""
        if self.process.poll() is None and not self.is_undead:
            self.process.terminate()
            with trio.move_on_after(PATIENCE if self.name == "front end" else BACK_END_PATIENCE):
                await self.ended()
        if self.process.poll() is None and not self.is_undead:
            self.process.kill()
            with trio.move_on_after(KILLED):
                await self.ended()
        status = self.process.poll()
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self._monitor)
        # So it ends while it is still starting, before it has anything to clean up.
        return 0 if status == -signal.SIGTERM else status or 0


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
        pause, failed, undead = FIRST_PAUSE, 0, 0
        while True:
            how = await self.child.ended()
            name = self.child.name
            if not self.child.was_killed:
                raise Failure(f"the {name} {how}")
            undead += self.child.is_undead
            if undead > MOST_UNDEAD:
                raise Failure(f"the {name} {how}, as {MOST_UNDEAD} others before it")
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
                    if child.is_undead:
                        who = child.process.pid, child.waits_for()
                        log.error("process %d waits for memory of %s and ends when it comes", *who)
    if failures:
        raise failures[0]
    return started


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
