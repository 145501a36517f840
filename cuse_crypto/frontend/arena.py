"""Memory of one worker with a known address, in which requests are worked on in place.

The kernel's request, the message to the back end and its reply each have a fixed part, so that
a payload is copied from the caller straight behind the message's head, and from behind the
reply's head straight to the caller.
"""

import mmap
import os
import weakref
from typing import Any

import cffi

from cuse_crypto.fuse import protocol
from cuse_crypto.wire import messages
from cuse_crypto.wire.area import Area, new_file, unlock

PAGE = mmap.PAGESIZE
MAP_FIXED = 0x10

_ffi = cffi.FFI()
_ffi.cdef("size_t mmap(size_t, size_t, int, int, int, long);")
_libc: Any = _ffi.dlopen(None)


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


READ = 0
"""The kernel's request, and in an ioctl the caller's argument structure."""
SCRATCH = _pages(protocol.READ_BUFFER)
"""Vectors for the kernel, and small results."""
MARKS = SCRATCH + 2 * PAGE
"""How far the request has come: see marks."""
REQUEST = MARKS + PAGE
"""The message to the back end. From here on the back end has the same memory, if it can have it:
nothing may be read here twice, or believed."""
REPLY = REQUEST + messages.AREA_REPLY
"""The back end's reply."""
SIZE = REQUEST + messages.AREA_SIZE


class Arena(Area):
    """An area with its parts. ``fd`` is the memory file of what the back end has as well,
    ``own_fd`` that of the rest, which only a successor of this process may have.
    """

    def __init__(self, own_fd: int = -1, fd: int = -1) -> None:
        """A new one, or that of a predecessor, by its descriptors."""
        super().__init__(SIZE)
        self.own_fd = new_file(REQUEST) if own_fd < 0 else own_fd
        self.fd = new_file(messages.AREA_SIZE) if fd < 0 else fd
        for kept in (self.own_fd, self.fd):
            weakref.finalize(self, os.close, kept)
        # One range of addresses, so that one offset names any byte.
        self._place(0, REQUEST, self.own_fd)
        self._place(REQUEST, messages.AREA_SIZE, self.fd)
        self.read_buffer = self.view[READ : READ + protocol.READ_BUFFER]
        self.request = self.view[REQUEST:REPLY]
        self.reply = self.view[REPLY:SIZE]

    def _place(self, at: int, size: int, fd: int) -> None:
        """Have the memory of ``fd`` at ``at``; mmap.mmap has no MAP_FIXED."""
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | MAP_FIXED
        address = self.address + at
        if _libc.mmap(address, size, protection, flags, fd, 0) != address:
            raise OSError(_ffi.errno, "no memory for messages")

    def trim(self) -> None:
        """As in Area, for both ends at once."""
        unlock(self.address + REQUEST, messages.AREA_SIZE)
        self._map.madvise(mmap.MADV_REMOVE, REQUEST, messages.AREA_SIZE)
