"""A recording: the file that ``cuse-crypto trace --record`` writes. No I/O but reading it.

JSON lines: a header, then one event for each ioctl, with the bytes that were copied. See
docs/status.md.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from cuse_crypto.abi.ioctls import layout_of
from cuse_crypto.errors import Failure
from cuse_crypto.status.events import Event
from cuse_crypto.status.reading import APIS

FORMAT, VERSION = "cuse-crypto recording", 1
MOST = 128 << 20
"""Bytes of one event's parts, as they are made again."""
_NUMBERS = "pid", "thread", "uid", "file", "width"
_U64 = 1 << 64


def header_of(info: dict[str, str], keys: bool) -> dict[str, Any]:
    """The first line. ``info``: of the device; ``keys``: whether they are in it."""
    return {"format": FORMAT, "version": VERSION, "keys": keys, "device": info}


def read(lines: Iterable[str], name: str) -> tuple[dict[str, Any], Iterator[Event]]:
    """Header and events; Failure, with the number of the line, for anything else."""
    rest = enumerate(lines, 1)
    try:
        _, first = next(rest)
    except StopIteration:
        raise Failure(f"{name} is empty: no recording") from None
    except UnicodeDecodeError:
        raise Failure(f"{name} is no recording: no text") from None
    header = _object(first, f"{name}, line 1")
    if header.get("format") != FORMAT:
        raise Failure(f"{name} is no recording; make one with `cuse-crypto trace --record FILE`")
    if header.get("version") != VERSION:
        raise Failure(f"{name} has version {header.get('version')}; this program reads {VERSION}")
    device = header.get("device")
    api = device.get("api") if isinstance(device, dict) else None
    if api not in APIS or not isinstance(header.get("keys"), bool):
        raise Failure(f"{name}, line 1: no known api, or keys is neither true nor false")
    return header, _events(rest, name, api)


def _events(lines: Iterable[tuple[int, str]], name: str, api: str) -> Iterator[Event]:
    for number, line in lines:
        where = f"{name}, line {number}"
        event = _object(line, where)
        if not (event.keys() == {"dropped"} and isinstance(event["dropped"], int)):
            _check(event, api, where)
        yield event


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        raise Failure(f"{where}: no JSON") from None
    if not isinstance(found, dict):
        raise Failure(f"{where}: no object")
    return found


def _check(event: Event, api: str, where: str) -> None:
    """Failure unless it has the shape of an event."""
    rows = {row.name: row for row in APIS[api]}
    row = rows.get(str(event.get("ioctl")))
    members = layout_of(row, 64).record._fields if row else ("value",)
    numbers = [event.get(name) for name in _NUMBERS]
    if not all(_is_number(one) for one in numbers) or event["width"] not in (32, 64):
        raise Failure(f"{where}: pid, thread, uid, file or width is not what it should be")
    for kind in ("argument", "returned"):
        found = event.get(kind)
        if not isinstance(found, dict) or not all(
            name in members and (_is_number(value) or isinstance(value, str))
            for name, value in found.items()
        ):
            raise Failure(f"{where}: {kind} has other members than {event.get('ioctl')}")
    error, hops = event.get("errno"), event.get("hops")
    if not (error is None or isinstance(error, str)) or not isinstance(hops, list):
        raise Failure(f"{where}: errno or hops is not what it should be")
    if not all(_is_hop(hop) for hop in hops):
        raise Failure(f"{where}: a hop is not what it should be")
    parts = [part for hop in hops for part in hop.get("parts", ())]
    if sum(part["bytes"] for part in parts) > MOST:
        raise Failure(f"{where}: more than {MOST} bytes in one ioctl")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _U64


def _is_hop(hop: Any) -> bool:
    if not isinstance(hop, dict) or hop.get("hop") not in ("read", "message", "write"):
        return False
    parts = hop.get("parts", [])
    return isinstance(parts, list) and all(map(_is_part, parts))


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("member"), str):
        return False
    if not (_is_number(part.get("address")) and _is_number(part.get("bytes"))):
        return False
    if "data" not in part:
        return True
    try:
        return len(bytes.fromhex(part["data"])) == int(part["bytes"])
    except (TypeError, ValueError):
        return False
