"""Memory of one worker with a known address, in which requests are worked on in place.

The kernel's request, the message to the back end and its reply each have a fixed part, so that
a payload is copied from the caller straight behind the message's header, and from behind the
reply's header straight to the caller.
"""

import ctypes
import mmap

from cuse_crypto.fuse import protocol
from cuse_crypto.wire import messages

PAGE = mmap.PAGESIZE


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


READ = 0
"""The kernel's request, and in an ioctl the caller's argument structure."""
SCRATCH = _pages(protocol.READ_BUFFER)
"""Vectors for the kernel, and small results."""
REQUEST = SCRATCH + 2 * PAGE
"""The message to the back end."""
REPLY = REQUEST + _pages(messages.max_length())
"""The back end's reply."""
SIZE = REPLY + _pages(messages.max_length())


class Arena:
    """``view`` is the memory, ``address`` where it begins. Pages that are not used cost nothing."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, SIZE)
        self.view = memoryview(self._map)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.read_buffer = self.view[READ : READ + protocol.READ_BUFFER]
        self.request = self.view[REQUEST:REPLY]
        self.reply = self.view[REPLY:SIZE]
