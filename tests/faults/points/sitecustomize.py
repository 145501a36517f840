"""Imported by every Python that has this folder in PYTHONPATH: fault points of a front end.

What stands in the file FAULT_POINT, ``WHERE HOW COUNT``, happens once: at the COUNT-th ``copy`` to
a caller (process_vm_writev), or ``answer`` to the kernel, the process is killed: ``before`` it,
after ``half`` of it, or ``after`` it; or it crashes (``crash``) before it.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_POINT = Path(os.environ.get("FAULT_POINT", "/nonexistent"))


def _due(where: str) -> str:
    """How to die here and now, or ""."""
    try:
        place, how, count = _POINT.read_text().split()
    except (OSError, ValueError):
        return ""
    if place != where:
        return ""
    if int(count) > 1:
        _POINT.write_text(f"{place} {how} {int(count) - 1}")
        return ""
    _POINT.unlink()
    return how


def _die(number: int = signal.SIGKILL) -> None:
    signal.raise_signal(number)


def _halved(address: int, count: int) -> ctypes.Array[ctypes.c_uint64]:
    """A copy of ``count`` vectors that names half of their bytes."""
    vectors = (ctypes.c_uint64 * (2 * count)).from_buffer_copy(
        ctypes.string_at(address, 16 * count)
    )
    left = sum(vectors[1::2]) // 2
    for at in range(1, 2 * count, 2):
        vectors[at] = min(vectors[at], left)
        left -= vectors[at]
    return vectors


def _copying(real: Callable[..., int]) -> Callable[..., int]:
    def writev(pid: int, local: int, mine: int, remote: int, theirs: int, flags: int) -> int:
        how = _due("copy")
        if how == "before":
            _die()
        if how == "crash":
            _die(signal.SIGSEGV)
        if how == "half":
            halves = _halved(local, mine), _halved(remote, theirs)
            ours, other = (ctypes.addressof(half) for half in halves)
            real(pid, ours, mine, other, theirs, flags)
            _die()
        copied = real(pid, local, mine, remote, theirs, flags)
        if how:
            _die()
        return copied

    return writev


def _answering(real: Callable[..., int]) -> Callable[..., int]:
    def writev(fd: int, buffers: Any) -> int:
        # What answers no request names none.
        how = _due("answer") if any(bytes(buffers[0])[8:16]) else ""
        if how == "before":
            _die()
        if how == "crash":
            _die(signal.SIGSEGV)
        written = real(fd, buffers)
        if how:
            _die()
        return written

    return writev


if "device" in sys.orig_argv:
    from cuse_crypto.frontend import memory

    memory.writev = _copying(memory.writev)
    os.writev = _answering(os.writev)
