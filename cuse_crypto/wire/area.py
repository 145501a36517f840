"""Memory for messages: as large as the longest one, and paid for only where it is touched."""

import ctypes
import fcntl
import mmap
import os

from cuse_crypto.wire.messages import PeerError

MAP_NORESERVE = 0x4000
"""asm-generic/mman-common.h, the same on x86-64 and aarch64."""
KEPT = 4 << 20
"""Bytes of a message after which an area need not be trimmed."""
_libc = ctypes.CDLL(None)
_libc.munlock.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Area:
    """``view`` is the memory, ``address`` where it begins, for calls that take addresses."""

    def __init__(self, size: int, fd: int = -1, foreign: bool = False) -> None:
        """Memory of our own, or that of the memory file ``fd``, which others have as well.

        ``foreign``: that is another one's, and only it knows which parts it does not need any more.
        """
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self._map = mmap.mmap(fd, size, flags=flags if fd < 0 else mmap.MAP_SHARED)
        # A huge page would make the first byte of a message cost 2 MiB.
        self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self._trimming = mmap.MADV_DONTNEED if fd < 0 or foreign else mmap.MADV_REMOVE
        self.size = size
        self.view = memoryview(self._map)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def trim(self) -> None:
        """Give back to the system what a rare long message took; the content is lost, unless the
        memory is foreign.
        """
        unlock(self.address, self.size)
        self._map.madvise(self._trimming)


def unlock(address: int, size: int) -> None:
    """Memory from which pages can be taken: not from what mlockall(2) has locked."""
    _libc.munlock(address, size)


def new_file(size: int, name: str = "cuse-crypto") -> int:
    """A memory file that keeps its size; the descriptor."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | fcntl.F_SEAL_SEAL)
    return fd


def check_file(fd: int, size: int) -> None:
    """PeerError unless mapping a peer's ``fd`` is safe.

    A file that shrinks, or a page that cannot be had, would be the end of whoever touches it.
    """
    try:
        sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        sealed = False
    # In huge pages, which run out, a file system's block is as large as one.
    huge = os.fstatvfs(fd).f_bsize != mmap.PAGESIZE
    if not sealed or huge or os.fstat(fd).st_size != size:
        raise PeerError("what it shares is no memory file that keeps its size")
