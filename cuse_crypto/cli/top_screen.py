"""The screen of ``cuse-crypto top``: a device's past and present, cut to any size. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from cuse_crypto.status.history import History, Row

KEYS = "q quit  Tab ioctls/sessions  < > sort by  r reverse  + - interval"
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*%#"
LEFT = {"ioctl", "command", "algorithm"}
WIDTHS = {
    "ioctl": 14, "per s": 8, "MB/s": 8, "mean us": 8, "p99 us": 8, "count": 10, "errors": 6,
    "pid": 7, "uid": 5, "command": 15, "algorithm": 12, "operations": 10, "seconds": 7,
}  # fmt: skip
COLUMNS = {
    "ioctls": ("ioctl", "per s", "MB/s", "mean us", "p99 us", "count", "errors"),
    "sessions": ("pid", "uid", "command", "algorithm", "per s", "MB/s", "operations", "seconds"),
}
_FIRST = {"ioctls": "per s", "sessions": "per s"}


@dataclass
class View:
    """What the user has chosen."""

    table: str = "ioctls"
    column: str = "per s"
    rising: bool = False
    interval: float = 1.0
    bars: str = BARS

    def press(self, key: str) -> None:
        """A key other than that which ends it; unknown ones do nothing."""
        columns = COLUMNS[self.table]
        match key:
            case "\t":
                self.table = "sessions" if self.table == "ioctls" else "ioctls"
                self.column = _FIRST[self.table]
            case "<" | ">" | "\x1b[D" | "\x1b[C":
                step = -1 if key in ("<", "\x1b[D") else 1
                self.column = columns[(columns.index(self.column) + step) % len(columns)]
            case "r":
                self.rising = not self.rising
            case "+":
                self.interval = min(10.0, self.interval * 2)
            case "-":
                self.interval = max(0.25, self.interval / 2)


def draw(history: History, info: dict[str, str], view: View, width: int, height: int) -> Text:
    """Exactly ``height`` lines of at most ``width`` characters."""
    lines = [*_head(history, info, view, width), Text(), _headings(view, width)]
    rows = sorted(_rows(history, view), key=lambda row: _order(row, view), reverse=not view.rising)
    room = max(0, height - len(lines) - 1)
    lines += [_line(row, view, width) for row in rows[:room]]
    if len(rows) > room > 0:
        lines[-1] = Text(f"... and {len(rows) - room + 1} more", style="dim")
    lines = lines[: height - 1]
    lines += [Text() for _ in range(height - 1 - len(lines))]
    lines.append(Text(KEYS, style="reverse"))
    for line in lines:
        line.truncate(width)
    return Text("\n").join(lines)


def _head(history: History, info: dict[str, str], view: View, width: int) -> list[Text]:
    total = history.total
    title = Text(f"{info.get('node', '')} ({info.get('kind', '')}, {info.get('engine', '')})")
    title.stylize("bold")
    title.append(f"  every {view.interval:g} s", style="dim")
    room = max(8, width - 34)
    rate = total.throughput[-1] if total.throughput else 0.0
    mean = total.latency[-1] if total.latency else 0.0
    return [
        title,
        Text(f"throughput {_short(rate):>8} per s  ".ljust(32)).append(
            sparkline(total.throughput, room, view.bars), style="green"
        ),
        Text(f"latency    {_short(mean):>8} us mean".ljust(32)).append(
            sparkline(total.latency, room, view.bars), style="yellow"
        ),
    ]


def _rows(history: History, view: View) -> Sequence[Row]:
    table: dict[Any, Row] = history.ioctls if view.table == "ioctls" else dict(history.sessions)
    return list(table.values())


def _order(row: Row, view: View) -> tuple[bool, Any]:
    value = row.cells.get(view.column, 0.0)
    return isinstance(value, str), value


def _headings(view: View, width: int) -> Text:
    line = Text()
    for name in COLUMNS[view.table]:
        mark = ("^" if view.rising else "v") if name == view.column else ""
        line.append(_cell(mark + name, name), style="bold reverse" if mark else "bold")
        line.append(" ")
    for name, room in _sparks(view, width):
        line.append(name[:room].ljust(room) + " ", style="bold")
    return line


def _line(row: Row, view: View, width: int) -> Text:
    line = Text()
    for name in COLUMNS[view.table]:
        value = row.cells.get(name, "")
        line.append(_cell(value if isinstance(value, str) else _short(value), name) + " ")
    for name, room in _sparks(view, width):
        past = row.throughput if name == "throughput" else row.latency
        style = "green" if name == "throughput" else "yellow"
        line.append(sparkline(past, room, view.bars).ljust(room) + " ", style=style)
    return line


def _cell(text: str, column: str) -> str:
    width = WIDTHS[column]
    text = text if len(text) <= width else text[: width - 1] + "~"
    return text.ljust(width) if column in LEFT else text.rjust(width)


def _sparks(view: View, width: int) -> list[tuple[str, int]]:
    """The sparklines behind the columns, as wide as there is room."""
    left = width - sum(WIDTHS[name] + 1 for name in COLUMNS[view.table])
    names = ("throughput", "latency") if view.table == "ioctls" else ("throughput",)
    each = left // len(names) - 1
    return [(name, each) for name in names] if each >= 4 else []


def _short(value: float) -> str:
    """At most seven characters."""
    if value < 100 and value % 1:
        return f"{value:.1f}"
    for unit in ("", "k", "M", "G"):
        if value < 100_000:
            return f"{value:.0f}{unit}"
        value /= 1000
    return f"{value:.0f}T"


def sparkline(past: Sequence[float], width: int, bars: str = BARS) -> str:
    """The newest ``width`` of them, beside the highest of these."""
    shown = list(past)[-width:] if width > 0 else []
    most = max(shown, default=0.0)
    if most <= 0:
        return bars[0] * len(shown)
    return "".join(bars[min(len(bars) - 1, int(one / most * len(bars)))] for one in shown)
