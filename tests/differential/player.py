"""Makes the steps of a sequence on a node and in the model, and compares all that a caller sees.

A step is an ioctl whose pointers are places of a small memory, and whose sessions are the ones that
the sequence has made: so the same steps can be made again, or without some of them.
"""

import ctypes
import errno
import mmap
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.differential.abi import FORMS, NUMBERS, SES_AT, Memory, Write
from tests.differential.model import Model
from tests.differential.state import OpenFile

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = 4096
SMALL, LARGE = 8 * PAGE, 3 << 20
"""Bytes that can be written, in most sequences and in those of long operations."""
RO, END = 2 * PAGE, 2 * PAGE
"""Bytes that can only be read, and behind them bytes that cannot."""
UNKNOWN = 0xABCD0001
"""The number of no session."""
STRUCTURE = 512
"""Bytes before the read-only ones, where structures lie."""
FILES = 3
"""Two open files, and the first one by another descriptor."""


class Place(NamedTuple):
    """A pointer: ``offset`` from the start of the memory, its read-only part, its end, or 0."""

    of: str
    offset: int = 0


NULL = Place("absolute")


class Ses(NamedTuple):
    """The session that the CIOCGSESSION of that number in the sequence has made, if it has."""

    number: int


class Step(NamedTuple):
    """``values``: members of the structure in their order; ints, Places and Ses.

    ``fill`` and ``flip`` are no ioctls, but change memory: (place, size, byte).
    """

    name: str
    file: int
    values: tuple[Any, ...]
    arg: Place | None = None
    """None: where structures lie."""


class Sequence(NamedTuple):
    """``seed`` fills the memory."""

    seed: str
    large: bool
    steps: tuple[Step, ...]


class Differs(AssertionError):
    """The node and the model have not answered the same."""


class Arena:
    """The caller's real memory."""

    def __init__(self, writable: int) -> None:
        self.writable = writable
        self.size = writable + RO
        self._map = mmap.mmap(-1, self.size + END)
        self._map[writable : self.size] = random.Random(0).randbytes(RO)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.view = memoryview(self._map)[: self.size]
        for at, size, protection in ((writable, RO, mmap.PROT_READ), (self.size, END, 0)):
            if _libc.mprotect(self.base + at, size, protection):
                raise OSError(ctypes.get_errno(), "mprotect")

    def address(self, place: Place) -> int:
        """The real one."""
        starts = {"memory": 0, "readonly": self.writable, "end": self.size, "absolute": -self.base}
        return (self.base + starts[place.of] + place.offset) & (1 << 64) - 1


class Player:
    """Plays sequences on the node at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.drivers: dict[str, bytes] = {}
        self._arenas = {False: Arena(SMALL), True: Arena(LARGE)}
        self.tally: Counter[tuple[str, int]] = Counter()
        """How often each ioctl has had each answer, by the model."""

    def play(self, sequence: Sequence) -> None:
        """Differs with what is not the same."""
        arena = self._arenas[sequence.large]
        arena.view[: arena.writable] = random.Random(sequence.seed).randbytes(arena.writable)
        fds = [os.open(self._path, os.O_RDWR) for _ in range(2)]
        fds.append(os.dup(fds[0]))
        try:
            Play(self, arena, fds).all(sequence.steps)
        finally:
            for fd in fds:
                os.close(fd)


class Play:
    """One sequence."""

    def __init__(self, player: Player, arena: Arena, fds: list[int]) -> None:
        self._player, self._arena, self._fds = player, arena, fds
        memory = Memory(arena.base, bytearray(arena.view), arena.writable)
        self._memory, self._model = memory, Model(memory, player.drivers)
        first, second = OpenFile(), OpenFile()
        self._files = [first, second, first]
        self._sessions: list[int] = []

    def all(self, steps: tuple[Step, ...]) -> None:
        """One after the other."""
        for index, step in enumerate(steps):
            try:
                self._step(step)
            except AssertionError as error:
                raise Differs(f"step {index} {show(step)}\n    {error}") from None

    def _value(self, value: Any) -> Any:
        if isinstance(value, Place):
            return self._arena.address(value)
        if isinstance(value, Ses):
            known = self._sessions
            return known[value.number] if value.number < len(known) else UNKNOWN
        return value if isinstance(value, bytes) else int(value)

    def _step(self, step: Step) -> None:
        if step.name in ("fill", "flip"):
            self._change(*step.values, flip=step.name == "flip")
            return
        arg = self._put(step)
        result = _libc.ioctl(self._fds[step.file], NUMBERS[step.name], arg)
        got = ctypes.get_errno() if result else 0
        at = arg - self._arena.base
        self._model.told = b"" if result else bytes(self._arena.view[at : at + 268])
        if step.name == "CIOCGSESSION":
            told = b"" if got else self._model.told[SES_AT : SES_AT + 4]
            self._sessions.append(int.from_bytes(told, "little") or UNKNOWN)
        wanted = self._model.ioctl(self._files[step.file], step.name, arg)
        self._player.tally[step.name, wanted] += 1
        if (result, got) != (-1 if wanted else 0, wanted):
            raise Differs(f"the node answers {said(got)} ({result}), the model {said(wanted)}")
        self._compare()

    def _put(self, step: Step) -> int:
        """The structure, where it belongs; its address."""
        place = step.arg or Place("readonly", -STRUCTURE)
        arg = self._arena.address(place)
        data = FORMS[step.name].pack(*map(self._value, step.values))
        at = arg - self._arena.base
        if 0 <= at <= at + len(data) <= self._arena.writable:
            self._arena.view[at : at + len(data)] = data
            self._memory.data[at : at + len(data)] = data
        return arg

    def _change(self, place: Place, size: int, byte: int, *, flip: bool) -> None:
        at = self._arena.address(place) - self._arena.base
        for data in (self._arena.view, self._memory.data):
            if flip:
                data[at] ^= byte or 1
            else:
                data[at : at + size] = bytes([byte]) * size

    def _compare(self) -> None:
        view, data = self._arena.view, self._memory.data
        for write in self._memory.unsure:
            self._adopt(write)
        if view != data:
            at = next(at for at in range(len(data)) if view[at] != data[at])
            got, wanted = (bytes(part[at : at + 32]).hex() for part in (view, data))
            raise Differs(f"memory at {at}: the node {got}, the model {wanted}")

    def _adopt(self, write: Write) -> None:
        """What may have been written or not is as it is, if it is either."""
        view, data = self._arena.view, self._memory.data
        for at, byte in enumerate(write[1], write[0] - self._arena.base):
            if 0 <= at < self._arena.writable and view[at] in (byte, data[at]):
                data[at] = view[at]


def said(number: int) -> str:
    """``"EINVAL"``, or ``"0"``."""
    return errno.errorcode.get(number, str(number))


def show(step: Step) -> str:
    """In one line."""

    def one(value: Any) -> str:
        if isinstance(value, Place):
            return f"{value.of}{value.offset:+d}" if value.of != "absolute" else hex(value.offset)
        if isinstance(value, bytes):
            return value[:4].hex() + "..."
        return f"#{value.number}" if isinstance(value, Ses) else str(value)

    where = f" at {one(step.arg)}" if step.arg else ""
    return f"{step.name}({', '.join(map(one, step.values))}) on file {step.file}{where}"
