"""A program in a real terminal, whose screen can be read: a pty, and an emulator behind it."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence

import pyte

ROWS, COLUMNS = 24, 100
SECONDS = 20.0
ENTER, CTRL_C, CTRL_D, CTRL_Z = "\r", "\x03", "\x04", "\x1a"
OURS = sys.executable, "-m", "cuse_crypto"
PAGE_UP, PAGE_DOWN = "\x1b[5~", "\x1b[6~"


class Pty:
    """``cuse-crypto`` with these arguments, or another program, in a session and a terminal of its
    own.
    """

    def __init__(
        self,
        *arguments: object,
        rows: int = ROWS,
        columns: int = COLUMNS,
        program: Sequence[str] = OURS,
    ) -> None:
        self._master, slave = pty.openpty()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = b""
        """All that was ever written to the terminal."""
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [*program, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=os.environ | {"TERM": "xterm-256color"},
        )
        self._slave = slave
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)

    def resize(self, rows: int, columns: int) -> None:
        """As if the window had been drawn to another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with self._lock:
            self._screen.resize(rows, columns)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def lines(self) -> list[str]:
        """What the screen shows, row by row."""
        with self._lock:
            return [row.rstrip() for row in self._screen.display]

    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(self.lines())

    def colour(self, text: str) -> str:
        """Of the first character of ``text`` on the screen, as pyte names it."""
        with self._lock:
            for y, row in enumerate(self._screen.display):
                if text in row:
                    return str(self._screen.buffer[y][row.index(text)].fg)
        raise AssertionError(f"the screen does not show {text}")

    def until(self, condition: Callable[[str], object], seconds: float = SECONDS) -> None:
        """Wait until the screen is such; fail with what it shows instead."""
        end = time.monotonic() + seconds
        while not condition(self.text()):
            assert time.monotonic() < end, f"the screen shows:\n{self.text()}"
            time.sleep(0.01)

    def shows(self, *texts: str) -> None:
        """Wait until the screen shows all of these."""
        self.until(lambda screen: all(text in screen for text in texts))

    def wait(self) -> int:
        """Wait for the end of the program; its exit status."""
        return self.process.wait(timeout=SECONDS)

    def modes(self) -> list[object]:
        """The terminal's settings, to be compared with ``before``."""
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        """End the program, if it still runs, and take the terminal away."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._slave)
        self._reader.join(timeout=SECONDS)
        os.close(self._master)

    def __enter__(self) -> "Pty":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
