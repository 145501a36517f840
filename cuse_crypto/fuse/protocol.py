"""The FUSE kernel protocol, version 7.31 and later, as far as a device node needs it.

Bytes to requests and back; no I/O. One row of ``OPCODES`` is one request. Structures carry their
names from the kernel's ``include/uapi/linux/fuse.h``, the source of every number here.
"""

import errno
import struct
from typing import Annotated, Any, NamedTuple

from cuse_crypto.layout import Buffer, Layout, s32, u16, u32, u64

FUSE_KERNEL_VERSION = 7
FUSE_KERNEL_MINOR_VERSION = 31
OLDEST_MINOR = 16
"""Older kernels describe memory for FUSE_IOCTL_RETRY differently (fs/fuse/ioctl.c)."""
MAX_TRANSFER = 128 * 1024
"""Bytes of payload in one request or reply: the kernel's default of 32 pages."""
READ_BUFFER = MAX_TRANSFER + 80
"""A read needs room for the largest header and structure before the payload."""
FUSE_IOCTL_MAX_IOV = 256


class ProtocolError(Exception):
    """The bytes are no message of this protocol."""


class Fopen:
    """``fuse_open_out.open_flags``. Plain numbers: an enum costs 0.7 us in every operation."""

    DIRECT_IO = 1 << 0
    NONSEEKABLE = 1 << 2
    STREAM = 1 << 4
    NOFLUSH = 1 << 5


class InitFlag:
    """``fuse_init_in.flags``"""

    ATOMIC_O_TRUNC = 1 << 3
    PARALLEL_DIROPS = 1 << 18
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22


CUSE_UNRESTRICTED_IOCTL = 1 << 0


class IoctlFlag:
    """``fuse_ioctl_in.flags`` and ``fuse_ioctl_out.flags``"""

    COMPAT = 1 << 0
    UNRESTRICTED = 1 << 1
    RETRY = 1 << 2


FUSE_POLL_SCHEDULE_NOTIFY = 1 << 0
FUSE_NOTIFY_POLL, FUSE_NOTIFY_RESEND = 1, 7
FUSE_UNIQUE_RESEND = 1 << 63
"""In the ``unique`` of a request that is sent once more, for Linux 6.9 and later."""


class Fattr:
    """``fuse_setattr_in.valid``"""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3


class fuse_in_header(NamedTuple):
    """Before every request. ``pid`` is the caller's thread id, 0 when it cannot be named here."""

    len: u32
    opcode: u32
    unique: u64
    nodeid: u64
    uid: u32
    gid: u32
    pid: u32
    total_extlen: u16
    padding: u16


class fuse_out_header(NamedTuple):
    """Before every reply: the request's ``unique``, and 0 or a negative errno."""

    len: u32
    error: s32
    unique: u64


class fuse_init_in(NamedTuple):
    """The first request on a mount. Later kernels append to it."""

    major: u32
    minor: u32
    max_readahead: u32
    flags: u32


class fuse_init_out(NamedTuple):
    """What the server agrees to."""

    major: u32
    minor: u32
    max_readahead: u32
    flags: u32
    max_background: u16
    congestion_threshold: u16
    max_write: u32
    time_gran: u32
    max_pages: u16
    map_alignment: u16
    unused: Annotated[bytes, "32s"] = b""


class cuse_init_in(NamedTuple):
    """The first request on ``/dev/cuse``."""

    major: u32
    minor: u32
    unused: u32
    flags: u32


class cuse_init_out(NamedTuple):
    """The character device to create; its name follows as ``DEVNAME=...\\0``."""

    major: u32
    minor: u32
    unused: u32
    flags: u32
    max_read: u32
    max_write: u32
    dev_major: u32
    dev_minor: u32
    spare: Annotated[bytes, "40s"] = b""


class fuse_open_in(NamedTuple):
    """``flags`` are those of open(2)."""

    flags: u32
    open_flags: u32


class fuse_open_out(NamedTuple):
    """The number by which the kernel will name the open file."""

    fh: u64
    open_flags: u32
    padding: u32 = 0


class fuse_release_in(NamedTuple):
    """The last descriptor of an open file is gone."""

    fh: u64
    flags: u32
    release_flags: u32
    lock_owner: u64


class fuse_ioctl_in(NamedTuple):
    """``arg`` as the caller passed it; ``in_size`` bytes of its memory follow."""

    fh: u64
    flags: u32
    cmd: u32
    arg: u64
    in_size: u32
    out_size: u32


class fuse_ioctl_out(NamedTuple):
    """The result, or with RETRY the memory that the kernel is to pass the next time."""

    result: s32
    flags: u32 = 0
    in_iovs: u32 = 0
    out_iovs: u32 = 0


