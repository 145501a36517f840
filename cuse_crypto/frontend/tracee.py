"""One system call more in a thread that sleeps in an ioctl: ptrace(2).

The thread is seized and told to stop; it does so on its way out of the kernel, once its ioctl is
answered. There its registers are set back to the instruction that made the ioctl, which now makes
the other system call, and then to what they were.
"""

import contextlib
import ctypes
import errno
import os
import signal
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

# sys/ptrace.h and linux/elf.h
PTRACE_DETACH, PTRACE_SYSCALL = 17, 24
PTRACE_GETREGSET, PTRACE_SETREGSET, PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4204, 0x4205, 0x4206, 0x4207
PTRACE_O_TRACESYSGOOD = 1
NT_PRSTATUS, NT_ARM_SYSTEM_CALL = 1, 0x404
WALL = 0x40000000
SYSCALL_STOP = signal.SIGTRAP | 0x80
PATIENCE = 1.0
"""Seconds for the thread to be seen asleep, which it is about to be."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Machine(NamedTuple):
    """Registers as NT_PRSTATUS has them: where a system call is, counted in words."""

    word: str
    number: int
    argument: int
    result: int
    counter: int
    instruction: int
    """Bytes of the instruction that makes a system call."""
    dup: int
    close: int


# By the size of the registers, which tells a 32-bit program from a 64-bit one, too.
# fmt: off
MACHINES = {
    #                    number argument result counter instruction dup close
    27 * 8: Machine("Q", 15,    14,      10,    16,     2,          32, 3),   # x86-64
    17 * 4: Machine("I", 11,    0,       6,     12,     2,          41, 6),   # i386
    34 * 8: Machine("Q", 8,     0,       0,     32,     4,          23, 57),  # aarch64
}
# fmt: on
_LARGEST = max(MACHINES)
_AARCH64 = MACHINES[34 * 8]


def _ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, thread, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def seized(thread: int) -> Iterator["Tracee"]:
    """The thread, seized; OSError where another process traces it or this one may not."""
    _ptrace(PTRACE_SEIZE, thread, 0, PTRACE_O_TRACESYSGOOD)
    tracee = Tracee(thread)
    try:
        yield tracee
    finally:
        tracee.let_go()


class Tracee:
    """A seized thread. Only the thread of ours that seized it may use this."""

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._signals: list[int] = []
        self._stopped = False
        self._reaped = False

    def descriptor(self) -> int:
        """The first argument of the system call that it sleeps in."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with open(f"/proc/{self._thread}/syscall") as file:
                fields = file.read().split()
            if len(fields) > 1 and fields[0] != "-1":
                return int(fields[1], 16) & 0xFFFFFFFF
            time.sleep(0.001)
        raise OSError(errno.EOPNOTSUPP, "the caller does not sleep in a system call")

    def interrupt(self) -> None:
        """Have it stop when it leaves the kernel."""
        _ptrace(PTRACE_INTERRUPT, self._thread)

    def wait(self, wanted: int | None = None) -> None:
        """Wait for the next stop, or for the next one of ``wanted``; signals are kept for later.

        ProcessLookupError when it dies instead.
        """
        while True:
            _, status = os.waitpid(self._thread, WALL)
            if not os.WIFSTOPPED(status):
                self._reaped = True
                raise ProcessLookupError(errno.ESRCH, "the caller died")
            self._stopped = True
            stop, event = os.WSTOPSIG(status), status >> 16
            if wanted is None or stop == wanted:
                return
            if not event:
                self._signals.append(stop)
            self._go_on()

    def _go_on(self) -> None:
        self._stopped = False
        _ptrace(PTRACE_SYSCALL, self._thread)

    def registers(self) -> bytes:
        """As NT_PRSTATUS has them."""
        buffer = ctypes.create_string_buffer(_LARGEST)
        vector = struct.pack("@2Q", ctypes.addressof(buffer), len(buffer))
        iovec = ctypes.create_string_buffer(vector, len(vector))
        _ptrace(PTRACE_GETREGSET, self._thread, NT_PRSTATUS, ctypes.addressof(iovec))
        return buffer.raw[: struct.unpack_from("@Q", iovec, 8)[0]]

    def set_registers(self, registers: bytes, kind: int = NT_PRSTATUS) -> None:
        """Put them back, or others."""
        buffer = ctypes.create_string_buffer(registers, len(registers))
        vector = struct.pack("@2Q", ctypes.addressof(buffer), len(buffer))
        iovec = ctypes.create_string_buffer(vector, len(vector))
        _ptrace(PTRACE_SETREGSET, self._thread, kind, ctypes.addressof(iovec))

    def call(self, registers: bytes, name: str, argument: int) -> int:
        """Make one system call from a stop with these registers; its result."""
        machine = machine_of(registers)
        words = _words(machine, registers)
        number = getattr(machine, name)
        words[machine.counter] -= machine.instruction
        words[machine.result] = words[machine.number] = number
        words[machine.argument] = argument
        if (machine.word == "Q" and machine is not _AARCH64) or machine.word == "I":
            # orig_rax: -1, so that the kernel does not take it for a call to be made again.
            words[machine.number] = (1 << 8 * struct.calcsize(machine.word)) - 1
        self.set_registers(_packed(machine, words))
        self._go_on()
        self.wait(SYSCALL_STOP)
        self._go_on()
        self.wait(SYSCALL_STOP)
        result = _words(machine, self.registers())[machine.result]
        bits = 8 * struct.calcsize(machine.word)
        return result - (1 << bits) if result >> (bits - 1) else result

    def let_go(self) -> None:
        """Detach, with the signals that came meanwhile."""
        try:
            if not self._stopped:
                _ptrace(PTRACE_INTERRUPT, self._thread)
                self.wait()
            for number in self._signals[1:]:
                os.kill(self._thread, number)
            first = self._signals[0] if self._signals else 0
            _ptrace(PTRACE_DETACH, self._thread, 0, first)
        except OSError:
            # Killed meanwhile. Its parent is not told before its tracer has been.
            if not self._reaped:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self._thread, WALL)


def machine_of(registers: bytes) -> Machine:
    """OSError(EOPNOTSUPP) for registers of another kind."""
    machine = MACHINES.get(len(registers))
    if machine is None:
        raise OSError(errno.EOPNOTSUPP, "registers of an unknown machine")
    return machine


def with_result(registers: bytes, result: int) -> bytes:
    """The registers, with another result of the system call just made."""
    machine = machine_of(registers)
    words = _words(machine, registers)
    words[machine.result] = result & ((1 << 8 * struct.calcsize(machine.word)) - 1)
    return _packed(machine, words)


def _words(machine: Machine, registers: bytes) -> list[int]:
    return list(
        struct.unpack(
            f"={len(registers) // struct.calcsize(machine.word)}{machine.word}", registers
        )
    )


def _packed(machine: Machine, words: list[int]) -> bytes:
    return struct.pack(f"={len(words)}{machine.word}", *words)
