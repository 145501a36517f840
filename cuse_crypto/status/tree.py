"""The status tree as a file system: a folder with five files, answered by pyfuse3.

A file is what it was when it was opened, but for the trace, which goes on.
"""

import errno
import itertools
import os
import select
import stat
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyfuse3
import trio

from cuse_crypto.board import Board
from cuse_crypto.fuse.node import Attributes
from cuse_crypto.linux.proc import masks
from cuse_crypto.linux.task import status
from cuse_crypto.status import texts
from cuse_crypto.status.streams import Stream, Streams
from cuse_crypto.status.wishes import WishError, Wishes

ROOT = int(pyfuse3.ROOT_INODE)
FOREVER = 3600.0
"""Seconds: names and permissions do not change."""
HEAD_START = 1 << 20
"""The size of the trace when nothing has been written yet. Whoever asks for its end to follow it,
as tail(1) does, then begins to read behind its start; and is never made to wait."""
LOOK = 0.05
"""Seconds between two looks whether a reader that waits was signalled: the kernel does not let it
go before it is answered, and pyfuse3 does not tell."""
MOST_OPEN = 64
"""Open files of one user but root; what each of them says is kept until it is closed."""
_WRITING = os.O_WRONLY | os.O_RDWR


class Entry(NamedTuple):
    """A file, for those who may read the node if it is of the node's; else ``mode`` says."""

    inode: int
    name: str
    mode: int
    of_the_node: bool = False


ENTRIES = {
    entry.inode: entry
    for entry in (
        Entry(ROOT + 1, "info", 0o444),
        Entry(ROOT + 2, "sessions", 0o444),
        Entry(ROOT + 3, "counters", 0o440, True),
        Entry(ROOT + 4, "metrics", 0o440, True),
        Entry(ROOT + 5, "trace", 0o600),
    )
}
BY_NAME = {os.fsencode(entry.name): entry for entry in ENTRIES.values()}
TRACE = BY_NAME[b"trace"].inode


class Reader:
    """An open trace."""

    def __init__(self, stream: Stream, process: int, waits: bool) -> None:
        self.stream, self.process, self.waits = stream, process, waits
        self.started = False
        """It has read, or said what it wants: where it reads means nothing."""
        self.handle: pyfuse3.PollHandle | None = None


