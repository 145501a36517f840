"""What processes take of the machine, as /proc tells (proc(5))."""

import contextlib
import time
from pathlib import Path

PROC = Path("/proc")
SETTLING = 0.5
"""Seconds after which whoever was busy sleeps again."""


def family(pid: int) -> dict[int, str]:
    """A process and its descendants: the role of each by its pid."""
    found = {pid: _role(pid)}
    for child in _children(pid):
        found |= family(child)
    return found


def _children(pid: int) -> list[int]:
    tasks = (PROC / f"{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _role(pid: int) -> str:
    """``device`` of ``cuse-crypto device --backend ...``; its name for ps where there is none."""
    words = (PROC / f"{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().split()
    known = [word for word in words if word in ("up", "device", "backend")]
    return known[0] if known else (PROC / f"{pid}/comm").read_text().strip()


def resident(pid: int) -> float:
    """Megabytes of memory in use (VmRSS)."""
    return _status(PROC / f"{pid}/status", "VmRSS") * 1024 / 1e6


def _status(path: Path, name: str) -> int:
    line = next(one for one in path.read_text().splitlines() if one.startswith(f"{name}:"))
    return int(line.split()[1])


def switches(pids: list[int]) -> int:
    """How often any thread of theirs has been put on a CPU until now."""
    total = 0
    for pid in pids:
        for status in (PROC / f"{pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):
                total += _status(status, "voluntary_ctxt_switches")
                total += _status(status, "nonvoluntary_ctxt_switches")
    return total


def wake_ups(pids: list[int], seconds: float) -> float:
    """Wake-ups a second of all their threads, watched for so long once they have settled."""
    time.sleep(SETTLING)
    before = switches(pids)
    time.sleep(seconds)
    return (switches(pids) - before) / seconds
