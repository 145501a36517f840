"""What devices and back ends tell a supervisor: ready, alive, ending; and early devices."""

import errno
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cuse_crypto import CryptoDevice, notify
from cuse_crypto.frontend.pulse import Pulse
from tests.conftest import fresh_name, start


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that NOTIFY_SOCKET names, of one who wants to hear from a living process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(os.fspath(tmp_path / "notify"))
        sock.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        yield sock


def told(supervisor: socket.socket, wanted: str) -> str:
    """The next message with that line, when it has come."""
    while True:
        message = supervisor.recv(4096).decode()
        if wanted in message.splitlines():
            return message


def test_a_back_end_is_ready_alive_and_ends(supervisor: socket.socket, tmp_path: Path) -> None:
    """The socket is kept: a confined back end can open no other one."""
    service = start("backend", "--listen", f"unix:{tmp_path}/s", "--engine", "null")
    try:
        assert "STATUS=unix:" in told(supervisor, "READY=1")
        for _ in range(3):
            told(supervisor, "WATCHDOG=1")
    finally:
        assert service.stop() == 0
    told(supervisor, "STOPPING=1")


@pytest.mark.node
def test_an_early_device(supervisor: socket.socket, tmp_path: Path, node_kind: str) -> None:
    """It is there without a back end, says ENODEV, and works as soon as there is one."""
    address, name = f"unix:{tmp_path}/s", fresh_name()
    path = Path("/dev") / name
    device = ["device", "--backend", address, "--early", "--name", name, "--node", node_kind]
    service = start(*device, "--patience", "0", path=path)
    try:
        assert f"STATUS={path} ({node_kind} node" in told(supervisor, "READY=1")
        with pytest.raises(OSError) as caught:
            os.open(path, os.O_RDWR)
        assert caught.value.errno == errno.ENODEV
        backend = start("backend", "--listen", address, "--engine", "openssl")
        try:
            with CryptoDevice(path) as opened:
                digest = opened.hash("sha256", b"abc").hexdigest()
        finally:
            backend.stop()
        assert digest.startswith("ba7816bf8f01cfea")
        told(supervisor, "WATCHDOG=1")
    finally:
        assert service.stop() == 0
    told(supervisor, "STOPPING=1")
    assert not path.exists()


@pytest.mark.node
def test_a_device_whose_loop_hangs_is_silent(
    supervisor: socket.socket, tmp_path: Path, node_kind: str
) -> None:
    name = fresh_name()
    device = ["device", "--backend", f"unix:{tmp_path}/s", "--early", "--name", name]
    service = start(*device, "--node", node_kind, path=Path("/dev") / name)
    try:
        told(supervisor, "WATCHDOG=1")
        service.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, service.process.pid, os.WSTOPPED | os.WNOWAIT)
        while select.select([supervisor], [], [], 0)[0]:
            supervisor.recv(4096)
        supervisor.settimeout(1)
        with pytest.raises(TimeoutError):
            supervisor.recv(4096)
        service.process.send_signal(signal.SIGCONT)
        supervisor.settimeout(30)
        told(supervisor, "WATCHDOG=1")
    finally:
        service.process.send_signal(signal.SIGCONT)
        assert service.stop() == 0


@pytest.mark.node
def test_a_supervisor_that_does_not_listen_stops_nobody(
    supervisor: socket.socket, tmp_path: Path, node_kind: str
) -> None:
    name = fresh_name()
    device = ["device", "--backend", f"unix:{tmp_path}/s", "--early", "--patience", "0"]
    service = start(*device, "--name", name, "--node", node_kind, path=Path("/dev") / name)
    try:
        filler = notify.Supervisor()
        with pytest.raises(BlockingIOError):
            _fill(filler)
        filler.close()
        with pytest.raises(OSError) as caught:
            os.open(service.path, os.O_RDWR)
        assert caught.value.errno == errno.ENODEV
    finally:
        assert service.stop() == 0


def _fill(filler: notify.Supervisor) -> None:
    assert filler._socket
    while True:
        filler._socket.send(b"X=1", socket.MSG_DONTWAIT)


def test_nobody_supervises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.Supervisor().tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(tmp_path / "absent"))
    gone = notify.Supervisor()
    gone.tell("READY=1")
    gone.close()


@pytest.mark.parametrize(
    ("microseconds", "pid", "period"),
    [("2000000", None, 2.0), ("2000000", "1", None), ("", None, None), ("soon", None, None)],
)
def test_watchdog_period(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str | None, period: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert notify.watchdog_period() == period


def test_pulse() -> None:
    """Silent only when something waits, nobody reads, and nothing has moved since the last look."""
    reading, writing = os.pipe()
    crew: Any = SimpleNamespace(readers=[None])
    queue: Any = SimpleNamespace(requests=5)
    under_way = [1]
    pulse = Pulse(reading, crew, [queue], lambda: list(under_way))
    try:
        assert [pulse.beats(), pulse.beats()] == [True, True]
        crew.readers.clear()
        # Nothing waits: all are at work.
        assert [pulse.beats(), pulse.beats()] == [True, True]
        os.write(writing, b"a request")
        assert [pulse.beats(), pulse.beats(), pulse.beats()] == [True, False, False]
        queue.requests += 1
        assert [pulse.beats(), pulse.beats()] == [True, False]
        under_way.append(2)
        assert pulse.beats()
        crew.readers.append(None)
        assert pulse.beats()
    finally:
        os.close(reading)
        os.close(writing)
