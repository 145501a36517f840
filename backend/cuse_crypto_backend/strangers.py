"""Connections that have not yet said who they are: places for each address, and in all.

Where none is left, the oldest one makes room: the oldest of the newcomer's address if that has all
of its own, else the oldest of the address that has most. One that is older than GRACE is taken for
silent. If it is younger, connections come faster than they are greeted: then chance decides between
it and the newcomer, which is refused the more likely, the younger the other is (random early drop,
as MaxStartups of sshd_config(5)). That slows a flood down, and leaves a connection that has a place
the time to be greeted.
"""

import ipaddress
import random
import threading
import time
from collections.abc import Callable

from cuse_crypto.wire.tls import Refused

GRACE = 0.25
"""Seconds that greeting takes on a busy machine."""

End = Callable[[], None]


def group(host: str) -> str:
    """The address that ``host`` counts for: an IPv6 network of 64 bits belongs to one."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


class Strangers:
    """By address, in the order of their arrival. For several threads."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._groups: dict[str, dict[End, float]] = {}
        self._names: dict[End, str] = {}
        """The address of each."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._names)

    def add(self, host: str, end: End, most: int, most_of_one: int) -> None:
        """``end`` ends this one, which is done to others to make room; Refused for this one."""
        name = group(host)
        with self._lock:
            leaving = self._leaving(name, most, most_of_one)
            if leaving:
                self._discard(leaving)
            self._groups.setdefault(name, {})[end] = time.monotonic()
            self._names[end] = name
        if leaving:
            leaving()

    def _leaving(self, name: str, most: int, most_of_one: int) -> End | None:
        own = len(self._groups.get(name, ()))
        if own < most_of_one and len(self) < most:
            return None
        largest = name if own >= most_of_one else self._largest()
        end, since = next(iter(self._groups[largest].items()))
        youth = 1 - (time.monotonic() - since) / GRACE
        has_more = largest != name and len(self._groups[largest]) > own + 1
        if not has_more and self._chance() < youth:
            raise Refused(f"refused {name}: too many connections that do not say who they are")
        return end

    def _largest(self) -> str:
        return max(self._groups, key=lambda name: len(self._groups[name]))

    def discard(self, end: End) -> None:
        """It has said who it is, or has gone."""
        with self._lock:
            self._discard(end)

    def _discard(self, end: End) -> None:
        name = self._names.pop(end, None)
        if name is not None:
            del self._groups[name][end]
            if not self._groups[name]:
                del self._groups[name]

    def drop_one(self) -> None:
        """End the oldest of the address that has most, if there is any."""
        with self._lock:
            if not self._groups:
                return
            end = next(iter(self._groups[self._largest()]))
            self._discard(end)
        end()
