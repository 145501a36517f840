"""``./demo`` in a real terminal, as an animation: what the terminal was sent, and when."""

import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
COLUMNS, ROWS = 96, 26
PROMPT, TYPED = "# ", "./demo"
KEYSTROKE = 0.09
"""Seconds."""
LINE, LONGEST_PAUSE = 0.5, 1.5
"""Seconds in which one line can be read, and that nobody waits longer than, whatever it took."""
LAST = 6.0
"""Seconds for which the end is shown."""
Event = tuple[float, str]


def draw(path: Path) -> None:
    """Record it, and have termtosvg animate the recording."""
    with tempfile.TemporaryDirectory() as folder:
        cast = Path(folder, "tour.cast")
        cast.write_text("".join(f"{json.dumps(line)}\n" for line in _cast(record())))
        render = ["render", str(cast), str(path), "--template", "window_frame"]
        pauses = ["--loop-delay", str(int(LAST * 1000))]
        subprocess.run([sys.executable, "-m", "termtosvg", *render, *pauses], check=True)


def record() -> list[Event]:
    """What it wrote, each part with its time in seconds. CalledProcessError if it fails."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    demo = [sys.executable, str(PROJECT / "scripts" / "show.py")]
    process = subprocess.Popen(demo, stdin=slave, stdout=slave, stderr=slave, cwd=PROJECT)
    os.close(slave)
    events = list(_read(master))
    os.close(master)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, demo)
    return events


def _read(master: int) -> Iterator[Event]:
    began = time.monotonic()
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            return
        yield time.monotonic() - began, part.decode(errors="replace")


def _cast(events: list[Event]) -> Iterator[object]:
    """Lines of an asciicast, version 2."""
    yield {"version": 2, "width": COLUMNS, "height": ROWS}
    now = 0.0
    for text in (PROMPT, *TYPED, "\r\n"):
        yield [now, "o", text]
        now += KEYSTROKE
    last = 0.0
    for moment, text in events:
        for line in text.splitlines(keepends=True):
            now += min(max(moment - last, LINE), LONGEST_PAUSE)
            last = moment
            yield [now, "o", line]
    yield [now + KEYSTROKE, "o", PROMPT]
