"""Callers whose memory does not come: no other user notices, and everything still ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from cuse_crypto.linux import proc
from tests.attacks.conftest import ATTACKER, BYSTANDER, as_user
from tests.conftest import Service, StartDevice, children, eventually, fresh_name, start

pytestmark = pytest.mark.node
Attack = Callable[..., Path]
PROMPT = 2e6
"""Microseconds in which another user's open and first operation are done."""
LOADED = 20_000
"""Microseconds that an operation may take where other tests have the CPUs."""


class Latency(NamedTuple):
    """Microseconds, and operations, of a bystander."""

    first: int
    median: int
    p99: int
    longest: int
    operations: int


@pytest.fixture
def bystander(attack: Attack) -> Callable[..., Latency]:
    """``bystander(PATH, milliseconds)``: an ordinary caller of another user."""
    program = attack("bystander")

    def call(path: Path, milliseconds: int = 0, uid: int = BYSTANDER) -> Latency:
        command = as_user(uid, program, path, milliseconds)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return Latency(*map(int, re.findall(r"\d+", done.stdout.replace("p99", ""))))

    return call


class Attacker:
    """A running ``hung_pages``."""

    def __init__(self, program: Path, path: Path, uid: int, where: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [program, path, str(uid), where, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        assert self.process.stdout
        self.said = self.process.stdout.readline().split()

    def release(self) -> str:
        """Have the memory come; what it says then."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """The caller alone; the server of its file system goes on not answering."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """All of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def hang(attack: Attack) -> Iterator[Callable[..., Attacker]]:
    """``hang(PATH, where, threads, uid)``: an attacker whose threads are in their ioctls."""
    program = attack("hung_pages")
    attackers: list[Attacker] = []

    def begin(
        path: Path, where: str = "source", threads: int = 20, uid: int = ATTACKER
    ) -> Attacker:
        attackers.append(Attacker(program, path, uid, where, threads))
        assert attackers[-1].said[:1] == ["hanging"]
        return attackers[-1]

    yield begin
    for one in attackers:
        one.close()


@pytest.fixture
def warm_device(start_up: StartDevice, attack: Attack) -> Service:
    """A device of whose workers all have a back end, so that an attack has to hold them all."""
    service = start_up("--engine", "openssl", "--mode", "666")
    command = [str(attack("bystander")), str(service.path), "500"]
    callers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(20)]
    assert [one.wait(60) for one in callers] == [0] * 20
    return service


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize("where", ["source", "destination", "iv", "key", "mac", "aad", "lock"])
def test_another_user_does_not_notice(
    warm_device: Service,
    hang: Callable[..., Attacker],
    bystander: Callable[..., Latency],
    where: str,
) -> None:
    path = warm_device.path
    alone = bystander(path, 500)
    attacker = hang(path, where)
    meanwhile = bystander(path, 500)
    assert meanwhile.first < PROMPT
    assert meanwhile.p99 < max(10 * alone.p99, LOADED)
    assert threads_of(warm_device.child("device")) < 60
    assert attacker.release() == "20 done"
    assert bystander(path, 0, ATTACKER).first < PROMPT, "who attacked is served again"


@pytest.mark.parametrize(("users", "threads"), [(1, 100), (3, 20), (16, 20)])
def test_many_threads_and_users(
    warm_device: Service,
    hang: Callable[..., Attacker],
    bystander: Callable[..., Latency],
    users: int,
    threads: int,
) -> None:
    path = warm_device.path
    alone = bystander(path, 500)
    attackers = [hang(path, "source", threads, ATTACKER - 10 - user) for user in range(users)]
    meanwhile = bystander(path, 500)
    assert meanwhile.first < PROMPT
    assert meanwhile.p99 < max(10 * alone.p99, LOADED)
    device = warm_device.child("device")
    assert threads_of(device) < 100
    assert len(os.listdir(f"/proc/{device}/fd")) < 600
    for one in attackers:
        one.kill()
    assert bystander(path).first < PROMPT, "their workers hang on"
    for one in attackers:
        one.close()
    # Those that hung come back, and are one too many each.
    eventually(lambda: bystander(path).first < PROMPT and threads_of(device) < 30)


@pytest.mark.parametrize(("users", "threads"), [(8, 15)])
def test_operations_that_go_on_slowly(
    warm_device: Service,
    hang: Callable[..., Attacker],
    bystander: Callable[..., Latency],
    users: int,
    threads: int,
) -> None:
    """Each part of them is done in time; threads of the same user wait for their session."""
    path = warm_device.path
    attackers = [hang(path, "slow", threads, ATTACKER - 10 - user) for user in range(users)]
    assert bystander(path).first < PROMPT
    assert bystander(path, 500).first < PROMPT
    for one in attackers:
        one.close()
    device = warm_device.child("device")
    eventually(lambda: bystander(path).first < PROMPT and threads_of(device) < 30)


def test_callers_that_die_while_they_wait_are_not_logged(
    warm_device: Service, hang: Callable[..., Attacker], bystander: Callable[..., Latency]
) -> None:
    attacker = hang(warm_device.path, "lock")
    # The server of its file system ends with it, and the others find their memory gone.
    attacker.close()
    assert bystander(warm_device.path, 500).first < PROMPT
    warm_device.stop()
    assert "caller memory" not in warm_device.said()


@pytest.mark.parametrize("where", ["source", "destination"])
def test_a_killed_front_end_is_succeeded(
    warm_device: Service,
    hang: Callable[..., Attacker],
    bystander: Callable[..., Latency],
    where: str,
) -> None:
    path = warm_device.path
    attacker = hang(path, where)
    before = warm_device.child("device")
    os.kill(before, signal.SIGKILL)
    began = time.monotonic()
    assert bystander(path).first < 4 * PROMPT
    assert time.monotonic() - began < 8
    assert [pid for pid in device_processes(warm_device) if pid != before]
    assert attacker.release() == "20 done"
    assert bystander(path, 0, ATTACKER).first < PROMPT
    eventually(lambda: before not in device_processes(warm_device))


def device_processes(service: Service) -> list[int]:
    """Front ends, the dead ones among them."""
    found = []
    for pid in children(service.process.pid):
        with suppress(OSError):
            if "cuse-crypto backend" not in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(pid)
    return found


@pytest.mark.parametrize("where", ["source", "destination", "key"])
def test_it_ends_and_starts_again(
    hang: Callable[..., Attacker], bystander: Callable[..., Latency], where: str, node_kind: str
) -> None:
    name = fresh_name()
    up = ["up", "--name", name, "--node", node_kind, "--engine", "openssl", "--mode", "666"]
    service = start(*up, path=Path("/dev") / name)
    hang(service.path, where)
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < 5
    assert f"memory of uid {ATTACKER} that does not come" in service.said()
    assert name not in os.listdir("/dev")
    again = start(*up, path=service.path)
    try:
        assert bystander(again.path).first < PROMPT
    finally:
        assert again.stop() == 0


def test_all_are_killed(
    hang: Callable[..., Attacker], bystander: Callable[..., Latency], node_kind: str
) -> None:
    """The dead front end keeps what it has open; a new one of the same name starts."""
    if node_kind != "mounted":
        pytest.skip("a cuse node stays as long as a dead process has its channel")
    name = fresh_name()
    up = ["up", "--name", name, "--node", node_kind, "--engine", "openssl", "--mode", "666"]
    service = start(*up, "--status", "off", path=Path("/dev") / name)
    hang(service.path)
    front = service.child("device")
    service.process.kill()
    service.process.wait()
    os.kill(front, signal.SIGKILL)
    eventually(lambda: proc.state(front) == "Z")
    for stream in (service.process.stdout, service.process.stderr):
        assert stream
        stream.close()
    again = start(*up, path=service.path)
    try:
        assert bystander(again.path).first < PROMPT
    finally:
        assert again.stop() == 0
    assert name not in os.listdir("/dev")


def test_upgrade(
    warm_device: Service, hang: Callable[..., Attacker], bystander: Callable[..., Latency]
) -> None:
    """Another process takes over, for this one cannot become another program."""
    hang(warm_device.path)
    before = warm_device.child("device")
    command = [sys.executable, "-m", "cuse_crypto", "upgrade", warm_device.path.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith(f"upgraded: {warm_device.path}"), done.stderr
    assert bystander(warm_device.path).first < PROMPT
    assert any(pid != before for pid in device_processes(warm_device))


def test_an_upgrade_during_which_a_thread_begins_to_hang(
    open_device: Service, hang: Callable[..., Attacker]
) -> None:
    """After the last look at those that hang: the process ends, for its successor."""
    attacker = hang(open_device.path, threads=1)
    *_, victim, address = attacker.said
    program = """
import ctypes, sys, threading, time
from cuse_crypto.cli import renewal

def copy():
    here = ctypes.create_string_buffer(1)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(here), 1)
    remote = (ctypes.c_size_t * 2)(int(sys.argv[2]), 1)
    ctypes.CDLL(None).process_vm_readv(int(sys.argv[1]), local, 1, remote, 1, 0)

threading.Thread(target=copy, daemon=True).start()
time.sleep(0.3)
renewal.START = 0.5
renewal.renew({})
"""
    front = subprocess.Popen([sys.executable, "-c", program, victim, address])
    try:
        eventually(lambda: proc.state(front.pid) == "Z")
        assert proc.copied_from(front.pid) == {int(victim)}
    finally:
        attacker.close()
        front.kill()
        assert front.wait(30) < 0


def test_an_upgrade_that_nobody_could_take_over(
    hang: Callable[..., Attacker], tmp_path: Path, node_kind: str
) -> None:
    name, address = fresh_name(), f"unix:{tmp_path}/s"
    back = start("backend", "--listen", address, "--engine", "openssl")
    front = ["device", "--backend", address, "--name", name, "--node", node_kind, "--mode", "666"]
    service = start(*front, path=Path("/dev") / name)
    try:
        attacker = hang(service.path)
        command = [sys.executable, "-m", "cuse_crypto", "upgrade", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert f"memory of uid {ATTACKER} that does not come" in done.stderr
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        # It could end as well, but no process ends while its threads hang.
        attacker.close()
    finally:
        service.stop()
        back.stop()
