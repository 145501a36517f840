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
REQUEST = SCRATCH + 2 * PAGE
"""The message to the back end. From here on the back end has the same memory, if it can have it:
nothing may be read here twice, or believed."""
REPLY = REQUEST + messages.AREA_REPLY
"""The back end's reply."""
SIZE = REQUEST + messages.AREA_SIZE


class Arena(Area):
    """An area with its parts. ``fd`` is the memory file of the shared one."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.fd = new_file(messages.AREA_SIZE)
        weakref.finalize(self, os.close, self.fd)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        flags = mmap.MAP_SHARED | MAP_FIXED
        # One range of addresses, so that one offset names any byte. mmap.mmap has no MAP_FIXED.
        shared = self.address + REQUEST
        if _libc.mmap(shared, messages.AREA_SIZE, protection, flags, self.fd, 0) != shared:
            raise OSError(_ffi.errno, "no memory for messages")
        self.read_buffer = self.view[READ : READ + protocol.READ_BUFFER]
        self.request = self.view[REQUEST:REPLY]
        self.reply = self.view[REPLY:SIZE]

    def trim(self) -> None:
        """As in Area, for both ends at once."""
        unlock(self.address + REQUEST, messages.AREA_SIZE)
        self._map.madvise(mmap.MADV_REMOVE, REQUEST, messages.AREA_SIZE)
