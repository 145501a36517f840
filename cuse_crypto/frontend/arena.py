"""Memory of one worker with a known address, in which requests are worked on in place.

The kernel's request, the message to the back end and its reply each have a fixed part, so that
a payload is copied from the caller straight behind the message's header, and from behind the
reply's header straight to the caller.
"""

import mmap

from cuse_crypto.fuse import protocol
from cuse_crypto.wire import messages
from cuse_crypto.wire.area import Area

PAGE = mmap.PAGESIZE


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


READ = 0
"""The kernel's request, and in an ioctl the caller's argument structure."""
SCRATCH = _pages(protocol.READ_BUFFER)
"""Vectors for the kernel, and small results."""
REQUEST = SCRATCH + 2 * PAGE
"""The message to the back end."""
REPLY = REQUEST + _pages(messages.MAX_LENGTH)
"""The back end's reply."""
SIZE = REPLY + _pages(messages.MAX_LENGTH)


class Arena(Area):
    """An area with its parts."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.read_buffer = self.view[READ : READ + protocol.READ_BUFFER]
        self.request = self.view[REQUEST:REPLY]
        self.reply = self.view[REPLY:SIZE]
