"""What is on the board, as records: what has been counted, and whose sessions there are."""

import errno
import os
from typing import NamedTuple

from cuse_crypto.abi import crypto_buffer, ioctls
from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.abi.ioctls import Ioctl
from cuse_crypto.board import (
    BUCKETS,
    CLOSES,
    DROPPED,
    ERRORS,
    LENGTHS,
    NANOSECONDS,
    OPENS,
    OTHER,
    SHORT_ROW,
    Board,
    Seat,
)
from cuse_crypto.linux.proc import name_of, start_of
from cuse_crypto.linux.task import status

APIS: dict[str, tuple[Ioctl, ...]] = {
    "cryptodev": ioctls.IOCTLS,
    "crypto-buffer": crypto_buffer.IOCTLS,
}
"""By the name that ``--api`` takes."""
UNKNOWN = "other"
"""What all ioctls are called that there are not."""


class Counts(NamedTuple):
    """One kind of ioctl. ``buckets[n]`` took less than ``2**n`` nanoseconds, and are in no lower
    one; ``errors`` by errno."""

    ioctl: str
    bytes: int
    nanoseconds: int
    buckets: list[int]
    errors: dict[int, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.buckets)

    def below(self, share: float) -> int:
        """Nanoseconds that at least ``share`` of them did not take; 0 if there are none."""
        left = share * self.total
        for power, number in enumerate(self.buckets):
            left -= number
            if number and left <= 0:
                return 1 << power
        return 0


class Reading(NamedTuple):
    """The whole, at one time."""

    ioctls: list[Counts]
    files: int
    sessions: int
    dropped: int


def read(board: Board) -> Reading:
    """What has been counted so far."""
    names = [row.name for row in APIS[board.told().get("api", "cryptodev")]]
    found = [_counts(board, name, index) for index, name in enumerate(names)]
    if "CIOCCRYPT" in names:
        index = names.index("CIOCCRYPT")
        found[index] = _sum(found[index], _counts(board, "CIOCCRYPT", SHORT_ROW))
    found.append(_counts(board, UNKNOWN, OTHER))
    # In this order there are never less than none.
    closes, opens = board.total(CLOSES), board.total(OPENS)
    return Reading(found, opens - closes, len(list(board.seats())), board.total(DROPPED))


def _counts(board: Board, name: str, index: int) -> Counts:
    row = board.sums(index)
    errors = {number: count for number, count in enumerate(row[ERRORS:]) if count}
    return Counts(name, row[LENGTHS], row[NANOSECONDS], row[BUCKETS:ERRORS], errors)


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(
        one.ioctl,
        one.bytes + other.bytes,
        one.nanoseconds + other.nanoseconds,
        [sum(pair) for pair in zip(one.buckets, other.buckets, strict=True)],
        {
            number: one.errors.get(number, 0) + other.errors.get(number, 0)
            for number in sorted(one.errors | other.errors)
        },
    )


class Opener(NamedTuple):
    """Who opened a file, as far as it is still there."""

    pid: int
    command: str


def opener_of(seat: Seat) -> Opener:
    """``-`` for the command of a process that has gone."""
    try:
        if _began(start_of(seat.thread)) > seat.began:
            return Opener(seat.thread, "-")
        pid = int(status(seat.thread)[b"Tgid"])
        return Opener(pid, name_of(pid))
    except (OSError, KeyError):
        return Opener(seat.thread, "-")


def _began(ticks: int) -> int:
    """When a process began, in nanoseconds of the time of day (proc_pid_stat(5))."""
    with open("/proc/stat") as file:
        booted = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    return (booted * 10**9) + ticks * 10**9 // os.sysconf("SC_CLK_TCK")


def algorithm_of(seat: Seat) -> str:
    """``cbc(aes)+hmac(sha1)``"""
    rows = [table.get(number) for table, number in ((CIPHERS, seat.cipher), (MACS, seat.mac))]
    return "+".join(row.kernel_name for row in rows if row) or "-"


def errno_name(number: int) -> str:
    """``EINVAL``"""
    return errno.errorcode.get(number, str(number))
