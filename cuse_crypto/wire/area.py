"""Memory for messages: as large as the longest one, and paid for only where it is touched."""

import ctypes
import mmap

MAP_NORESERVE = 0x4000
"""asm-generic/mman-common.h, the same on x86-64 and aarch64."""
KEPT = 4 << 20
"""Bytes of a message after which an area need not be trimmed."""


class Area:
    """``view`` is the memory, ``address`` where it begins, for calls that take addresses."""

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self._map = mmap.mmap(-1, size, flags=flags)
        # A huge page would make the first byte of a message cost 2 MiB.
        self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self.size = size
        self.view = memoryview(self._map)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def trim(self) -> None:
        """Give back to the system what a rare long message took; the content is lost."""
        self._map.madvise(mmap.MADV_DONTNEED)
