"""notify: what is said to a supervisor arrives, descriptors too; what it gives is found."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuse_crypto import notify


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A bound datagram socket that NOTIFY_SOCKET names."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(os.fspath(path))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(path))
        yield sock


def test_notify_is_heard(supervisor: socket.socket) -> None:
    assert notify.notify("READY=1", "STATUS=serving")
    assert supervisor.recv(4096) == b"READY=1\nSTATUS=serving"


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0cuse-crypto-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@cuse-crypto-test-{os.getpid()}")
        assert notify.notify("READY=1")
        assert sock.recv(4096) == b"READY=1"


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(tmp_path / "absent"))
    assert not notify.notify("READY=1")


def test_store_passes_the_descriptor(supervisor: socket.socket) -> None:
    kept = os.memfd_create("kept")
    os.write(kept, b"what was written")
    notify.store("ledger", kept)
    os.close(kept)
    message, descriptors, _, _ = socket.recv_fds(supervisor, 4096, 4)
    assert message == b"FDSTORE=1\nFDNAME=ledger"
    (given,) = descriptors
    assert os.pread(given, 100, 0) == b"what was written"
    os.close(given)
    notify.discard("ledger")
    assert supervisor.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=ledger"


def _asked(environment: str) -> str:
    """What a new process finds that was given two descriptors."""
    script = f"""
import os
from cuse_crypto import notify
os.dup2(os.memfd_create("a"), 3), os.dup2(os.memfd_create("b"), 4)
os.environ.update({environment})
print(notify.inherited(), os.get_inheritable(4), notify.inherited())
"""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_inherited_is_named_and_asked_for_once() -> None:
    asked = _asked("LISTEN_FDS='2', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='node:ledger'")
    assert asked == "[('node', 3), ('ledger', 4)] False []"


def test_inherited_without_names() -> None:
    asked = _asked("LISTEN_FDS='2', LISTEN_PID=str(os.getpid())")
    assert asked.startswith("[('unknown', 3), ('unknown', 4)] False")


@pytest.mark.parametrize(
    "environment",
    ["LISTEN_FDS='2', LISTEN_PID='1'", "LISTEN_PID=str(os.getpid())", "LISTEN_FDS='two'"],
)
def test_what_is_for_another_process_is_left(environment: str) -> None:
    assert _asked(environment).startswith("[] ")