class fuse_ioctl_iovec(NamedTuple):
    """A range of the caller's memory."""

    base: u64
    len: u64


class fuse_poll_in(NamedTuple):
    """``events`` as in poll(2)."""

    fh: u64
    kh: u64
    flags: u32
    events: u32


class fuse_poll_out(NamedTuple):
    """``revents`` as in poll(2)."""

    revents: u32
    padding: u32 = 0


class fuse_notify_poll_wakeup_out(NamedTuple):
    """Not a reply: whoever polls ``kh`` is to be asked again."""

    kh: u64


class fuse_interrupt_in(NamedTuple):
    """The request to give up."""

    unique: u64


class fuse_setattr_in(NamedTuple):
    """``valid`` says which members count."""

    valid: u32
    padding: u32
    fh: u64
    size: u64
    lock_owner: u64
    atime: u64
    mtime: u64
    ctime: u64
    atimensec: u32
    mtimensec: u32
    ctimensec: u32
    mode: u32
    unused4: u32
    uid: u32
    gid: u32
    unused5: u32


class fuse_attr_out(NamedTuple):
    """``attr_valid`` seconds of caching, then a ``struct fuse_attr``."""

    attr_valid: u64
    attr_valid_nsec: u32
    dummy: u32
    ino: u64
    size: u64
    blocks: u64
    atime: u64
    mtime: u64
    ctime: u64
    atimensec: u32
    mtimensec: u32
    ctimensec: u32
    mode: u32
    nlink: u32
    uid: u32
    gid: u32
    rdev: u32
    blksize: u32
    flags: u32


class fuse_statfs_out(NamedTuple):
    """A ``struct fuse_kstatfs``."""

    blocks: u64
    bfree: u64
    bavail: u64
    files: u64
    ffree: u64
    bsize: u32
    namelen: u32
    frsize: u32
    padding: u32 = 0
    spare: Annotated[bytes, "24s"] = b""


IN_HEADER = Layout(fuse_in_header)
OUT_HEADER = Layout(fuse_out_header)
IOVEC = Layout(fuse_ioctl_iovec)
IOCTL_DONE = struct.Struct(f"{OUT_HEADER.format}{Layout(fuse_ioctl_out).size}x")
"""The start of a good answer: a fuse_out_header, and a fuse_ioctl_out of zeros."""
_POLL_NOTICE = Layout(fuse_notify_poll_wakeup_out)


class Opcode(NamedTuple):
    """One request: its body, the body of its reply, and whether it is answered at all.

    Where nothing handles it, the reply is ``unhandled`` (an errno).
    """

    number: int
    name: str
    request: Layout[Any] | None = None
    reply: Layout[Any] | None = None
    answered: bool = True
    unhandled: int = errno.ENOSYS


# fmt: off
OPCODES = {row.number: row for row in (
    Opcode(2,    "FUSE_FORGET", answered=False),
    Opcode(3,    "FUSE_GETATTR", None, Layout(fuse_attr_out)),
    Opcode(4,    "FUSE_SETATTR", Layout(fuse_setattr_in), Layout(fuse_attr_out)),
    Opcode(14,   "FUSE_OPEN", Layout(fuse_open_in), Layout(fuse_open_out)),
    Opcode(15,   "FUSE_READ", unhandled=errno.EINVAL),
    Opcode(16,   "FUSE_WRITE", unhandled=errno.EINVAL),
    Opcode(17,   "FUSE_STATFS", None, Layout(fuse_statfs_out)),
    Opcode(18,   "FUSE_RELEASE", Layout(fuse_release_in)),
    Opcode(20,   "FUSE_FSYNC", unhandled=errno.EINVAL),
    Opcode(26,   "FUSE_INIT", Layout(fuse_init_in), Layout(fuse_init_out)),
    Opcode(36,   "FUSE_INTERRUPT", Layout(fuse_interrupt_in), answered=False),
    Opcode(38,   "FUSE_DESTROY", unhandled=0),
    Opcode(39,   "FUSE_IOCTL", Layout(fuse_ioctl_in), Layout(fuse_ioctl_out)),
    Opcode(40,   "FUSE_POLL", Layout(fuse_poll_in), Layout(fuse_poll_out)),
    Opcode(42,   "FUSE_BATCH_FORGET", answered=False),
    Opcode(43,   "FUSE_FALLOCATE", unhandled=errno.ENODEV),
    Opcode(46,   "FUSE_LSEEK", unhandled=errno.ESPIPE),
    Opcode(4096, "CUSE_INIT", Layout(cuse_init_in), Layout(cuse_init_out)),
)}
# fmt: on
"""By number. What has no row is answered with ENOSYS, which the kernel remembers and handles."""

