"""A recording, made again on a device: each ioctl in its turn, with memory like its caller's.

Files, sessions and addresses are others; everything else has to be the same.
"""

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cuse_crypto.abi.ioctls import Ioctl, layout_of
from cuse_crypto.status.events import RETURNED, SECRETS, Event
from cuse_crypto.status.reading import APIS, errno_name

SESSIONS = {"ses", "src_ses", "dst_ses"}
NOWHERE = 8
"""An address that nothing is at."""
_SECRETS = {"key", "mackey"}
_OURS = {
    "CRIOGET": {"value"},
    "CIOCGSESSINFO": {"cipher_driver", "hash_driver", "alignmask", "flags"},
}
"""Members that are the device's own, and may differ."""
_WORKING = {"CIOCCRYPT", "CIOCAUTHCRYPT", "CIOCASYNCFETCH", "ENCRYPT", "DECRYPT"}
SAME, DIFFERENT, SKIPPED = "same", "different", "skipped"


class Outcome(NamedTuple):
    """How one event went. ``why`` it is not the same."""

    event: Event
    verdict: str
    why: str = ""


class Region(NamedTuple):
    """Memory in the place of the caller's, from ``address`` there."""

    address: int
    memory: Any

    @property
    def here(self) -> int:
        """Where it is."""
        return ctypes.addressof(self.memory)

    def has(self, address: int, length: int) -> bool:
        """Whether these bytes are all in it."""
        return self.address <= address and address + length <= self.address + len(self.memory)


@dataclass
class _File:
    """An open file, in the place of a recorded one."""

    fd: int
    sessions: dict[int, int] = field(default_factory=dict)
    kept: list[Region] = field(default_factory=list)
    """Memory that asynchronous operations will still write to."""


class Replay:
    """To be closed."""

    def __init__(self, device: str, header: dict[str, Any]) -> None:
        self._device, self._has_keys = device, header["keys"]
        self._rows = {row.name: row for row in APIS[header["device"]["api"]]}
        self._files: dict[int, _File] = {}

    def run(self, events: Iterable[Event]) -> Iterator[Outcome]:
        """OSError when the device cannot be opened."""
        for event in events:
            if "dropped" in event:
                yield Outcome(event, SKIPPED, f"{event['dropped']} ioctls were not recorded")
            else:
                yield self._one(event)

    def close(self) -> None:
        """Close what was opened."""
        for file in self._files.values():
            os.close(file.fd)
        self._files.clear()

    def _one(self, event: Event) -> Outcome:
        row = self._rows.get(event["ioctl"])
        file = self._file(event["file"])
        if reason := self._why_not(event, row, file):
            return Outcome(event, SKIPPED, reason)
        if row is None:
            return _compare_errno(event, _ioctl(file.fd, int(event["ioctl"], 16), bytearray(4096)))
        layout = layout_of(row, 64)
        regions = _regions(event, self._has_keys) + file.kept
        asked = dict.fromkeys(layout.record._fields, 0) | event["argument"]
        op = {
            name: self._given(file, row, name, value, event, regions)
            for name, value in asked.items()
        }
        argument = bytearray(layout.size)
        layout.pack_into(argument, 0, *op.values())
        error = _ioctl(file.fd, row.number(64), argument)
        after = layout.read(argument)._asdict()
        if row.name == "CRIOGET" and not error:
            os.close(after["value"])
        if row.name == "CIOCGSESSION" and not error and "ses" in event["returned"]:
            file.sessions[event["returned"]["ses"]] = after["ses"]
        if row.name == "CIOCASYNCCRYPT":
            file.kept += regions
        outcome = _compare_errno(event, error)
        if error == errno.EBADMSG and not self._has_keys:
            return Outcome(event, SKIPPED, "its keys were not recorded")
        if outcome.verdict != SAME or error or not self._comparable(event):
            return outcome
        return _compare(event, row, after, regions)

    def _file(self, number: int) -> _File:
        if number not in self._files:
            self._files[number] = _File(os.open(self._device, os.O_RDWR | os.O_CLOEXEC))
        return self._files[number]

    def _why_not(self, event: Event, row: Ioctl | None, file: _File) -> str:
        """Why it cannot be made again; empty if it can be."""
        for name in SESSIONS & event["argument"].keys():
            known = event["argument"][name] in file.sessions
            made = row is not None and name in RETURNED.get(row.name, ())
            if not known and not made and event["errno"] is None:
                return "its session was made before the recording"
        for part in _parts(event, "read"):
            if "data" not in part and part["member"] not in SECRETS:
                return "it was too long to be recorded"
        if event["errno"] == "EINTR":
            return "it was interrupted"
        return ""

    def _comparable(self, event: Event) -> bool:
        """Without the keys the bytes are others."""
        return self._has_keys or event["ioctl"] not in _WORKING

    def _given(
        self, file: _File, row: Ioctl, name: str, value: Any, event: Event, regions: list[Region]
    ) -> Any:
        """A member, as it is to be here."""
        if isinstance(value, str):
            return value.encode()
        if name in SESSIONS or (row.name == "CIOCFSESSION" and name == "value"):
            return file.sessions.get(value, value)
        if not _is_pointer(row, name) or not value:
            return value
        for region in regions:
            if region.has(value, 1) or value == region.address:
                return region.here + value - region.address
        if event["errno"] == "EFAULT":
            return NOWHERE
        regions.append(_room(event, value))
        return regions[-1].here


