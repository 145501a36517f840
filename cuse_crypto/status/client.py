"""A status tree from the outside: its files as records, for the commands that show them."""

import contextlib
import errno
import os
import re
import select
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from cuse_crypto.errors import Failure
from cuse_crypto.status.mount import PLACE, is_served
from cuse_crypto.status.wishes import Wishes

Lines = Generator[str, None, None]
_SAMPLE = re.compile(r"cuse_crypto_(\w+?)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_TOTALS = "open_files", "sessions", "trace_dropped_total"


@dataclass
class Counter:
    """One kind of ioctl, since the device began. ``buckets``: seconds, and how many took no more;
    rising."""

    count: int = 0
    bytes: int = 0
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    buckets: list[tuple[float, int]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """All errors."""
        return sum(self.errors.values())


@dataclass
class Counters:
    """All of them, and what is open now."""

    ioctls: dict[str, Counter] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)


@dataclass
class Session:
    """A line of ``sessions``."""

    file: int
    pid: int
    uid: int
    session: str
    algorithm: str
    operations: int
    bytes: int
    age: int
    command: str


def trees(where: Path = PLACE) -> list["Tree"]:
    """Those of all devices that serve here."""
    folders = sorted(where.iterdir()) if where.is_dir() else []
    return [Tree(folder) for folder in folders if is_served(folder)]


def find(name: str) -> "Tree":
    """Of the device ``name``, or of ``/dev/NAME``, or in the folder ``name``, which has a slash;
    Failure without.
    """
    folder = PLACE / Path(name).name
    if "/" in name and is_served(Path(name).absolute()):
        folder = Path(name).absolute()
    if not is_served(folder):
        raise Failure(
            f"{folder}: no status files of {name}; is `cuse-crypto up --name {folder.name}` "
            "running, with pyfuse3 installed?"
        )
    return Tree(folder)


class Tree:
    """The files of one device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except PermissionError:
            raise Failure(_closed(self.folder / name)) from None
        except OSError as error:
            raise Failure(
                f"{self.folder / name}: {error.strerror}; has the device ended?"
            ) from None

    def info(self) -> dict[str, str]:
        """By name."""
        pairs = (line.partition(": ") for line in self._read("info").splitlines())
        return {name: value for name, _, value in pairs}

    def sessions(self) -> list[Session]:
        """Those that may be seen."""
        return [_session(line) for line in self._read("sessions").splitlines()[1:]]

    def counters(self) -> Counters:
        """What ``metrics`` says."""
        found = Counters()
        for name, labels, value in _SAMPLE.findall(self._read("metrics")):
            marks = dict(_LABEL.findall(labels))
            if name in _TOTALS:
                found.totals[name] = int(value)
            else:
                counter = found.ioctls.setdefault(marks["ioctl"], Counter())
                _take(counter, name, marks, value)
        return found

    def trace(self, wishes: Wishes, ready: Callable[[], None] = lambda: None) -> Lines:
        """Lines, as they come; ``ready`` is called when nothing is missed any more."""
        path = self.folder / "trace"
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except PermissionError:
            raise Failure(_closed(path)) from None
        except OSError as error:
            raise Failure(f"{path}: {error.strerror}") from None
        try:
            os.write(fd, wishes.dump())
            ready()
        except BaseException:
            os.close(fd)
            raise
        return _lines(fd)


def _closed(path: Path) -> str:
    who = "root" if path.name == "trace" else "root, and for those who may read the node"
    return f"{path} is only for {who}; try sudo"


def _take(counter: Counter, name: str, marks: dict[str, str], value: str) -> None:
    match name:
        case "ioctl_seconds_bucket":
            counter.buckets.append((float(marks["le"]), int(value)))
        case "ioctl_seconds_sum":
            counter.seconds = float(value)
        case "ioctl_seconds_count":
            counter.count = int(value)
        case "ioctl_errors_total":
            counter.errors[marks["errno"]] = int(value)
        case "bytes_total":
            counter.bytes = int(value)


def _session(line: str) -> Session:
    words = line.split(maxsplit=8)
    file, pid, uid = map(int, words[:3])
    operations, total, age = map(int, words[5:8])
    return Session(file, pid, uid, words[3], words[4], operations, total, age, words[8])


def _lines(fd: int) -> Lines:
    try:
        yield from _split(fd)
    finally:
        # The file system may have gone meanwhile, and says so (ENOTCONN).
        with contextlib.suppress(OSError):
            os.close(fd)


def _split(fd: int) -> Lines:
    waiting, rest = select.poll(), b""
    waiting.register(fd, select.POLLIN)
    while True:
        waiting.poll()
        try:
            data = os.read(fd, 1 << 17)
        except BlockingIOError:
            continue
        except OSError as error:
            # The tree was taken down, or its process has died.
            if error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO):
                return
            raise
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode()
