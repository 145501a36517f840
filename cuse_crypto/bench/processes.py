"""Processes that are started for a measurement, and end with it, however it ends."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cuse_crypto.errors import Failure

PATIENCE = 20.0
"""Seconds that one may take to end before it is killed."""


def end_in_order() -> None:
    """From now on SIGTERM and SIGHUP unwind this process, as Ctrl-C does."""

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


class Process:
    """A child that talks by lines. To be started from the main thread, whose end it follows."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        follow = [sys.executable, "-m", "cuse_crypto.bench.follow", str(os.getpid())]
        self._process = subprocess.Popen(
            [*follow, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            process_group=0,  # Ctrl-C is for us, who then end it
        )
        self.pid = self._process.pid

    def say(self, line: str) -> None:
        """Send one line. Failure with what it complained of, if it is gone."""
        assert self._process.stdin is not None
        try:
            print(line, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._failure() from None

    def hear(self) -> str:
        """Wait for the next line. Failure with what it complained of, if it ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        return line.strip()

    def _failure(self) -> Failure:
        # It may have closed its output, and nothing else.
        self._end(PATIENCE)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return Failure((lines or ["a process of this measurement ended without a word"])[-1])

    def close(self) -> None:
        """End it in an orderly way, and kill it if that takes too long. Again is harmless."""
        if self._process.poll() is None:
            self._process.terminate()
            self._end(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def _end(self, seconds: float) -> None:
        """Wait so long, then kill it; one that hangs in the kernel is given up."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