BY_NAME = {row.name: row for row in OPCODES.values()}


def layouts(name: str) -> tuple[Layout[Any], Layout[Any]]:
    """The request's and the reply's body, for an opcode that has both."""
    row = BY_NAME[name]
    if row.request is None or row.reply is None:
        raise TypeError(f"{name} has no body in one direction")
    return row.request, row.reply


class Request(NamedTuple):
    """One request of the kernel; ``payload`` is what follows the body, in the read buffer."""

    header: fuse_in_header
    opcode: Opcode
    body: Any
    payload: memoryview


def decode(message: memoryview) -> Request:
    """The request in ``message``, which is what one read of the channel gave.

    ProtocolError when header, length and body do not agree.
    """
    if len(message) < IN_HEADER.size:
        raise ProtocolError(f"{len(message)} bytes are too short for a request")
    header = IN_HEADER.read(message)
    if header.len != len(message):
        raise ProtocolError(f"a request of {header.len} bytes came as {len(message)}")
    row = OPCODES.get(header.opcode) or Opcode(header.opcode, f"opcode {header.opcode}")
    if row.request is None:
        return Request(header, row, None, message[IN_HEADER.size :])
    if len(message) < IN_HEADER.size + row.request.size:
        raise ProtocolError(f"{row.name}: {len(message)} bytes are too short")
    body = row.request.read(message, IN_HEADER.size)
    return Request(header, row, body, message[IN_HEADER.size + row.request.size :])


def unique_of(message: memoryview) -> int:
    """By what the request in ``message`` is answered, whatever else is wrong with it."""
    return IN_HEADER.read(message).unique


def encode_reply(unique: int, error: int = 0, *parts: Buffer) -> list[Buffer]:
    """The pieces of one reply, for one ``writev``: ``error`` is 0 or a positive errno."""
    if error:
        return [OUT_HEADER.bytes(fuse_out_header(OUT_HEADER.size, -error, unique))]
    size = OUT_HEADER.size + sum(map(len, parts))
    return [OUT_HEADER.bytes(fuse_out_header(size, 0, unique)), *parts]


def encode_poll_notice(handle: int) -> list[Buffer]:
    """The pieces of FUSE_NOTIFY_POLL, for one ``writev``."""
    body = _POLL_NOTICE.bytes(fuse_notify_poll_wakeup_out(handle))
    size = OUT_HEADER.size + len(body)
    return [OUT_HEADER.bytes(fuse_out_header(size, FUSE_NOTIFY_POLL, 0)), body]


def encode_resend() -> list[Buffer]:
    """The pieces of FUSE_NOTIFY_RESEND, for one ``writev``."""
    return [OUT_HEADER.bytes(fuse_out_header(OUT_HEADER.size, FUSE_NOTIFY_RESEND, 0))]


def init_reply(request: fuse_init_in) -> bytes:
    """The body that answers FUSE_INIT; ProtocolError for a kernel that is too old."""
    _check_version(request.major, request.minor)
    wanted = InitFlag.ATOMIC_O_TRUNC | InitFlag.ABORT_ERROR | InitFlag.MAX_PAGES
    reply = fuse_init_out(
        major=FUSE_KERNEL_VERSION,
        minor=min(request.minor, FUSE_KERNEL_MINOR_VERSION),
        max_readahead=0,
        flags=wanted & request.flags,
        max_background=64,
        congestion_threshold=48,
        max_write=MAX_TRANSFER,
        time_gran=1,
        max_pages=MAX_TRANSFER // 4096,
        map_alignment=0,
    )
    return layouts("FUSE_INIT")[1].bytes(reply)


def cuse_init_reply(request: cuse_init_in, name: str) -> bytes:
    """The body that answers CUSE_INIT; the kernel then creates ``/dev/<name>``."""
    _check_version(request.major, request.minor)
    reply = cuse_init_out(
        major=FUSE_KERNEL_VERSION,
        minor=min(request.minor, FUSE_KERNEL_MINOR_VERSION),
        unused=0,
        flags=CUSE_UNRESTRICTED_IOCTL,
        max_read=MAX_TRANSFER,
        max_write=MAX_TRANSFER,
        dev_major=0,
        dev_minor=0,
    )
    return layouts("CUSE_INIT")[1].bytes(reply) + f"DEVNAME={name}\0".encode()


def _check_version(major: int, minor: int) -> None:
    if major != FUSE_KERNEL_VERSION or minor < OLDEST_MINOR:
        raise ProtocolError(
            f"the kernel speaks FUSE {major}.{minor}, not 7.{OLDEST_MINOR} or later"
        )
