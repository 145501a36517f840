"""The files of the status tree, but for the trace: what is on the board, as text."""

import time
from collections.abc import Iterable, Iterator

from cuse_crypto.board import Board
from cuse_crypto.status.reading import Counts, algorithm_of, errno_name, opener_of, read

COUNTERS = ("IOCTL", "COUNT", "ERRORS", "BYTES", "MEAN", "P50", "P90", "P99")
SESSIONS = ("FILE", "PID", "UID", "SESSION", "ALGORITHM", "OPERATIONS", "BYTES", "AGE", "COMMAND")
_SHARES = 0.5, 0.9, 0.99


def info(board: Board) -> str:
    """``name: value`` lines."""
    facts = board.told()
    return "".join(f"{name.replace('_', ' ')}: {value}\n" for name, value in facts.items())


def sessions(board: Board, uid: int) -> str:
    """A table of those that ``uid`` opened; root sees all."""
    now, rows = time.time_ns(), []
    for seat in board.seats():
        if uid not in (0, seat.uid):
            continue
        opener = opener_of(seat)
        numbers = seat.file, opener.pid, seat.uid, f"{seat.ses:#010x}", algorithm_of(seat)
        age = max(0, now - seat.began) // 10**9
        rows.append((*numbers, seat.operations, seat.bytes, age, opener.command))
    return _table(SESSIONS, rows)


def counters(board: Board) -> str:
    """A table, then each errno that was given, then the histograms."""
    found = [one for one in read(board).ioctls if one.total]
    parts = [_table(COUNTERS, (_row(one) for one in found))]
    errors = [
        (one.ioctl, errno_name(number), count)
        for one in found
        for number, count in one.errors.items()
    ]
    if errors:
        parts.append(_table(("IOCTL", "ERRNO", "COUNT"), errors))
    latencies = [
        (one.ioctl, f"{(1 << power) / 1000:.3f}", number)
        for one in found
        for power, number in enumerate(one.buckets)
        if number
    ]
    if latencies:
        parts.append(_table(("IOCTL", "BELOW_US", "COUNT"), latencies))
    return "\n".join(parts)


def _row(one: Counts) -> tuple[object, ...]:
    times = [one.nanoseconds / one.total, *(one.below(share) for share in _SHARES)]
    failed = sum(one.errors.values())
    return (one.ioctl, one.total, failed, one.bytes, *(f"{value / 1000:.1f}us" for value in times))


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """Columns that words are found in by blanks."""
    lines = [head, *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def metrics(board: Board) -> str:
    """Prometheus text format, version 0.0.4."""
    node = board.told().get("node", "")
    return "".join(f"{line}\n" for line in _metrics(board, node))


def _metrics(board: Board, node: str) -> Iterator[str]:
    reading = read(board)
    used = [one for one in reading.ioctls if one.total]
    yield from _head("ioctl_seconds", "histogram", "How long ioctls took, in the front end.")
    for one in used:
        yield from _histogram(f'node="{node}",ioctl="{one.ioctl}"', one)
    yield from _head("ioctl_errors_total", "counter", "Ioctls that failed, by errno.")
    for one in used:
        for number, count in one.errors.items():
            labels = f'node="{node}",ioctl="{one.ioctl}",errno="{errno_name(number)}"'
            yield f"cuse_crypto_ioctl_errors_total{{{labels}}} {count}"
    yield from _head("bytes_total", "counter", "Bytes that ioctls worked on.")
    for one in used:
        yield f'cuse_crypto_bytes_total{{node="{node}",ioctl="{one.ioctl}"}} {one.bytes}'
    for name, value, meaning in (
        ("open_files", reading.files, "Open files of the node."),
        ("sessions", reading.sessions, "Sessions of all open files."),
    ):
        yield from _head(name, "gauge", meaning)
        yield f'cuse_crypto_{name}{{node="{node}"}} {value}'
    yield from _head("trace_dropped_total", "counter", "Ioctls that no trace had room for.")
    yield f'cuse_crypto_trace_dropped_total{{node="{node}"}} {reading.dropped}'


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP cuse_crypto_{name} {meaning}"
    yield f"# TYPE cuse_crypto_{name} {kind}"


FIRST_BUCKET, LAST_BUCKET = 10, 35
"""Powers of two, in nanoseconds: 1 us to 34 s."""


def _histogram(labels: str, one: Counts) -> Iterator[str]:
    below = 0
    name = "cuse_crypto_ioctl_seconds"
    for power, number in enumerate(one.buckets):
        below += number
        if FIRST_BUCKET <= power <= LAST_BUCKET:
            yield f'{name}_bucket{{{labels},le="{(1 << power) / 1e9:g}"}} {below}'
    yield f'{name}_bucket{{{labels},le="+Inf"}} {below}'
    yield f"{name}_sum{{{labels}}} {one.nanoseconds / 1e9:.9f}"
    yield f"{name}_count{{{labels}}} {below}"
