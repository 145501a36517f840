"""The journal's records: their fields, what they are about, and that there are not too many."""

import errno
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuse_crypto import journal
from cuse_crypto.abi import ioctls
from cuse_crypto.cli.logs import Sparing
from cuse_crypto.frontend.doing import describing
from cuse_crypto.fuse import protocol
from cuse_crypto.journal import JournalHandler


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket like the one that journald listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(os.fspath(tmp_path / "socket"))
        sock.settimeout(10)
        yield sock


@pytest.fixture
def log(journald: socket.socket) -> Iterator[logging.Logger]:
    """A logger whose records go there."""
    handler = JournalHandler({"device": "cryptodev7"}, journald.getsockname())
    logger = logging.Logger("cuse_crypto.test")
    logger.addHandler(handler)
    yield logger
    handler.close()


def fields(datagram: bytes) -> dict[str, str]:
    """As journald takes a datagram apart."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found[name.decode()] = value.decode()
        datagram = rest
    return found


def test_fields(journald: socket.socket, log: logging.Logger) -> None:
    said = {"pid": 12, "uid": 34, "ioctl": "CIOCCRYPT", "errno": errno.EIO}
    log.error("no %s", "back end", extra=said)
    got = fields(journald.recv(65536))
    assert got.pop("CODE_LINE").isdecimal()
    assert got == {
        "MESSAGE": "no back end",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "cuse-crypto",
        "LOGGER": "cuse_crypto.test",
        "CODE_FILE": __file__,
        "CODE_FUNC": "test_fields",
        "CRYPTO_DEVICE": "cryptodev7",
        "CRYPTO_PID": "12",
        "CRYPTO_UID": "34",
        "CRYPTO_IOCTL": "CIOCCRYPT",
        "ERRNO": "5",
    }


def test_several_lines(journald: socket.socket, log: logging.Logger) -> None:
    try:
        raise ValueError("a\nFORGED=1")
    except ValueError:
        log.exception("a bug")
    got = fields(journald.recv(65536))
    assert got["MESSAGE"].startswith("a bug\nTraceback")
    assert "FORGED" not in got


def test_priorities(journald: socket.socket, log: logging.Logger) -> None:
    for level, priority in ((10, "7"), (20, "6"), (30, "4"), (40, "3"), (50, "2")):
        log.log(level, "x")
        assert fields(journald.recv(65536))["PRIORITY"] == priority


def test_a_journal_that_takes_nothing_stops_nobody(
    journald: socket.socket, log: logging.Logger
) -> None:
    for _ in range(20_000):
        log.info("x" * 200)
    assert fields(journald.recv(65536))["MESSAGE"] == "x" * 200
    journald.close()
    log.info("nobody is there")


def test_stderr_that_is_the_journal(tmp_path: Path) -> None:
    """As systemd starts a service: JOURNAL_STREAM tells what standard error is."""
    script = "from cuse_crypto import journal; print(journal.wanted())"
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        for named, expected in ((f"{status.st_dev}:{status.st_ino}", "True"), ("1:2", "False")):
            done = subprocess.run(
                [sys.executable, "-c", script],
                env=os.environ | {"JOURNAL_STREAM": named},
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                check=True,
            )
            assert done.stdout.strip() == expected


def test_what_a_worker_does() -> None:
    row = next(row for row in ioctls.IOCTLS if row.name == "CIOCGSESSION")
    message = memoryview(bytearray(protocol.READ_BUFFER))
    describe = describing(message, "cryptodev")
    opcode = protocol.BY_NAME["FUSE_IOCTL"]
    head, body = protocol.IN_HEADER, protocol.layouts("FUSE_IOCTL")[0]
    zeros = head.make([0] * len(head.fields))
    head.pack_into(message, 0, *zeros._replace(opcode=opcode.number, pid=77, uid=1000))
    for cmd, name in ((row.number(64), row.name), (row.number(32), row.name), (0x1234, "0x1234")):
        asked = body.make([0] * len(body.fields))._replace(cmd=cmd)
        body.pack_into(message, head.size, *asked)
        assert describe() == {"pid": 77, "uid": 1000, "ioctl": name}
    head.pack_into(message, 0, *zeros._replace(opcode=protocol.BY_NAME["FUSE_OPEN"].number))
    assert describe() == {"pid": 0, "uid": 0}


def test_what_a_thread_does_is_told(
    journald: socket.socket, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.here, "doing", lambda: {"uid": 1, "errno": 2}, raising=False)
    log.info("x", extra={"errno": 3})
    got = fields(journald.recv(65536))
    assert (got["CRYPTO_UID"], got["ERRNO"]) == ("1", "3")


def test_sparing() -> None:
    sparing = Sparing(most=2, window=3600)
    record = logging.LogRecord("a", 30, "f", 1, "said", (), None)
    other = logging.LogRecord("a", 30, "f", 2, "said", (), None)
    assert [sparing.filter(record) for _ in range(5)] == [True, True, False, False, False]
    assert sparing.filter(other)
    again = Sparing(most=2, window=0)
    again._places["a", 1] = (0.0, 7)
    assert again.filter(record)
    assert record.getMessage() == "said (and 5 more like it, not shown)"