class Tree(pyfuse3.Operations):
    """Methods are named by pyfuse3."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, board: Board, attributes: Attributes, streams: Streams) -> None:
        super().__init__()
        self._board, self._owner, self._streams = board, attributes, streams
        self._numbers = itertools.count(1)
        self._texts: dict[int, bytes] = {}
        self._users: dict[int, int] = {}
        """Of the open files, by handle: whose they are."""
        self._readers: dict[int, Reader] = {}
        self._began = time.time_ns()

    async def getattr(self, inode: int, ctx: Any = None) -> pyfuse3.EntryAttributes:
        """Of the folder or a file."""
        found = pyfuse3.EntryAttributes()
        found.st_ino = pyfuse3.InodeT(inode)
        found.attr_timeout = 0.0 if inode == TRACE else FOREVER
        found.entry_timeout = FOREVER
        now = self._began
        if inode == ROOT:
            found.st_mode, found.st_nlink = pyfuse3.ModeT(stat.S_IFDIR | 0o555), 2
        elif inode in ENTRIES:
            self._describe(found, ENTRIES[inode])
            now = time.time_ns() if inode == TRACE else now
        else:
            raise pyfuse3.FUSEError(errno.ENOENT)
        found.st_atime_ns = found.st_mtime_ns = found.st_ctime_ns = now
        return found

    def _describe(self, found: pyfuse3.EntryAttributes, entry: Entry) -> None:
        owner, mode = self._owner, entry.mode
        if entry.of_the_node:
            mode = owner.mode & 0o444
            found.st_uid, found.st_gid = owner.uid, owner.gid
        found.st_mode = pyfuse3.ModeT(stat.S_IFREG | mode)
        if entry.inode == TRACE:
            found.st_size = HEAD_START + self._streams.written

    async def lookup(self, parent: int, name: bytes, ctx: Any = None) -> pyfuse3.EntryAttributes:
        """By its name in the folder."""
        entry = BY_NAME.get(name)
        if parent != ROOT or entry is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(entry.inode)

    async def opendir(self, inode: int, ctx: Any) -> pyfuse3.FileHandleT:
        """Only the one folder."""
        if inode != ROOT:
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        return pyfuse3.FileHandleT(ROOT)

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """The files, by inode."""
        for entry in ENTRIES.values():
            if entry.inode <= start_id:
                continue
            name = pyfuse3.FileNameT(os.fsencode(entry.name))
            attributes = await self.getattr(entry.inode)
            if not pyfuse3.readdir_reply(token, name, attributes, entry.inode):
                return

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        """Take down what the file says now; or begin to trace."""
        entry = ENTRIES.get(inode)
        if entry is None:
            raise pyfuse3.FUSEError(errno.EISDIR)
        if flags & _WRITING and inode != TRACE:
            raise pyfuse3.FUSEError(errno.EACCES)
        if ctx.uid and list(self._users.values()).count(ctx.uid) >= MOST_OPEN:
            raise pyfuse3.FUSEError(errno.EMFILE)
        fh = pyfuse3.FileHandleT(next(self._numbers))
        self._users[fh] = ctx.uid
        if inode == TRACE:
            waits = not flags & os.O_NONBLOCK
            self._readers[fh] = Reader(self._streams.open(), ctx.pid, waits)
        else:
            self._texts[fh] = self._text(entry.name, ctx.uid).encode()
        return pyfuse3.FileInfo(fh=fh, direct_io=True)

    def _text(self, name: str, uid: int) -> str:
        if name == "sessions":
            return texts.sessions(self._board, uid)
        made: str = getattr(texts, name)(self._board)
        return made

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Of what was taken down; of the trace what comes next, wherever it is read."""
        reader = self._readers.get(fh)
        if reader is None:
            return self._texts[fh][off : off + size]
        follows = off > 0 and not reader.started
        reader.started = True
        if follows:
            reader.waits = False
            reader.stream.follows = True
        stream = reader.stream
        while not stream.ready:
            if stream.follows:
                return b""
            if not reader.waits:
                raise pyfuse3.FUSEError(errno.EAGAIN)
            await self._wait(reader)
        return stream.take(size)

    async def _wait(self, reader: Reader) -> None:
        changed = reader.stream.changed
        while not changed.is_set():
            with trio.move_on_after(LOOK):
                await changed.wait()
            if not changed.is_set() and _is_signalled(reader.process):
                raise pyfuse3.FUSEError(errno.EINTR)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """What this reader of the trace wants."""
        reader = self._readers.get(fh)
        if reader is None:
            raise pyfuse3.FUSEError(errno.EBADF)
        try:
            reader.stream.wishes = Wishes.parse(bytes(buf))
        except WishError:
            raise pyfuse3.FUSEError(errno.EINVAL) from None
        reader.started = True
        reader.stream.clear()
        self._streams.wish()
        return len(buf)

    async def poll(
        self, inode: int, fh: int, poll_handle: pyfuse3.PollHandle | None, ctx: Any
    ) -> int:
        """A trace is readable when there is something in its queue; all else always."""
        reader = self._readers.get(fh)
        if reader is None:
            return select.POLLIN | select.POLLRDNORM
        if poll_handle is not None:
            reader.handle = poll_handle
            reader.stream.on_change = lambda: _notify(reader)
        return (select.POLLIN | select.POLLRDNORM) * reader.stream.ready

    async def flush(self, fh: int) -> None:
        """Nothing is kept back."""

    async def release(self, fh: int) -> None:
        """Nobody has it open any more."""
        self._users.pop(fh, None)
        self._texts.pop(fh, None)
        reader = self._readers.pop(fh, None)
        if reader:
            self._streams.close(reader.stream)

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        """It takes no room."""
        found = pyfuse3.StatvfsData()
        found.f_bsize = found.f_frsize = 4096
        found.f_files, found.f_namemax = len(ENTRIES) + 1, 255
        return found


def _notify(reader: Reader) -> None:
    handle, reader.handle = reader.handle, None
    if handle is not None:
        handle.notify()


def _is_signalled(process: int) -> bool:
    """Whether a signal waits for the process, or for one that it has started: descriptors are
    inherited. True for one that has gone: nobody knows who reads then."""
    try:
        if _has_signal(status(process)):
            return True
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return True
    return any(map(_is_signalled_child, children))


def _is_signalled_child(process: str) -> bool:
    try:
        return _has_signal(status(int(process)))
    except OSError:
        return False


def _has_signal(found: dict[bytes, bytes]) -> bool:
    pending = masks(found, b"SigPnd", b"ShdPnd")
    return bool(pending & ~masks(found, b"SigBlk", b"SigIgn"))
