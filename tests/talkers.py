"""Programs that one talks with by lines: the course's in C, ours in a pipe."""

import signal
import subprocess
import sys
import threading
from typing import Self

SECONDS = 30.0

OURS = sys.executable, "-m", "cuse_crypto", "chat"


class Talker:
    """A program whose lines are read and written here."""

    def __init__(self, *command: object, stderr: int | None = None) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def hear(self) -> str:
        """The next line; a program that says nothing for long is killed, and has said ""."""
        assert self.process.stdout is not None
        killing = threading.Timer(SECONDS, self.process.kill)
        killing.start()
        try:
            return self.process.stdout.readline().rstrip("\n")
        finally:
            killing.cancel()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal, and wait for the end."""
        self.process.send_signal(number)
        return self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()
        self.process.wait()


def ours(*arguments: object, stderr: int | None = None) -> Talker:
    """``cuse-crypto chat`` with these arguments, in a pipe."""
    return Talker(*OURS, *arguments, stderr=stderr)
