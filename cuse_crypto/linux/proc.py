"""What /proc says of processes and threads (proc(5)), any part of which may be an attacker's.

A process chooses its name, byte by byte: blanks, line ends, parentheses, what is no UTF-8, what a
terminal takes for a command. OSError where the process has gone, unless it is said otherwise.
"""

import contextlib
import os
import platform
from pathlib import Path

from cuse_crypto.linux.task import status

PROC = Path("/proc")

# signal(7): what does not end a process that does not handle it: CHLD CONT STOP TSTP TTIN TTOU URG
# WINCH. All others do.
_HARMLESS = sum(1 << number - 1 for number in (17, 18, 19, 20, 21, 22, 23, 28))
_KILL = 1 << 8
# asm/unistd.h: process_vm_readv and process_vm_writev.
_COPIES = {"x86_64": (b"310", b"311"), "aarch64": (b"270", b"271")}.get(platform.machine(), ())


def is_dying(thread: int) -> bool:
    """True when a signal is pending that ends the thread's process; or when it has gone already.

    A tracer may withhold any signal but SIGKILL.
    """
    try:
        found = status(thread)
    except OSError:
        return True
    pending = masks(found, b"SigPnd", b"ShdPnd")
    if found.get(b"TracerPid", b"0") != b"0":
        return bool(pending & _KILL)
    survived = masks(found, b"SigBlk", b"SigIgn", b"SigCgt") | _HARMLESS
    return bool(pending & ~(survived & ~_KILL))


def masks(found: dict[bytes, bytes], *names: bytes) -> int:
    """The signals in any of these lines of a ``task.status``, as bits."""
    union = 0
    for name in names:
        union |= int(found.get(name, b"0"), 16)
    return union


def state(pid: int) -> str:
    """The state of a process' main thread, as ps shows it: R, S, D, Z, ...; "" for no process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return chr(stat.read().rpartition(b") ")[2][0])
    except OSError:
        return ""


def is_copying(thread: int) -> bool:
    """Whether a thread of this process is in process_vm_readv or process_vm_writev.

    True as well where the kernel does not tell, as it does not tell a process that is not dumpable
    and lacks CAP_DAC_OVERRIDE.
    """
    try:
        with open(f"/proc/self/task/{thread}/syscall", "rb") as syscall:
            return syscall.read().partition(b" ")[0] in _COPIES
    except FileNotFoundError:
        return False
    except OSError:
        return True


def copied_from(pid: int) -> set[int]:
    """The processes with whose memory threads of ``pid`` copy just now."""
    found = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/syscall", "rb") as syscall:
                number, *arguments = syscall.read().split()
            if number in _COPIES:
                found.add(int(arguments[0], 16))
    return found


def uid_of(thread: int) -> int | None:
    """The effective uid of a thread; None for one that has gone."""
    try:
        return int(status(thread)[b"Uid"].split()[1])
    except OSError:
        return None


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
