"""What proc(5) says of processes and threads."""

import contextlib
import os
import platform

# signal(7): what does not end a process that does not handle it: CHLD CONT STOP TSTP TTIN TTOU URG
# WINCH. All others do.
_HARMLESS = sum(1 << number - 1 for number in (17, 18, 19, 20, 21, 22, 23, 28))
_KILL = 1 << 8
_MASKS = "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"
# asm/unistd.h: process_vm_readv and process_vm_writev.
_COPIES = {"x86_64": (b"310", b"311"), "aarch64": (b"270", b"271")}.get(platform.machine(), ())


def is_dying(thread: int) -> bool:
    """True when a signal is pending that ends the thread's process; or when it has gone already.

    A tracer may withhold any signal but SIGKILL.
    """
    masks = dict.fromkeys(_MASKS, 0)
    traced = False
    try:
        with open(f"/proc/{thread}/status") as status:
            for line in status:
                name, _, value = line.partition(":")
                if name in masks:
                    masks[name] = int(value, 16)
                elif name == "TracerPid":
                    traced = int(value) != 0
    except OSError:
        return True
    pending = masks["SigPnd"] | masks["ShdPnd"]
    survived = masks["SigBlk"] | masks["SigIgn"] | masks["SigCgt"] | _HARMLESS
    return bool(pending & (_KILL if traced else ~(survived & ~_KILL)))


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
        with open(f"/proc/{thread}/status") as status:
            return next(int(line.split()[2]) for line in status if line.startswith("Uid:"))
    except OSError:
        return None
