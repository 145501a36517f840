"""The descriptor over which the kernel sends requests and takes replies.

Owns ``/dev/fuse`` or ``/dev/cuse`` as opened for one node. Several threads may read at once; each
read gives one whole request to one of them.
"""

import contextlib
import errno
import logging
import os
import select

from cuse_crypto.fuse import protocol
from cuse_crypto.layout import Buffer

log = logging.getLogger(__name__)


class Channel:
    """One connection to the kernel's FUSE."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, buffer: memoryview) -> int:
        """Sleep for the next request and put it into ``buffer`` (at least READ_BUFFER bytes).

        Returns its size, or 0 when the node is gone for good.
        """
        while True:
            try:
                return os.readv(self.fd, [buffer])
            except OSError as error:
                # ENOENT: the caller was killed before its request could be read.
                # ECONNABORTED and ENODEV: aborted or unmounted. EBADF: closed by us.
                if error.errno in (errno.ENODEV, errno.ECONNABORTED, errno.EBADF):
                    return 0
                if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    raise

    def send_again(self) -> None:
        """Have the kernel send once more what somebody has read from it and not answered.

        OSError: EINVAL where it cannot (before Linux 6.9).
        """
        os.writev(self.fd, protocol.encode_resend())

    def take(self) -> list[bytes]:
        """All requests that wait to be read, when nobody else reads. OSError(ENODEV) if the node is
        gone.
        """
        waiting = select.poll()
        waiting.register(self.fd, select.POLLIN)
        buffer = memoryview(bytearray(protocol.READ_BUFFER))
        messages: list[bytes] = []
        while events := waiting.poll(0):
            if events[0][1] & select.POLLERR:
                raise OSError(errno.ENODEV, "the node is gone")
            # The caller of a request may be killed before it is read.
            with contextlib.suppress(FileNotFoundError, InterruptedError):
                messages.append(bytes(buffer[: os.readv(self.fd, [buffer])]))
        return messages

    def reply(self, unique: int, error: int = 0, *parts: Buffer) -> None:
        """Answer one request; ``error`` is 0 or a positive errno. One writev, so it is whole."""
        try:
            os.writev(self.fd, protocol.encode_reply(unique, error, *parts))
        except OSError as failure:
            self.refused(unique, failure)

    def refused(self, unique: int, failure: OSError) -> None:
        """What to do when the kernel does not take a reply to ``unique``."""
        # ENOENT: the request was aborted meanwhile, and its caller has left.
        if failure.errno not in (errno.ENOENT, errno.ENODEV, errno.EBADF):
            log.error("the kernel refused a reply (%s)", failure.strerror)
            with contextlib.suppress(OSError):
                os.writev(self.fd, protocol.encode_reply(unique, errno.EIO))

    def notify_poll(self, handle: int) -> None:
        """Wake those who poll ``handle``, which is the kernel's and may be gone."""
        with contextlib.suppress(OSError):
            os.writev(self.fd, protocol.encode_poll_notice(handle))

    def close(self) -> None:
        """Give the descriptor back; with the last one the kernel ends the connection."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
