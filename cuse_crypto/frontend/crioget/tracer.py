"""One dup(2) by a seized caller, once its ioctl has been answered with 0.

    asleep ──answered──> stopped ──go on──> entry stop ──go on──> exit stop ──restored──> detached
                            │                   │                     │
                     not our ioctl       another call          memory refuses
                            │                   │                     │
                        detached        dropped, EIO          close(2), EFAULT

Each stop has to be the one that is expected: the caller runs on its own instructions, which other
threads of its may change. After a stop that is not, registers and signal mask are put back, with
EIO as the result, and nothing else is written; after an execve(2) not even that. Past ``LONGEST``
it is interrupted. All this is done with no more rights than the caller has: what an attacker could
gain by it is its own.

If the helper is killed in here the kernel detaches: the caller goes on with what was set last.
While its memory is written, which may take for ever, that is EFAULT and a descriptor more.
"""

import errno
import math
import os
import struct
import time

from cuse_crypto.frontend.crioget.caller import Caller
from cuse_crypto.linux import process_vm, signals
from cuse_crypto.linux.ptrace import (
    ALL_SIGNALS,
    ENTRY,
    EVENT_STOP,
    EXIT,
    MACHINES,
    SYSCALL_STOP,
    Gone,
    Machine,
    Tracee,
)

LONGEST = 0.2
"""Seconds for all of it, from the first stop."""
GRACE = 0.1
"""Seconds more to stop what runs then."""
_LOOK = 0.02
"""Seconds between two looks whether the front end is still there."""


class _Unexpected(Exception):
    """A stop that is not one of the injected system call."""


class _Replaced(Exception):
    """The thread is another program now."""


def duplicate(tracee: Tracee, caller: Caller, link: int, deadline: signals.Deadline) -> None:
    """Wait for the answer to the ioctl; then make the duplicate, and store its number."""
    stop, event = _first_stop(tracee, link, deadline)
    deadline.set(LONGEST + 2 * GRACE)
    registers, arch = tracee.registers()
    machine = MACHINES.get((arch, len(registers)))
    if event != EVENT_STOP or machine is None or not _is_answered(machine, registers, caller):
        tracee.detach(0 if event else stop)
        return
    _Injection(tracee, machine, registers).run(caller)


def _first_stop(tracee: Tracee, link: int, deadline: signals.Deadline) -> tuple[int, int]:
    while True:
        try:
            return tracee.wait(time.monotonic() + _LOOK)
        except TimeoutError:
            if _said(link):
                # Its answer says that it has a descriptor: it gets one, however long it is frozen.
                deadline.set(0)
                return tracee.wait(math.inf)


def _said(link: int) -> bool:
    """Whether the front end says that it has answered. Gone where it never will."""
    try:
        if os.read(link, 1):
            return True
    except BlockingIOError:
        return False
    raise Gone


def _is_answered(machine: Machine, registers: bytes, caller: Caller) -> bool:
    """It comes out of its CRIOGET, and that has been answered with 0."""
    words = _words(machine, registers)
    _, cmd, arg = (words[at] for at in machine.arguments)
    is_call = caller.is_call([machine.called(words), 0, cmd, arg])
    return is_call and machine.called(words) in machine.calls["ioctl"] and not words[machine.result]


def _words(machine: Machine, registers: bytes) -> list[int]:
    count = len(registers) * 8 // machine.bits
    return list(struct.unpack(f"={count}{machine.word}", registers))


class _Injection:
    """System calls by a thread that stands behind one of its own, which it has made already."""

    def __init__(self, tracee: Tracee, machine: Machine, registers: bytes) -> None:
        self._tracee, self._machine = tracee, machine
        self._words = _words(machine, registers)
        self._format = f"={len(self._words)}{machine.word}"
        self._mask = tracee.signal_mask()
        self._end = time.monotonic() + LONGEST
        self._pending = 0
        """A signal that is about to be delivered."""

    def run(self, caller: Caller) -> None:
        """Duplicate its descriptor, whatever comes of it; and let go."""
        try:
            result = self._call("dup", caller.fd)
            if result >= 0:
                result = self._store(caller, result)
        except _Replaced:
            self._tracee.detach()
            return
        except _Unexpected:
            result = -errno.EIO
        except TimeoutError:
            result = -errno.EIO
            self._stop()
        self._restore(result)
        self._tracee.detach(self._pending)

    def _call(self, name: str, argument: int) -> int:
        """Its result. No signal is handled meanwhile, for a handler would make calls as well."""
        self._tracee.set_signal_mask(ALL_SIGNALS)
        words = list(self._words)
        self._machine.put_call(words, name, argument)
        self._set(words)
        self._to_system_call()
        op, _, _, _, number, first, *_ = self._tracee.system_call()
        expected = ENTRY, self._machine.calls[name][0], argument
        if (op, number, first & 0xFFFFFFFF) != expected:
            self._drop(words)
            raise _Unexpected
        self._to_system_call()
        op, _, _, _, result, *_ = self._tracee.system_call()
        if op != EXIT:
            raise _Unexpected
        return result - (1 << 64) if result >> 63 else result

    def _to_system_call(self) -> None:
        """The next stop of one. SIGSTOP cannot be blocked: it takes effect when all is done."""
        signal = 0
        while True:
            self._tracee.go_on(signal)
            stop, event = self._tracee.wait(self._end)
            if stop == SYSCALL_STOP:
                return
            if event not in (0, EVENT_STOP):
                raise _Replaced
            if not event and stop != signals.SIGSTOP:
                raise _Unexpected
            signal = 0 if event else stop

    def _drop(self, words: list[int]) -> None:
        """Have the call that is about to be made not be made; on to where it would return."""
        self._machine.put_no_call(words)
        self._set(words)
        if self._machine.original is None:
            self._tracee.drop_call()
        self._to_system_call()

    def _store(self, caller: Caller, descriptor: int) -> int:
        """Where the caller wants its number: 0; or close it again, and EFAULT."""
        self._restore(-errno.EFAULT)
        number = struct.pack("=I", descriptor)
        try:
            if process_vm.write(caller.thread, caller.arg, number) == len(number):
                return 0
        except OSError:
            pass
        self._call("close", descriptor)
        return -errno.EFAULT

    def _stop(self) -> None:
        """It runs, or sleeps; Gone if it does not stop even now: then the kernel lets it go."""
        self._tracee.interrupt()
        try:
            stop, event = self._tracee.wait(time.monotonic() + GRACE)
        except TimeoutError:
            raise Gone from None
        if event not in (0, EVENT_STOP):
            raise Gone
        if not event and stop == signals.SIGSTOP:
            self._pending = stop

    def _restore(self, result: int) -> None:
        words = list(self._words)
        self._machine.put_result(words, result)
        self._machine.put_no_call(words)
        self._set(words)
        self._tracee.set_signal_mask(self._mask)

    def _set(self, words: list[int]) -> None:
        self._tracee.set_registers(struct.pack(self._format, *words))
