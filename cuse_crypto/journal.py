"""Log records for journald, with fields: systemd's native protocol (systemd.journal-fields(7)).

A message is a datagram of ``NAME=value`` lines. A value of several lines follows its name's line,
with its length before it.
"""

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping

SOCKET = "/run/systemd/journal/socket"
FIELDS = {
    "device": "CRYPTO_DEVICE",
    "pid": "CRYPTO_PID",
    "uid": "CRYPTO_UID",
    "ioctl": "CRYPTO_IOCTL",
    "errno": "ERRNO",
}
"""What a record may say beyond its message (``extra=``), and what that is called in the journal."""
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_LENGTH = struct.Struct("<Q")
_SEND_BUFFER = 8 << 20

here = threading.local()
"""``here.doing``, where a thread sets it, gives the fields of what that thread is doing."""


def wanted() -> bool:
    """Whether standard error is connected to the journal: JOURNAL_STREAM of systemd.exec(5)."""
    status = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Sends records to journald, over a socket that is there from the beginning."""

    def __init__(self, fields: Mapping[str, object], path: str = SOCKET) -> None:
        """``fields``: keys of FIELDS, for every record. OSError where there is no journald."""
        super().__init__()
        self._fields = dict(fields)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """A record that journald does not take is lost: there is nowhere to say so."""
        try:
            message = self._encoded(record)
        except Exception:
            self.handleError(record)
            return
        with contextlib.suppress(OSError):
            # A full queue of journald's must not stop who is being served.
            self._socket.send(message, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Harmless when done before."""
        self._socket.close()
        super().close()

    def _encoded(self, record: logging.LogRecord) -> bytes:
        values: dict[str, object] = {
            "MESSAGE": self.format(record),
            "PRIORITY": priority(record.levelno),
            "SYSLOG_IDENTIFIER": "cuse-crypto",
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
        }
        said = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        for name, value in {**self._fields, **doing(), **said}.items():
            values[FIELDS[name]] = value
        return b"".join(_field(name, str(value)) for name, value in values.items())


def doing() -> Mapping[str, object]:
    """The fields of what this thread is doing, by keys of FIELDS."""
    ask: Callable[[], Mapping[str, object]] = getattr(here, "doing", dict)
    return ask()


def priority(level: int) -> int:
    """syslog(3)'s for one of logging's."""
    return next((number for least, number in _PRIORITIES if level >= least), 7)


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), _LENGTH.pack(len(data)), data)
