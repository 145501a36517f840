"""One traced ioctl as a line, as strace(1) would print it, and behind it what it became."""

import errno
import os
import time
from typing import Any

from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.abi.structs import Cop, CopFlag
from cuse_crypto.status.events import RETURNED, Event

_FLAGS = {
    value: f"COP_FLAG_{name}" for name, value in vars(CopFlag).items() if not name.startswith("_")
}
_OPS = {Cop.ENCRYPT: "COP_ENCRYPT", Cop.DECRYPT: "COP_DECRYPT"}
_POINTERS = {
    *("key", "mackey", "src", "dst", "mac", "iv", "auth_src", "tag", "input", "output"),
}
_SESSIONS = {"ses", "src_ses", "dst_ses"}


def line_of(event: Event) -> str:
    """Without a newline."""
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    when = f"{clock}.{int(event['time'] % 1 * 1e6):06}"
    call = f"ioctl(#{event['file']}, {event['ioctl']}, {_structure(event)})"
    hops = "; ".join(map(_hop, event["hops"]))
    took = f"<{event['seconds']:.6f}>"
    return f"{when} [pid {event['pid']}] {call} = {_result(event)} {took}" + (
        f" {{{hops}}}" if hops else ""
    )


def _result(event: Event) -> str:
    if not event["errno"]:
        return "0"
    number = getattr(errno, event["errno"], None)
    return f"-1 {event['errno']}" + (f" ({os.strerror(number)})" if number else "")


def _structure(event: Event) -> str:
    name, argument, returned = event["ioctl"], event["argument"], event["returned"]
    if list(argument or returned) == ["value"]:
        values = {**argument, **returned}
        return _number(name, values["value"], bool(event["errno"]))
    filled = RETURNED.get(name, ())
    given = {key: value for key, value in argument.items() if key not in filled}
    parts = [_members(name, one) for one in (given, returned) if one]
    return " => ".join(parts) or "{}"


def _number(ioctl: str, value: int, failed: bool) -> str:
    if ioctl in RETURNED:
        return "[]" if failed else f"[{value}]"
    return f"[{value:#x}]" if ioctl == "CIOCFSESSION" else f"{value:#x}"


def _members(ioctl: str, members: dict[str, Any]) -> str:
    shown = (f"{name}={_value(ioctl, name, value)}" for name, value in members.items())
    return f"{{{', '.join(shown)}}}"


def _value(ioctl: str, name: str, value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if ioctl == "CIOCGSESSION" and name in ("cipher", "mac"):
        row = (CIPHERS if name == "cipher" else MACS).get(value)
        return row.name if row else str(value)
    if name in _POINTERS:
        return f"{value:#x}" if value else "NULL"
    if name in _SESSIONS:
        return f"{value:#x}"
    if name == "op":
        return _OPS.get(value, str(value))
    if name == "flags" and ioctl != "CIOCGSESSINFO":
        return _flags(value)
    return str(value)


def _flags(value: int) -> str:
    known = [name for bit, name in _FLAGS.items() if value & bit]
    rest = value & ~sum(bit for bit in _FLAGS)
    return "|".join(known + ([f"{rest:#x}"] if rest else [])) or "0"


def _hop(hop: dict[str, Any]) -> str:
    took = f"{hop['seconds'] * 1e6:.1f}us"
    if hop["hop"] == "message":
        sent, came = ("+".join(map(str, hop[way])) or "0" for way in ("sent", "came"))
        status = f" status {hop['status']}" if hop["status"] else ""
        return f"{hop['message']} {sent} -> {came}{status} {took}"
    parts = ", ".join(
        f"{part['member']} {part['bytes']}" + (f" #{part['hash']}" if "hash" in part else "")
        for part in hop["parts"]
    )
    return f"{hop['hop']} {parts} {took}"
