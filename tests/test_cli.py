"""The commands: how they start, fail and end. One clear line, the right status, nothing left."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cuse_crypto import CryptoDevice
from tests.conftest import StartDevice, eventually, fresh_name, start


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "cuse_crypto", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def leftovers() -> list[str]:
    """Folders of services that are not there any more: nobody holds their locks."""
    found = []
    for folder in Path("/run/cuse-crypto/.up").glob("up-*"):
        lock = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append(folder.name)
        os.close(lock)
    return found


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("cuse-crypto: ")
    return lines[0]


@pytest.mark.parametrize(
    "command", [[], ["up"], ["device"], ["backend"], ["bench"], ["doctor"], ["run"]]
)
def test_help(command: list[str]) -> None:
    done = run(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: cuse-crypto" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["up", "--node", "none"],
        ["up", "--mode", "0999"],
        ["up", "--deadline", "0"],
        ["device"],
        ["device", "--backend", "somewhere"],
        ["backend", "--listen", "tcp"],
        ["backend", "--listen", "unix:/x", "--engine", "magic"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_include_dir() -> None:
    assert (Path(run("include-dir").stdout.strip()) / "crypto" / "cryptodev.h").is_file()


def test_doctor() -> None:
    done = run("doctor", "--json")
    report = json.loads(done.stdout)
    looked = {row["what"] for row in report["findings"]}
    assert looked == {
        *("CUSE", "FUSE", "private /dev", "caller memory", "tracing", "host /dev/crypto", "AF_ALG"),
        *("libseccomp", "pyfuse3", "systemd"),
    }
    for row in report["findings"]:
        assert row["works"] == (row["problem"] is None)
        assert row["works"] or "; " in row["problem"], "a problem names its remedy"
    assert done.returncode == (report["auto"]["node"] is None)
    table = run("doctor")
    assert "auto takes: node" in table.stdout
    assert table.returncode == done.returncode


@pytest.mark.node
def test_no_back_end(tmp_path: Path, node_kind: str) -> None:
    address = f"unix:{tmp_path}/none"
    name = fresh_name()
    done = run("device", "--backend", address, "--name", name, "--node", node_kind)
    assert f"cuse-crypto backend --listen {address}" in one_line(done)
    assert name not in os.listdir("/dev")


def test_engine_that_is_not_here(tmp_path: Path) -> None:
    environment = os.environ | {"CUSE_CRYPTO_HOST_DEVICE": "/dev/no-such-crypto"}
    listen = ["backend", "--listen", f"unix:{tmp_path}/s"]
    done = run(*listen, "--engine", "cryptodev", env=environment)
    assert "use --engine openssl" in one_line(done)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_backend_ends_in_order(tmp_path: Path, number: int) -> None:
    service = start("backend", "--listen", f"unix:{tmp_path}/s", "--engine", "null")
    assert "engine null" in service.ready
    assert service.stop(number) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.node
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_in_order(start_up: StartDevice, number: int) -> None:
    service = start_up()
    file = os.open(service.path, os.O_RDWR)
    pids = [service.child("backend"), service.child("device")]
    assert service.stop(number) == 0
    assert not service.path.exists()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    with pytest.raises(OSError):
        os.read(file, 1)
    os.close(file)


@pytest.mark.node
def test_a_killed_front_end_is_replaced(start_up: StartDevice) -> None:
    service = start_up("--engine", "openssl")
    with CryptoDevice(service.path) as device, device.cipher("aes-cbc", bytes(16)) as session:
        secret = session.encrypt(bytes(64), iv=bytes(16))
        for _ in range(2):
            killed = service.child("device")
            os.kill(killed, signal.SIGKILL)
            assert session.encrypt(bytes(64), iv=bytes(16)) == secret
            assert service.child("device") != killed
    assert service.stop() == 0
    assert service.path.name not in os.listdir("/dev")
    assert "the front end was killed by SIGKILL; starting another one" in service.said()


@pytest.mark.node
def test_a_killed_back_end_is_replaced(start_up: StartDevice) -> None:
    service = start_up("--engine", "openssl")
    with CryptoDevice(service.path) as device, device.cipher("aes-cbc", bytes(16)) as session:
        secret = session.encrypt(bytes(64), iv=bytes(16))
        for _ in range(3):
            os.kill(service.child("backend"), signal.SIGKILL)
            # The session goes on, as if nothing had happened.
            assert session.encrypt(bytes(64), iv=bytes(16)) == secret
        assert device.hmac("sha256", b"key", b"data").hexdigest().startswith("5031fe3d989c6d15")
    assert service.stop() == 0
    assert service.said().count("starting another one") == 3


@pytest.mark.node
def test_what_a_killed_predecessor_left_is_cleaned_up(start_up: StartDevice) -> None:
    service = start_up()
    for pid in (service.process.pid, service.child("device"), service.child("backend")):
        os.kill(pid, signal.SIGKILL)
    service.stop()
    again = start_up(name=service.path.name)
    os.close(os.open(again.path, os.O_RDWR))
    assert again.stop() == 0
    assert not again.path.exists()


@pytest.mark.node
def test_children_do_not_outlive_up(start_up: StartDevice) -> None:
    service = start_up()
    pids = [service.child("backend"), service.child("device")]
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    assert service.path.name not in os.listdir("/dev")


@pytest.mark.node
def test_name_taken(start_up: StartDevice, node_kind: str) -> None:
    service = start_up()
    done = run("up", "--name", service.path.name, "--node", node_kind)
    assert "is taken" in one_line(done)
    os.close(os.open(service.path, os.O_RDWR))
    assert service.stop() == 0


@pytest.mark.node
@pytest.mark.parametrize("name", ["null", "../tmp/x", "", "pts", "a=b", "x" * 65])
def test_name_that_cannot_be(name: str, node_kind: str) -> None:
    before = os.stat("/dev/null").st_rdev
    assert "--name" in one_line(run("up", "--name", name, "--node", node_kind)) or name != "null"
    assert os.stat("/dev/null").st_rdev == before


@pytest.mark.node
def test_unknown_owner(node_kind: str) -> None:
    name = fresh_name()
    done = run("up", "--name", name, "--owner", "no-such-user", "--node", node_kind)
    assert "no-such-user" in one_line(done)
    assert name not in os.listdir("/dev")
    assert not leftovers()


@pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root")
def test_not_root() -> None:
    # The interpreter may lie where another user cannot start it: so change user in its middle.
    program = (
        "import os, sys, setproctitle\n"
        "import cuse_crypto.cli.up, cuse_crypto.fuse.cuse_node\n"
        "from cuse_crypto.cli.main import main\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv = ['cuse-crypto', 'up']\n"
        "main()"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "run as root" in one_line(done)
    assert "cryptodev0" not in os.listdir("/dev")
