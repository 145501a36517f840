"""ptrace(2): a seized thread, its stops, and where its registers have a system call.

Nothing here decides what a tracee is to do. Imports little: the process that uses it is forked for
each call.
"""

import ctypes
import os
import struct
import time

from cuse_crypto.linux import signals
from cuse_crypto.linux.libc import checked, libc

# sys/ptrace.h and linux/elf.h
_SYSCALL, _DETACH = 24, 17
_GETREGSET, _SETREGSET, _SEIZE, _INTERRUPT = 0x4204, 0x4205, 0x4206, 0x4207
_GETSIGMASK, _SETSIGMASK, _GET_SYSCALL_INFO = 0x420A, 0x420B, 0x420E
_O_TRACESYSGOOD, _O_TRACEEXEC = 1, 1 << 4
_NT_PRSTATUS, _NT_ARM_SYSTEM_CALL = 1, 0x404
_WALL = 0x40000000
EVENT_STOP = 128
SYSCALL_STOP = signals.SIGTRAP | 0x80
ENTRY, EXIT = 1, 2
"""Stops, as PTRACE_GET_SYSCALL_INFO calls them."""
_INFO = struct.Struct("=B3xI2Q7Q")
"""ptrace_syscall_info: op, arch, and from the fourth word on what depends on op."""
ALL_SIGNALS = b"\xff" * 8
_LARGEST = 34 * 8

_ptrace = libc.ptrace
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_ptrace.restype = ctypes.c_long


class Machine:
    """Where the registers of NT_PRSTATUS have a system call, counted in words; and its numbers."""

    def __init__(
        self,
        word: str,
        *,
        number: int,
        result: int,
        arguments: tuple[int, int, int],
        counter: int,
        instruction: int,
        calls: "_Calls",
        original: int | None = None,
    ) -> None:
        """``original``: where the number of the call under way is kept apart; ``instruction``:
        bytes of the one that makes a system call.
        """
        self.word, self.bits = word, 8 * struct.calcsize(word)
        self.number, self.result, self.arguments = number, result, arguments
        self.counter, self.instruction = counter, instruction
        self.calls, self.original = calls, original

    def called(self, words: list[int]) -> int:
        """The number of the system call that has just returned."""
        return words[self.number if self.original is None else self.original]

    def put_call(self, words: list[int], name: str, argument: int) -> None:
        """Have the instruction that made the last system call make this one, when it goes on."""
        words[self.counter] -= self.instruction
        words[self.number] = self.calls[name][0]
        words[self.arguments[0]] = argument
        self.put_no_call(words)

    def put_no_call(self, words: list[int]) -> None:
        """The kernel takes it for no call that it would have to make again."""
        if self.original is not None:
            words[self.original] = (1 << self.bits) - 1

    def put_result(self, words: list[int], result: int) -> None:
        """What the program finds in the register of results."""
        words[self.result] = result & ((1 << self.bits) - 1)


_Calls = dict[str, tuple[int, ...]]
_X86_64: _Calls = {"dup": (32,), "close": (3,), "ioctl": (16, 0x40000000 | 514)}
_I386: _Calls = {"dup": (41,), "close": (6,), "ioctl": (54,)}
_AARCH64: _Calls = {"dup": (23,), "close": (57,), "ioctl": (29,)}
IOCTLS = {
    "x86_64": {*_X86_64["ioctl"], *_I386["ioctl"]},
    "aarch64": {*_AARCH64["ioctl"]},
}.get(os.uname().machine, set())
"""Its numbers on this machine; none where it is another one."""

# By AUDIT_ARCH of the call, and the size of the registers: a 64-bit program may make 32-bit calls.
MACHINES = {
    (0xC000003E, 27 * 8): Machine(
        "Q", number=10, result=10, arguments=(14, 13, 12), counter=16, instruction=2,
        original=15, calls=_X86_64,
    ),
    (0x40000003, 27 * 8): Machine(
        "Q", number=10, result=10, arguments=(5, 11, 12), counter=16, instruction=2,
        original=15, calls=_I386,
    ),
    (0x40000003, 17 * 4): Machine(
        "I", number=6, result=6, arguments=(0, 1, 2), counter=12, instruction=2,
        original=11, calls=_I386,
    ),
    (0xC00000B7, 34 * 8): Machine(
        "Q", number=8, result=0, arguments=(0, 1, 2), counter=32, instruction=4, calls=_AARCH64,
    ),
}  # fmt: skip


class Gone(Exception):
    """The tracee has ended."""


def request(number: int, thread: int, address: int = 0, data: int = 0) -> int:
    """One ptrace(2), which does not peek."""
    return checked(_ptrace(number, thread, address, data))


class Tracee:
    """A seized thread."""

    def __init__(self, thread: int) -> None:
        """Seize it; OSError where the kernel refuses."""
        self.thread = thread
        self._buffer = ctypes.create_string_buffer(_LARGEST)
        self._at = ctypes.addressof(self._buffer)
        self._vector = (ctypes.c_size_t * 2)()
        request(_SEIZE, thread, 0, _O_TRACESYSGOOD | _O_TRACEEXEC)

    def interrupt(self) -> None:
        """Have it stop, at the latest when it leaves the kernel."""
        request(_INTERRUPT, self.thread)

    def wait(self, end: float) -> tuple[int, int]:
        """Its next stop: signal and event. ``end`` is a time.monotonic(); TimeoutError, Gone."""
        while True:
            pid, status = os.waitpid(self.thread, os.WNOHANG | _WALL)
            if pid:
                break
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            signals.wait_child(left)
        if not os.WIFSTOPPED(status):
            raise Gone
        return os.WSTOPSIG(status), status >> 16

    def go_on(self, signal: int = 0) -> None:
        """To the next system call, or the end of this one."""
        request(_SYSCALL, self.thread, 0, signal)

    def detach(self, signal: int = 0) -> None:
        """Let it go on alone."""
        request(_DETACH, self.thread, 0, signal)

    def system_call(self) -> tuple[int, ...]:
        """Of this stop: op, arch, two words that do not matter, and what op says: of ENTRY number
        and arguments, of EXIT the result, signed as two's complement.
        """
        request(_GET_SYSCALL_INFO, self.thread, _INFO.size, self._at)
        return _INFO.unpack_from(self._buffer)

    def registers(self) -> tuple[bytes, int]:
        """As NT_PRSTATUS has them, and the arch of its system calls."""
        _, arch, *_ = self.system_call()
        self._vector[:] = [self._at, _LARGEST]
        request(_GETREGSET, self.thread, _NT_PRSTATUS, ctypes.addressof(self._vector))
        return self._buffer.raw[: self._vector[1]], arch

    def set_registers(self, registers: bytes, kind: int = _NT_PRSTATUS) -> None:
        """Put them back, or others."""
        ctypes.memmove(self._at, registers, len(registers))
        self._vector[:] = [self._at, len(registers)]
        request(_SETREGSET, self.thread, kind, ctypes.addressof(self._vector))

    def drop_call(self) -> None:
        """On a machine that keeps the number of the call under way in no register: make none."""
        self.set_registers(b"\xff" * 4, _NT_ARM_SYSTEM_CALL)

    def signal_mask(self) -> bytes:
        """The signals that it blocks."""
        request(_GETSIGMASK, self.thread, len(ALL_SIGNALS), self._at)
        return self._buffer.raw[: len(ALL_SIGNALS)]

    def set_signal_mask(self, mask: bytes) -> None:
        """Change them."""
        ctypes.memmove(self._at, mask, len(mask))
        request(_SETSIGMASK, self.thread, len(mask), self._at)