def _is_pointer(row: Ioctl, name: str) -> bool:
    return next(field.code == "Q" for field in layout_of(row, 64).fields if field.name == name)


def _room(event: Event, address: int) -> Region:
    """Memory that nobody was seen to touch."""
    length = event["argument"].get("len", 0) + event["argument"].get("auth_len", 0)
    return Region(address, (ctypes.c_char * min(max(4096, length + 4096), 64 << 20))())


def _parts(event: Event, kind: str) -> Iterator[dict[str, Any]]:
    for hop in event["hops"]:
        if hop["hop"] == kind:
            yield from hop.get("parts", ())


def _regions(event: Event, keys: bool) -> list[Region]:
    """Memory for all that was copied, filled with what was read."""
    spans: list[list[int]] = []
    parts = [*_parts(event, "read"), *_parts(event, "write")]
    for start, end in sorted((part["address"], part["address"] + part["bytes"]) for part in parts):
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
    regions = [Region(start, (ctypes.c_char * (end - start))()) for start, end in spans]
    # What was read later may be what was written meanwhile.
    for part in reversed(list(_parts(event, "read"))):
        data = bytes.fromhex(part["data"]) if "data" in part else _made_up(part["bytes"])
        for region in regions:
            if region.has(part["address"], len(data)):
                ctypes.memmove(region.here + part["address"] - region.address, data, len(data))
    return regions


def _made_up(length: int) -> bytes:
    """A key in the place of one that is not known; its halves differ, as XTS wants it."""
    return bytes((index * 7 + 1) & 0xFF for index in range(length))


def _ioctl(fd: int, number: int, argument: bytearray) -> int:
    """The errno, or 0."""
    try:
        fcntl.ioctl(fd, number, argument)
    except OSError as failure:
        return failure.errno or errno.EIO
    return 0


def _compare_errno(event: Event, error: int) -> Outcome:
    expected, got = event["errno"] or "0", errno_name(error) if error else "0"
    if expected == got:
        return Outcome(event, SAME)
    return Outcome(event, DIFFERENT, f"errno {got}, and not {expected}")


def _compare(event: Event, row: Ioctl, after: dict[str, Any], regions: list[Region]) -> Outcome:
    ours = _OURS.get(row.name, set()) | SESSIONS
    for name, value in event["returned"].items():
        got = after[name]
        got = got.split(b"\0")[0].decode("ascii", "replace") if isinstance(got, bytes) else got
        if name not in ours and not _is_pointer(row, name) and got != value:
            return Outcome(event, DIFFERENT, f"{name} is {got}, and not {value}")
    for part in _written(event):
        got = _found(part, regions)
        if got is not None and got != bytes.fromhex(part["data"]):
            return Outcome(
                event,
                DIFFERENT,
                f"other bytes at {part['member']}: {_where(got, bytes.fromhex(part['data']))}",
            )
    return Outcome(event, SAME)


def _written(event: Event) -> Iterator[dict[str, Any]]:
    """Those whose bytes nothing wrote over later."""
    later: list[range] = []
    for part in reversed(list(_parts(event, "write"))):
        span = range(part["address"], part["address"] + part["bytes"])
        if "data" in part and not any(
            span.start < other.stop and other.start < span.stop for other in later
        ):
            yield part
        later.append(span)


def _found(part: dict[str, Any], regions: list[Region]) -> bytes | None:
    for region in regions:
        if region.has(part["address"], part["bytes"]):
            return ctypes.string_at(region.here + part["address"] - region.address, part["bytes"])
    return None


def _where(got: bytes, expected: bytes) -> str:
    first = next(at for at, one in enumerate(expected) if got[at] != one)
    return f"{len(expected)} bytes, the first that differs is number {first}"
