"""What a child has kept for its successor: by the words of sd_notify(3)."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuse_crypto import notify
from cuse_crypto.cli.keeper import Keeper


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    kept = Keeper(tmp_path / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(kept.path))
    yield kept
    kept.close()


def file_of(content: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, content)
    return fd


def kept(keeper: Keeper) -> dict[str, bytes]:
    """Names and contents."""
    keeper.collect()
    words = (argument.removeprefix("--inherit=").rpartition("=") for argument in keeper.arguments())
    return {name: os.pread(int(fd), 100, 0) for name, _, fd in words}


def test_the_last_word_counts(keeper: Keeper) -> None:
    first, second = file_of(b"first"), file_of(b"second")
    notify.store("node.cuse", first)
    notify.store("ledger", first)
    notify.store("ledger", second)
    notify.store("own.1.0", second)
    notify.discard("own.1.0")
    notify.discard("own.1.0")
    os.close(first)
    os.close(second)
    assert kept(keeper) == {"node.cuse": b"first", "ledger": b"second"}
    assert not any(os.get_inheritable(fd) for fd in keeper.descriptors)


def test_what_makes_no_sense_is_left(keeper: Keeper) -> None:
    fd = file_of(b"")
    before = len(os.listdir("/proc/self/fd"))
    notify.notify("READY=1")
    notify.notify("FDSTORE=1", descriptors=[fd])
    notify.notify("FDSTORE=1", "FDNAME=two", descriptors=[fd, fd])
    notify.notify("FDSTORE=1", "FDNAME=none")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"\xff\0=\n\n=", os.fspath(keeper.path))
    assert kept(keeper) == {}
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(fd)


def test_everything_is_given_back(keeper: Keeper) -> None:
    fd = file_of(b"")
    notify.store("ledger", fd)
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    keeper.collect()
    keeper.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert not keeper.path.exists()
