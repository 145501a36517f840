"""What a reader of the trace wants: written to the file by whoever opens it for that, as JSON."""

import errno
import json
from dataclasses import dataclass, field
from typing import Any

from cuse_crypto.board import DATA, KEYS, LINES
from cuse_crypto.status.events import Record, name_of

_LISTS = {"pid": int, "uid": int, "ioctl": str, "errno": str}
_SWITCHES = "json", "data", "keys"
MOST = 64
"""Of each kind."""


class WishError(ValueError):
    """These are no wishes; says why."""


@dataclass
class Wishes:
    """Empty sets want all. ``data``: with the bytes that were copied; ``keys``: keys, too."""

    json: bool = False
    data: bool = False
    keys: bool = False
    pid: set[int] = field(default_factory=set)
    uid: set[int] = field(default_factory=set)
    ioctl: set[str] = field(default_factory=set)
    errno: set[str] = field(default_factory=set)

    @classmethod
    def parse(cls, text: bytes) -> "Wishes":
        """WishError for anything but an object of known members."""
        try:
            given: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise WishError(f"no JSON: {error}") from None
        if not isinstance(given, dict) or given.keys() - {*_SWITCHES, *_LISTS}:
            raise WishError("an object with other members than these: " + " ".join(_LISTS))
        for name, value in given.items():
            if name in _SWITCHES and not isinstance(value, bool):
                raise WishError(f"{name} is true or false")
            if name in _LISTS and not _is_list(value, _LISTS[name]):
                raise WishError(f"{name} is a list")
        wishes = cls()
        for name, value in given.items():
            setattr(wishes, name, set(value) if name in _LISTS else value)
        return wishes

    def dump(self) -> bytes:
        """What ``parse`` takes."""
        wishes = {
            name: sorted(value) if isinstance(value, set) else value
            for name, value in vars(self).items()
        }
        return json.dumps(wishes).encode()

    @property
    def bits(self) -> int:
        """What the front end has to write down for them."""
        return LINES | DATA * (self.data or self.keys) | KEYS * self.keys

    def want(self, record: Record, api: str, pid: int) -> bool:
        """Whether this one is to be shown."""
        return (
            (not self.uid or record.uid in self.uid)
            and (not self.pid or pid in self.pid or record.thread in self.pid)
            and (not self.errno or errno.errorcode.get(record.error, "0") in self.errno)
            and (not self.ioctl or name_of(record, api) in self.ioctl)
        )


def _is_list(value: Any, kind: type) -> bool:
    if not isinstance(value, list) or len(value) > MOST:
        return False
    return all(isinstance(one, kind) and not isinstance(one, bool) for one in value)
