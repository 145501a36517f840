"""What ``cuse-crypto device`` shows of itself: the board, and a process that serves it as files."""

import logging
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from cuse_crypto import __version__
from cuse_crypto.board import Board
from cuse_crypto.frontend.turns import MOST_HUNG
from cuse_crypto.fuse.node import Attributes
from cuse_crypto.status.mount import place_of, sweep, why_no_status
from cuse_crypto.status.process import StatusProcess
from cuse_crypto.wire.address import Address

log = logging.getLogger(__name__)


class Shown:
    """The board of one device, and its status process where there can be one."""

    def __init__(self, addresses: Sequence[Address], options: dict[str, Any]) -> None:
        """Forks: to be made before there are threads, and before the node."""
        self._addresses, self._options = addresses, options
        self._process: StatusProcess | None = None
        self._mounted = trio.Event()
        status = options["status"]
        reason = "" if status == "off" else why_no_status()
        self.board = Board(options["workers"] + 2, traced=reason is None, more=MOST_HUNG)
        if reason:
            log.info("no status files: %s", reason)
        elif reason is None:
            folder = _folder(options["name"], status)
            attributes = Attributes.named(options["mode"], options["owner"], options["group"])
            self._process = StatusProcess(folder, self.board, attributes, options["sandbox"])

    async def mount(self, node: Path, kind: str, engine: str) -> None:
        """Show it, from now on; a line in the log where that cannot be."""
        if self._process is None:
            return
        self.board.tell(
            node=str(node),
            kind=kind,
            api=self._options["api"],
            engine=engine,
            back_end=" or ".join(map(str, self._addresses)),
            memory=self._options["memory"],
            workers=self._options["workers"],
            pid=os.getpid(),
            began=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            version=__version__,
            python=platform.python_version(),
            kernel=platform.release(),
        )
        reason = await trio.to_thread.run_sync(self._process.mount, abandon_on_cancel=True)
        if reason:
            log.warning("no status files: %s", reason)
        else:
            self._mounted.set()

    async def watch(self) -> None:
        """Wait for the end of what mount has begun; a line in the log when it comes too early."""
        await self._mounted.wait()
        if self._process:
            await self._process.ended()
            name = self._options["name"]
            log.warning(
                "no status files any more; they come back with: cuse-crypto upgrade %s", name
            )

    def close(self) -> None:
        """Take it down."""
        if self._process:
            self._process.close()


def sweep_status(name: str, status: str) -> None:
    """Remove what a status process that was killed has left."""
    if status != "off":
        sweep(_folder(name, status))


def _folder(name: str, status: str) -> Path:
    return place_of(name) if status == "auto" else Path(status).absolute()
