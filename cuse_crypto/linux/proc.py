"""What /proc says of other processes (proc(5)), any part of which may be what an attacker wrote.

A process chooses its name, byte by byte: blanks, line ends, parentheses, what is no UTF-8, what a
terminal takes for a command. OSError where the process has gone.
"""

from pathlib import Path

PROC = Path("/proc")


def status_of(thread: int) -> dict[str, str]:
    """/proc/PID/status, by name. The kernel escapes line ends in the first line, which is Name."""
    text = (PROC / str(thread) / "status").read_text(errors="backslashreplace")
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name: value.strip() for name, _, value in pairs}


def start_of(thread: int) -> int:
    """When it began, in clock ticks since boot; it outlives execve(2)."""
    # The second word is the name.
    stat = (PROC / str(thread) / "stat").read_bytes().rpartition(b")")[2]
    return int(stat.split()[19])


def name_of(process: int) -> str:
    """Its name, with escapes for all that is not printed as it is."""
    name = (PROC / str(process) / "comm").read_bytes().removesuffix(b"\n")
    return printable(name.decode(errors="backslashreplace"))


def printable(text: str) -> str:
    """``text`` with escapes for what a terminal would heed, or a reader of lines."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
