"""What a terminal shows of a talk: rows of cells, scrolled, with what was not read yet counted.

No terminal here: widths come in, rows go out.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from prompt_toolkit.utils import get_cwidth

from cuse_crypto_chat.events import Alarm, Event, Notice, Said
from cuse_crypto_chat.screen import in_words
from cuse_crypto_chat.text import printable

MAX_LINES = 5000
MAX_ROWS = 200
"""Of one line: nobody can push all others away with one message."""
COLOURS = "ansicyan", "ansigreen", "ansimagenta", "ansiyellow", "ansiblue", "ansired"
TAB = "    "

Fragment = tuple[str, str]
"""A style and a text, as prompt_toolkit has them."""


class Line(NamedTuple):
    """One event. ``who`` is coloured; ``text`` has the style of the event."""

    clock: str
    who: str
    who_style: str
    text: str
    style: str


def line_of(event: Event) -> Line:
    """What is shown of an event, printable."""
    clock = time.strftime("%H:%M", time.localtime(event.time))
    if isinstance(event, Said):
        text = in_words(event._replace(who=""))
        style = "class:own" if event.own else ""
        return Line(clock, printable(event.who), _colour(event), text.replace("\t", TAB), style)
    kind = "alarm" if isinstance(event, Alarm) else "notice"
    mark = {"alarm": "!", "notice": "*"}[kind] if isinstance(event, Alarm | Notice) else "-"
    return Line(clock, mark, f"class:{kind}", in_words(event).replace("\t", TAB), f"class:{kind}")


def _colour(event: Said) -> str:
    if event.own:
        return "class:own bold"
    return f"{COLOURS[sum(event.who.encode()) % len(COLOURS)]} bold"


def wrap(text: str, width: int) -> Iterator[str]:
    """Rows of at most ``width`` cells, cut at blanks where there are some."""
    row, cells, blank = "", 0, 0
    for character in text:
        size = get_cwidth(character)
        while row and cells + size > width:
            cut = blank or len(row)
            yield row[:cut]
            row = row[cut:].lstrip(" ")
            cells, blank = get_cwidth(row), 0
        row += character
        cells += size
        if character == " ":
            blank = len(row)
    yield row


class Scrollback:
    """The last lines, from which a window of rows is cut."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=MAX_LINES)
        self._rows: deque[list[list[Fragment]]] = deque(maxlen=MAX_LINES)
        self._width = 80
        self._up = 0
        self.unread = 0
        """Lines that came while the view was elsewhere."""

    def add(self, line: Line) -> None:
        """A new line: in view, or counted as unread."""
        rows = self._layout(line)
        self._lines.append(line)
        self._rows.append(rows)
        if self._up:
            self._up += len(rows)
            self.unread += 1

    def scroll(self, rows: int, height: int) -> None:
        """Up by so many rows, down by negative ones; at the bottom all is read."""
        total = sum(len(one) for one in self._rows)
        self._up = max(0, min(self._up + rows, total - height))
        if not self._up:
            self.unread = 0

    def view(self, width: int, height: int) -> list[list[Fragment]]:
        """The rows to be shown, at most ``height``."""
        if width != self._width:
            self._width = max(width, 20)
            self._rows = deque(map(self._layout, self._lines), maxlen=MAX_LINES)
        wanted = self._up + height
        found: list[list[Fragment]] = []
        for rows in reversed(self._rows):
            found = rows + found
            if len(found) >= wanted:
                break
        end = max(len(found) - self._up, min(height, len(found)))
        return found[max(0, end - height) : end]

    def _layout(self, line: Line) -> list[list[Fragment]]:
        head: list[Fragment] = [("class:clock", line.clock + " "), (line.who_style, line.who + " ")]
        indent = min(sum(get_cwidth(text) for _, text in head), self._width // 2)
        rows: list[list[Fragment]] = []
        for row in wrap(line.text, self._width - indent):
            if len(rows) == MAX_ROWS:
                rows.append([("", " " * indent), ("class:notice", "(more is not shown)")])
                break
            rows.append([*(head if not rows else [("", " " * indent)]), (line.style, row)])
        return rows
