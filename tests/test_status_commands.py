"""status, top, trace and replay, as a user meets them; top and trace in a real terminal."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cuse_crypto import CryptoDevice
from cuse_crypto.abi.structs import session_op
from cuse_crypto.cli.top_screen import COLUMNS, KEYS, View, draw, sparkline
from cuse_crypto.errors import Failure
from cuse_crypto.status import mount, recording
from cuse_crypto.status.client import Counter, Counters, Session
from cuse_crypto.status.history import History
from tests.conftest import Service, StartDevice, eventually
from tests.ptys import Pty
from tests.test_status import IV, KEY, MAC_KEY, PLAINTEXT, call, needs_status, work

node = pytest.mark.node


@pytest.fixture(scope="module")
def device(start_up: StartDevice) -> Service:
    return start_up("--engine", "openssl")


@pytest.fixture
def busy(device: Service) -> Iterator[None]:
    """Somebody works on the device."""
    ended = threading.Event()

    def caller() -> None:
        with CryptoDevice(device.path) as opened, opened.cipher("aes-cbc", KEY) as session:
            while not ended.wait(0.002):
                session.encrypt(PLAINTEXT, iv=IV)

    thread = threading.Thread(target=caller)
    thread.start()
    yield
    ended.set()
    thread.join()


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cuse_crypto", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def tracing(device: Service, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """``cuse-crypto trace``, once it reads."""
    trace = mount.place_of(device.path.name) / "trace"
    command = [sys.executable, "-m", "cuse_crypto", "trace", device.path.name]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            eventually(lambda: str(trace) in opened_by(process.pid))
            yield process
        finally:
            process.kill()


def opened_by(pid: int) -> list[str]:
    found = []
    for one in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(one))
    return found


@node
@needs_status
def test_status(device: Service) -> None:
    work(device.path, 3, 1)
    table = run("status", device.path.name)
    assert table.returncode == 0
    assert str(device.path) in table.stdout
    assert re.search(r"CIOCGSESSION +\d+ +\d+ +0 +[\d.]+ +EINVAL \d", table.stdout)
    (found,) = json.loads(run("status", device.path, "--json").stdout)
    assert found["info"]["node"] == str(device.path)
    assert found["ioctls"]["CIOCCRYPT"]["count"] >= 5


def test_status_of_what_is_not_there() -> None:
    for command in ("status", "top", "trace"):
        done = run(command, "no-such-device")
        assert done.returncode == 1
        assert "no status files of no-such-device; is `cuse-crypto up" in done.stderr
        assert done.stderr.count("\n") == 1


@node
@needs_status
def test_trace_with_filters(device: Service) -> None:
    with tracing(device, "--errno", "EINVAL", "--json", "--pid", os.getpid(), "--count", 2) as one:
        work(device.path, 3, 2)
        out, _ = one.communicate(timeout=30)
    events = [json.loads(line) for line in out.splitlines()]
    assert [(event["ioctl"], event["errno"]) for event in events] == [
        ("CIOCGSESSION", "EINVAL")
    ] * 2
    assert one.returncode == 0


def test_wrong_usage_of_trace() -> None:
    assert run("trace", "x", "--with-keys").returncode == 2
    assert run("trace", "x", "--data").returncode == 2


@node
@needs_status
def test_record_and_replay(device: Service, start_up: StartDevice, tmp_path: Path) -> None:
    recorded, without = tmp_path / "with-keys", tmp_path / "without"
    with (
        tracing(device, "--record", recorded, "--with-keys") as one,
        tracing(device, "--record", without) as other,
    ):
        program(device.path)
        for process, path in ((one, recorded), (other, without)):
            eventually(lambda path=path: '"cipher": 98' in path.read_text())  # type: ignore[misc]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
    assert stat.S_IMODE(recorded.stat().st_mode) == 0o600
    assert KEY.hex() in recorded.read_text()
    for secret in (KEY, MAC_KEY):
        assert secret.hex() not in without.read_text()
    total = len(recorded.read_text().splitlines()) - 1
    again = run("replay", recorded, "--device", device.path)
    assert again.stdout == f"{total} same\n"
    assert again.returncode == 0
    again = run("replay", without, "--device", device.path)
    # What was sealed with another key cannot be opened.
    assert "2 skipped (made-up keys" in again.stdout, again.stdout
    assert f"{total - 2} same" in again.stdout
    assert again.returncode == 0
    copies = start_up("--engine", "null")
    elsewhere = run("replay", recorded, "--device", copies.path)
    assert elsewhere.returncode == 1
    assert re.search(
        r"line \d+: CIOCCRYPT different: other bytes at dst: 32 bytes", elsewhere.stdout
    )
    as_json = run("replay", recorded, "--device", copies.path, "--json").stdout.splitlines()
    verdicts = {json.loads(line)["verdict"] for line in as_json}
    assert verdicts == {"same", "different"}
    refused = run("trace", device.path.name, "--record", recorded)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr


def program(path: Path) -> None:
    """Something of everything: in one, in parts, in place, chained, failing, asynchronous."""
    with CryptoDevice(path) as device:
        with device.cipher("aes-cbc", KEY) as cipher:
            cipher.encrypt(PLAINTEXT, iv=IV)
            cipher.encrypt(PLAINTEXT)
            cipher.encrypt(bytes(2 << 20), iv=IV)
            with contextlib.suppress(ValueError, OSError):
                cipher.encrypt(PLAINTEXT[:-1], iv=IV)
        with device.aead("aes-gcm", KEY) as aead:
            sealed = aead.seal(bytes(12), PLAINTEXT, b"header")
            assert aead.open(bytes(12), sealed, b"header") == PLAINTEXT
            with contextlib.suppress(Exception):
                aead.open(bytes(12), bytes(len(sealed)), b"header")
        with device.hmac("sha256", MAC_KEY) as mac:
            for _ in range(3):
                mac.update(PLAINTEXT)
            mac.digest()
        with device.cipher("aes-ctr", KEY, mac="sha1") as both:
            both.encrypt(PLAINTEXT, iv=IV)
        with contextlib.suppress(OSError):
            call(device, "CIOCGSESSION", session_op(cipher=98))


HEADER = json.dumps(recording.header_of({"api": "cryptodev"}, keys=False))
EVENT: dict[str, Any] = {
    "pid": 1, "thread": 1, "uid": 0, "file": 1, "width": 64, "ioctl": "CIOCFSESSION",
    "argument": {"value": 7}, "returned": {}, "errno": None, "hops": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "is empty"),
        (["rubbish"], "no JSON"),
        (["[]"], "no object"),
        (['{"format": "other"}'], "is no recording"),
        ([HEADER.replace('"version": 1', '"version": 99')], "version 99"),
        ([HEADER.replace("cryptodev", "other")], "no known api"),
        ([HEADER, "{}"], "line 2: pid"),
        ([HEADER, json.dumps(EVENT | {"width": 16})], "line 2: pid"),
        ([HEADER, json.dumps(EVENT | {"argument": {"other": 1}})], "line 2: argument"),
        ([HEADER, json.dumps(EVENT | {"argument": {"value": -1}})], "line 2: argument"),
        ([HEADER, json.dumps(EVENT), json.dumps(EVENT | {"hops": [1]})], "line 3: a hop"),
        ([HEADER, json.dumps(EVENT | {"hops": [{"hop": "read", "parts": [
            {"member": "src", "address": 1, "bytes": 2, "data": "00"}]}]})], "line 2: a hop"),
        ([HEADER, json.dumps(EVENT | {"hops": [{"hop": "read", "parts": [
            {"member": "src", "address": 1, "bytes": 1 << 40}]}]})], "more than"),
    ],
)  # fmt: skip
def test_what_is_no_recording(lines: list[str], why: str) -> None:
    with pytest.raises(Failure, match=why):
        list(recording.read(lines, "file")[1])


def test_replay_without_a_file_or_a_device(tmp_path: Path) -> None:
    missing = run("replay", tmp_path / "no-such-file")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    (tmp_path / "one").write_text(HEADER + "\n" + json.dumps(EVENT) + "\n")
    nowhere = run("replay", tmp_path / "one", "--device", tmp_path / "no-such-device")
    assert nowhere.returncode == 1
    assert "no-such-device: No such file or directory" in nowhere.stderr
    (tmp_path / "binary").write_bytes(os.urandom(100) + b"\xff")
    assert run("replay", tmp_path / "binary").returncode == 1


@node
@needs_status
@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (50, 200)])
def test_top_in_a_terminal(device: Service, busy: None, rows: int, columns: int) -> None:
    with Pty("top", device.path.name, "--interval", "0.25", rows=rows, columns=columns) as screen:
        screen.shows(str(device.path), "throughput", "latency", "CIOCCRYPT", KEYS)
        screen.until(lambda text: re.search(r"throughput +\d.* per s +[▁-█]{2}", text))
        assert fits(screen, rows, columns)
        for now_rows, now_columns in ((rows + 10, columns - 15), (10, 60), (rows, columns)):
            screen.resize(now_rows, now_columns)
            os.kill(screen.process.pid, signal.SIGWINCH)
            screen.until(lambda text: KEYS[:50] in text.splitlines()[-1])
        screen.type("\t")
        screen.shows("cbc(aes)", "algorithm")
        screen.type("\t>>")
        screen.shows("vmean us")
        screen.type("r")
        screen.shows("^mean us")
        screen.type("+")
        screen.shows("every 0.5 s")
        screen.type("q")
        assert screen.wait() == 0
        assert screen.modes() == screen.before


def fits(screen: Pty, rows: int, columns: int) -> bool:
    lines = screen.lines()
    return len(lines) == rows and all(len(line) <= columns for line in lines)


@node
@needs_status
@pytest.mark.parametrize("command", ["top", "trace"])
def test_ctrl_c_ends_it_at_once(device: Service, command: str) -> None:
    with Pty(command, device.path.name) as screen:
        if command == "top":
            screen.shows(KEYS)
        else:
            eventually(lambda: any(one.endswith("/trace") for one in opened_by(screen.process.pid)))
        screen.type("\x03")
        assert screen.wait() == 0
        assert screen.modes() == screen.before
        assert "Traceback" not in screen.text()


@node
@needs_status
@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (50, 200)])
def test_trace_in_a_terminal(device: Service, rows: int, columns: int) -> None:
    with Pty("trace", device.path.name, rows=rows, columns=columns) as screen:
        eventually(lambda: any(one.endswith("/trace") for one in opened_by(screen.process.pid)))
        work(device.path, 1, 1)
        screen.shows("CIOCFSESSION", "END_SESSION")
        screen.resize(rows + 3, columns - 10)
        work(device.path, 1, 1)
        screen.type("\x03")
        assert screen.wait() == 0


def test_top_without_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "info").write_text("node: /dev/x\n")
    done = run("top", tmp_path)
    assert done.returncode == 1
    assert "top is for a terminal" in done.stderr


def counters(count: int, seconds: float, buckets: list[tuple[float, int]]) -> Counters:
    return Counters({"CIOCCRYPT": Counter(count, count * 100, seconds, {"EINVAL": 1}, buckets)})


def test_history_tells_rates() -> None:
    history = History()
    session = Session(1, 42, 0, "0x1", "cbc(aes)", 10, 1000, 5, "program")
    history.add(counters(100, 1.0, [(1e-6, 100), (2e-6, 100)]), [session], 10.0)
    later = Session(1, 42, 0, "0x1", "cbc(aes)", 30, 3_000_000, 7, "program")
    history.add(counters(300, 1.002, [(1e-6, 290), (2e-6, 300)]), [later], 12.0)
    cells = history.ioctls["CIOCCRYPT"].cells
    assert (cells["per s"], cells["p99 us"]) == (100.0, 2.0)
    assert cells["mean us"] == pytest.approx(10.0)
    assert history.sessions[1, "0x1"].cells["per s"] == 10.0
    history.add(counters(300, 1.002, []), [], 13.0)
    assert not history.sessions
    assert list(history.total.throughput) == [100.0, 0.0]


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (40, 8), (20, 5), (1, 1)])
@pytest.mark.parametrize("table", list(COLUMNS))
def test_the_screen_has_its_size(size: tuple[int, int], table: str) -> None:
    history = History()
    for time in range(3):
        sessions = [
            Session(1, n, 0, f"{n:#x}", "cbc(aes)+hmac(sha256)", n * time, n, 5, "long " * 9)
            for n in range(100)
        ]
        history.add(counters(10 * time, time, [(1e-3, 10 * time)]), sessions, float(time))
    width, height = size
    drawn = draw(history, {"node": "/dev/x"}, View(table=table), width, height).plain
    lines = drawn.split("\n")
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)


def test_sparklines() -> None:
    assert sparkline([9, 1, 2, 4], 3) == sparkline([1, 2, 4], 3)
    assert sparkline([1, 2, 4], 10)[-1] == "█"
    assert sparkline([], 10) == ""
    assert sparkline([0.0, 0.0], 5) == "▁▁"
