"""One ioctl that was traced: from the record in the ring to what it was, by name.

The event is a dict as ``json`` takes it; docs/status.md says what its members mean.
"""

import marshal
from functools import cache
from typing import Any, NamedTuple

from cuse_crypto.abi.ioctls import Ioctl, by_number, layout_of
from cuse_crypto.abi.structs import crypt_op
from cuse_crypto.fuse.protocol import IN_HEADER, layouts
from cuse_crypto.layout import Width
from cuse_crypto.status.reading import APIS, errno_name
from cuse_crypto.wire.messages import MESSAGES

Event = dict[str, Any]

_SHORT = 0
"""What a record of the short way begins with."""
_BODY = layouts("FUSE_IOCTL")[0]
_COMPAT = 1
"""Of the kernel's flags of an ioctl: made by a 32-bit program."""
_HOPS = "read", "message", "write"

SECRETS = {"key", "mackey"}
"""Members whose memory is not shown, unless it is asked for."""
RETURNED = {
    "CRIOGET": ("value",),
    "CIOCGSESSION": ("ses",),
    "CIOCASYMFEAT": ("value",),
    "CIOCGSESSINFO": (
        *("cipher_name", "cipher_driver", "hash_name", "hash_driver", "alignmask", "flags"),
    ),
    "CIOCASYNCFETCH": crypt_op._fields,
}
"""Members that the device fills in."""


class Record(NamedTuple):
    """As the front end wrote it down. Times in nanoseconds."""

    time: int
    took: int
    thread: int
    uid: int
    file: int
    cmd: int
    flags: int
    arg: int
    error: int
    before: bytes
    after: bytes
    hops: list[tuple[int, int, Any]]


def load(data: bytes) -> Record:
    """What the ring had."""
    first, *rest = marshal.loads(data)
    return _short(*rest) if first == _SHORT else Record(first, *rest)


def _short(
    time: int,
    took: int,
    read: int,
    asked: int,
    error: int,
    message: tuple[int, ...],
    request: bytes,
    shown: list[int],
    data: list[bytes] | None,
) -> Record:
    """An ioctl of the short way, as any other one."""
    number, iv_size, length, *addresses = message
    sizes = iv_size, length, length
    content: list[bytes] | list[None] = data or [None] * 3
    iv, src, dst = zip(addresses, sizes, shown, content, strict=True)
    hops: list[tuple[int, int, Any]] = [
        (0, read, (iv, src)),
        (1, asked, (number, (iv_size, length), (length, 0), 0)),
    ]
    if not error:
        hops.append((2, took, (dst,)))
    header, body = IN_HEADER.read(request), _BODY.read(request, IN_HEADER.size)
    op = request[IN_HEADER.size + _BODY.size :]
    who = header.pid, header.uid, body.fh, body.cmd, body.flags, body.arg
    return Record(time - took, took, *who, error, op, op, hops)


@cache
def row_of(api: str, cmd: int, width: Width) -> Ioctl | None:
    """The ioctl of that number."""
    return by_number(APIS[api], width).get(cmd)


def width_of(record: Record) -> Width:
    """Of a pointer in the program that made it."""
    return 32 if record.flags & _COMPAT else 64


def name_of(record: Record, api: str) -> str:
    """Of the ioctl; its number where it has none."""
    row = row_of(api, record.cmd, width_of(record))
    return row.name if row else f"{record.cmd:#x}"


def event_of(record: Record, api: str, pid: int, data: bool = False, keys: bool = False) -> Event:
    """``pid``: the process that the thread belongs to; ``data``: with what was copied, and
    ``keys``: with that of keys, where the record has it."""
    width = width_of(record)
    row = row_of(api, record.cmd, width)
    argument = _members(row, record.before, width)
    after = _members(row, record.after, width)
    event: Event = {
        "time": record.time / 1e9,
        "seconds": record.took / 1e9,
        "pid": pid,
        "thread": record.thread,
        "uid": record.uid,
        "file": record.file,
        "ioctl": row.name if row else f"{record.cmd:#x}",
        "width": width,
        "argument": argument,
        "returned": _returned(row, argument, after) if row and not record.error else {},
        "errno": errno_name(record.error) if record.error else None,
        "hops": [],
    }
    if not row:
        event["argument"] = {"value": record.arg}
    began = 0
    for kind, until, what in record.hops:
        hop = {"hop": _HOPS[kind], "seconds": (until - began) / 1e9}
        began = until
        if _HOPS[kind] == "message":
            number, sent, came, status = what
            hop |= {"message": MESSAGES[number].name, "sent": sent, "came": came, "status": status}
        else:
            hop["parts"] = _parts(_pointers(row, kind), argument, what, record.arg, (data, keys))
            if not hop["parts"]:
                continue
        event["hops"].append(hop)
    return event


def _returned(row: Ioctl, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    fixed = RETURNED.get(row.name, ())
    return {
        name: value for name, value in after.items() if name in fixed or before.get(name) != value
    }


def _members(row: Ioctl | None, structure: bytes, width: Width) -> dict[str, Any]:
    if row is None or len(structure) < layout_of(row, width).size:
        return {}
    op = layout_of(row, width).read(structure)
    return dict(zip(op._fields, map(_plain, op), strict=True))


def _plain(value: Any) -> Any:
    return value.split(b"\0")[0].decode("ascii", "replace") if isinstance(value, bytes) else value


def _parts(
    pointers: set[str], argument: dict[str, Any], what: Any, arg: int, wants: tuple[bool, bool]
) -> list[dict[str, Any]]:
    """What was copied, but for the structure itself, which is the argument."""
    found: list[dict[str, Any]] = []
    data, keys = wants
    for address, length, shown, content in what:
        if address == arg:
            continue
        member = _member(pointers, argument, address)
        part = {"member": member, "address": address, "bytes": length}
        found.append(part)
        if member in SECRETS and not keys:
            continue
        if shown is not None:
            part["hash"] = f"{shown & 0xFFFFFFFF:08x}"
        if data and content is not None:
            part["data"] = content.hex()
    return found


def _pointers(row: Ioctl | None, kind: int) -> set[str]:
    """Members that point to what is read, or written."""
    if row is None:
        return set()
    return {one.pointer for one in (row.writable if _HOPS[kind] == "write" else row.readable)}


def _member(pointers: set[str], argument: dict[str, Any], address: int) -> str:
    """Which pointer leads there: the nearest one below."""
    below = [
        (argument[name], name) for name in sorted(pointers) if 0 < argument.get(name, 0) <= address
    ]
    return max(below)[1] if below else "?"
