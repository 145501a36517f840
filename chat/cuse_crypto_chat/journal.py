"""What a server says on its standard output, without ever waiting for who reads it."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import trio

Log = Callable[[str], None]
MAX_LINES = 1024


class Journal:
    """Lines on standard output; a reader that stops reading loses lines, and stops nothing else."""

    def __init__(self) -> None:
        self._put, self._lines = trio.open_memory_channel[str](MAX_LINES)

    def log(self, text: str) -> None:
        """One line, with the time of the day."""
        with contextlib.suppress(trio.WouldBlock):
            self._put.send_nowait(f"{time.strftime('%H:%M:%S')} {text}\n")

    async def run(self) -> None:
        """Write what was logged, until it is cancelled."""
        async for line in self._lines:
            data = "".join([line, *self._waiting()]).encode()
            await trio.to_thread.run_sync(_write, data, abandon_on_cancel=True)

    def _waiting(self) -> Iterator[str]:
        with contextlib.suppress(trio.WouldBlock):
            while True:
                yield self._lines.receive_nowait()


def _write(data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(1, data) :]
