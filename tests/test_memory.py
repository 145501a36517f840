"""Caller memory, with this process and a child as the callers."""

import ctypes
import errno
import mmap
import os

import pytest

from cuse_crypto.frontend.arena import REQUEST, Arena
from cuse_crypto.frontend.ledger import Ledger
from cuse_crypto.frontend.marks import Marks
from cuse_crypto.frontend.memory import DirectMemory, Piece, Range, RetriedMemory, Retry


@pytest.fixture
def arena() -> Arena:
    return Arena()


@pytest.fixture
def memory(arena: Arena) -> DirectMemory:
    direct = DirectMemory(arena, Marks(arena))
    direct.pid = os.getpid()
    return direct


def address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def test_vectored_read(arena: Arena, memory: DirectMemory) -> None:
    iv, src = ctypes.create_string_buffer(b"iv", 2), ctypes.create_string_buffer(b"source", 6)
    memory.copy_from_user([Range(address(iv), 2), Range(address(src), 6)], REQUEST)
    assert bytes(arena.view[REQUEST : REQUEST + 8]) == b"ivsource"


def test_vectored_write(arena: Arena, memory: DirectMemory) -> None:
    first, second = ctypes.create_string_buffer(3), ctypes.create_string_buffer(3)
    arena.view[REQUEST : REQUEST + 6] = b"abcdef"
    pieces = [Piece(address(first), REQUEST, 3), Piece(address(second), REQUEST + 3, 3)]
    memory.copy_to_user(pieces)
    assert (first.raw, second.raw) == (b"abc", b"def")


@pytest.mark.parametrize("where", [0, 1, 0xFFFF800000000000, 2**64 - 8])
def test_bad_addresses_fault(memory: DirectMemory, where: int) -> None:
    with pytest.raises(OSError, match="bad address") as caught:
        memory.copy_from_user([Range(where, 8)], REQUEST)
    assert caught.value.errno == errno.EFAULT
    with pytest.raises(OSError, match="bad address"):
        memory.copy_to_user([Piece(where, REQUEST, 8)])


def test_a_range_that_ends_in_nothing_faults(memory: DirectMemory) -> None:
    with mmap.mmap(-1, 3 * mmap.PAGESIZE) as pages:
        start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        libc = ctypes.CDLL(None)
        second = ctypes.c_void_p(start + mmap.PAGESIZE)
        assert not libc.mprotect(second, mmap.PAGESIZE, 0)
        with pytest.raises(OSError, match="bad address"):
            memory.copy_from_user([Range(start, 2 * mmap.PAGESIZE)], REQUEST)
        assert not libc.mprotect(second, mmap.PAGESIZE, mmap.PROT_READ)
        memory.copy_from_user([Range(start, 2 * mmap.PAGESIZE)], REQUEST)
        with pytest.raises(OSError, match="bad address"):
            memory.copy_to_user([Piece(start + mmap.PAGESIZE, REQUEST, 8)])
        assert not libc.mprotect(second, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)


def test_nothing_to_copy(memory: DirectMemory) -> None:
    memory.copy_from_user([], REQUEST)
    memory.copy_to_user([])


def test_retry_asks_for_everything_so_far(arena: Arena) -> None:
    ranges = [Range(0x1000, 4)], [Range(0x2000, 2), Range(0x3000, 3)]
    out = [Range(0x4000, 5)]
    with pytest.raises(Retry) as first:
        RetriedMemory(arena, Marks(arena), Ledger(), memoryview(b""), 0).copy_from_user(
            ranges[0], REQUEST
        )
    assert first.value.readable == ranges[0]
    second = RetriedMemory(arena, Marks(arena), Ledger(), memoryview(b"abcd"), 0)
    second.copy_from_user(ranges[0], REQUEST)
    with pytest.raises(Retry) as again:
        second.copy_from_user(ranges[1], REQUEST, out)
    assert (again.value.readable, again.value.writable) == ([*ranges[0], *ranges[1]], out)
    third = RetriedMemory(arena, Marks(arena), Ledger(), memoryview(b"abcdefghi"), 5)
    third.copy_from_user(ranges[0], REQUEST)
    third.copy_from_user(ranges[1], REQUEST, out)
    assert bytes(arena.view[REQUEST : REQUEST + 5]) == b"efghi"
    third.copy_to_user([Piece(0x4000, REQUEST, 5)])
    assert b"".join(third.output) == b"efghi"


def test_retry_is_bounded(arena: Arena) -> None:
    with pytest.raises(OSError, match="more than") as caught:
        RetriedMemory(arena, Marks(arena), Ledger(), memoryview(b""), 0).copy_from_user(
            [Range(0, 131073)], REQUEST
        )
    assert caught.value.errno == errno.ENOMEM
