"""CRIOGET makes a caller make a system call: no caller becomes more by that, or stops others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.conftest import BYSTANDER, Spawn, as_user
from tests.conftest import Service, StartDevice, children, eventually

pytestmark = pytest.mark.node

Attack = Callable[..., Path]
ATTACKERS = 61530, 61531, 61532
"""User ids that nothing else here has: one attack kills all processes of its user that it finds."""
UNSUPPORTED = os.strerror(95)
TRIES = 100


@pytest.fixture(scope="module")
def shared(start_up: StartDevice) -> Service:
    """A device for attacks that leave it as it was."""
    return start_up("--engine", "openssl", "--mode", "666")


@pytest.fixture
def setuid_program(attack: Attack) -> Iterator[Path]:
    """Of root, where callers' own code is; on a file system that heeds that."""
    flags = "-static", "-nostdlib", "-no-pie", "-Wl,-Ttext=0x50000000"
    program = attack("crioget_setuid", *flags)
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        pytest.skip("programs may not be setuid here")
    program.chmod(0o4755)
    yield program
    program.chmod(0o755)


def output(uid: int, *command: object, seconds: float = 120) -> str:
    """What a program of that user writes; it has to end by itself."""
    done = subprocess.run(
        as_user(uid, *command), capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def callers(program: Path, device: Path, kind: str, uid: int = ATTACKERS[0]) -> int:
    """The errno that a caller of that kind gets; 200 and the signal where it is killed."""
    error, _ = output(uid, program, device, kind, seconds=60).split()
    return int(error)


def test_no_setuid_program_in_place_of_dup(
    attack: Attack, shared: Service, setuid_program: Path
) -> None:
    said = output(ATTACKERS[0], attack("crioget_swap"), shared.path, setuid_program, TRIES)
    assert said.startswith("root 0 user 0 dropped "), said
    assert int(said.split()[-1]) > TRIES // 10, "the instruction was hardly ever changed in time"


@pytest.mark.parametrize("how", ["loop", "illegal", "stop", "trace", "hunt"])
def test_others_do_not_wait(attack: Attack, shared: Service, spawn: Spawn, how: str) -> None:
    """However long 48 callers of three users make it take, and whatever they do to helpers."""
    hold, work = attack("crioget_hold"), attack("crioget_work")
    holding = [spawn(uid, hold, shared.path, how, 16) for uid in ATTACKERS]
    time.sleep(0.5)
    said = output(BYSTANDER, work, shared.path, 3, seconds=30)
    assert " failed 0 " in said
    _, rounds, _, _, _, longest = said.split()
    assert int(longest) < 2000, said
    assert int(rounds) > 5, said
    for one in holding:
        os.killpg(one.pid, signal.SIGKILL)
        assert one.communicate(timeout=10)[0] == ""


def test_their_user_goes_on_when_they_are_gone(
    attack: Attack, shared: Service, spawn: Spawn
) -> None:
    holding = spawn(ATTACKERS[0], attack("crioget_hold"), shared.path, "loop", 16)
    time.sleep(1)
    os.killpg(holding.pid, signal.SIGKILL)
    said = output(ATTACKERS[0], attack("crioget_work"), shared.path, 0.5, seconds=10)
    assert " failed 0 " in said


def test_an_execve_beside_it(attack: Attack, open_device: Service) -> None:
    """The exec waits for the caller, who waits for an answer; a tracer would wait for the exec."""
    assert output(ATTACKERS[0], attack("crioget_beside"), open_device.path, 125) == "hung 0"
    assert " failed 0 " in output(BYSTANDER, attack("crioget_work"), open_device.path, 0.5)
    began = time.monotonic()
    assert open_device.stop() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("plain", 0),
        ("threads", 0),
        ("without-leader", 0),
        ("vforked", 0),
        ("in-pid-namespace", 0),
        ("in-user-namespace", 0),
        ("in-container", 0),
        ("no-processes", 0),
        ("storm", 0),
        ("mask", 0),
        ("killed", 0),
        ("unmapped", 14),
        ("read-only", 14),
        ("missing-page", 14),
        ("no-descriptors", 24),
        ("not-dumpable", 95),
        ("traced", 95),
        ("filtered", 95),
        ("sandboxed-in-container", 95),
    ],
)
@pytest.mark.parametrize("bits", ["64", "32"])
def test_callers(attack: Attack, shared: Service, kind: str, error: int, bits: str) -> None:
    """Each gets its descriptor or an errno, and goes on as it was: none is killed."""
    program = attack("crioget_callers", *(["-m32"] if bits == "32" else []))
    found = callers(program, shared.path, kind)
    if found == 251:
        pytest.skip("no userfaultfd for users here")
    assert found == error


def test_a_killed_nursery_is_said_once_and_refuses(attack: Attack, start_up: StartDevice) -> None:
    device = start_up("--engine", "null", "--mode", "666")
    program = attack("crioget_callers")
    assert callers(program, device.path, "plain") == 0
    os.kill(nursery_of(device), signal.SIGKILL)
    assert callers(program, device.path, "plain") == 95
    assert callers(program, device.path, "plain") == 95
    assert device.stop() == 0
    assert device.said().count("CRIOGET is off") == 1


def nursery_of(device: Service) -> int:
    """The pid of the process that forks helpers."""
    (nursery,) = _nurseries(device)
    return nursery


def _nurseries(device: Service) -> list[int]:
    return [
        pid
        for pid in children(device.child("device"))
        if Path(f"/proc/{pid}/comm").read_text() == "cuse-crioget\n"
    ]


def test_it_ends_with_the_front_end_and_is_there_for_the_next_one(
    attack: Attack, start_up: StartDevice
) -> None:
    device = start_up("--engine", "null", "--mode", "666")
    program = attack("crioget_callers")
    assert callers(program, device.path, "plain") == 0
    front, nursery = device.child("device"), nursery_of(device)
    left = {nursery, *children(nursery)}
    os.kill(front, signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}/status").exists() for pid in left))
    assert callers(program, device.path, "plain") == 0
    assert nursery_of(device) not in left
    assert device.stop() == 0


def test_helpers_that_wait_end_with_an_upgrade(attack: Attack, start_up: StartDevice) -> None:
    device = start_up("--engine", "null", "--mode", "666")
    assert callers(attack("crioget_callers"), device.path, "plain") == 0
    nursery = nursery_of(device)
    before = set(children(nursery))
    assert before
    upgrade = [sys.executable, "-m", "cuse_crypto", "upgrade", device.path.name]
    subprocess.run(upgrade, check=True, timeout=60, stdout=subprocess.DEVNULL)
    eventually(lambda: not before & set(children(nursery)), seconds=10)
    assert callers(attack("crioget_callers"), device.path, "plain") == 0
    assert nursery_of(device) == nursery
    assert device.stop() == 0


def test_callers_while_front_ends_are_killed(
    attack: Attack, spawn: Spawn, start_up: StartDevice
) -> None:
    device = start_up("--engine", "null", "--mode", "666")
    work = spawn(BYSTANDER, attack("crioget_work"), device.path, 5)
    for _ in range(4):
        time.sleep(0.8)
        _kill_front_end(device)
    said, _ = work.communicate(timeout=60)
    assert " failed 0 " in said, said
    assert device.stop() == 0


def _kill_front_end(device: Service) -> None:
    """And wait for the next one."""
    before = device.child("device")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: _has_device(device) and device.child("device") != before)


def _has_device(device: Service) -> bool:
    try:
        return bool(nursery_of(device))
    except (AssertionError, ValueError, OSError):
        return False


def test_off(attack: Attack, start_up: StartDevice) -> None:
    device = start_up("--engine", "null", "--mode", "666", "--crioget", "off")
    assert callers(attack("crioget_callers"), device.path, "plain") == 95
    assert not _nurseries(device)
    assert device.stop() == 0


def test_no_filter_at_all(attack: Attack, start_up: StartDevice) -> None:
    device = start_up("--engine", "null", "--mode", "666", "--crioget", "unfiltered")
    assert callers(attack("crioget_callers"), device.path, "plain") == 0
    assert callers(attack("crioget_callers"), device.path, "in-container") == 95
    assert device.stop() == 0


def test_the_log_names_the_cause_once(attack: Attack, start_up: StartDevice) -> None:
    device = start_up("--engine", "null", "--mode", "666")
    program = attack("crioget_callers")
    for _ in range(3):
        assert callers(program, device.path, "not-dumpable") == 95
    assert callers(program, device.path, "filtered") == 95
    assert device.stop() == 0
    lines = [line for line in device.said().splitlines() if "CRIOGET is refused" in line]
    assert len(lines) == 2
    assert "dumpable" in lines[0]
    assert "filter of its own" in lines[1]


def test_a_helper_has_nothing(attack: Attack, shared: Service) -> None:
    """Those that wait have one descriptor, and what the kernel shows of them is root's."""
    assert callers(attack("crioget_callers"), shared.path, "plain") == 0
    nursery = nursery_of(shared)
    eventually(lambda: len(children(nursery)) >= 2)
    (helper, *_) = children(nursery)
    assert os.listdir(f"/proc/{helper}/fd") == ["0"]
    for pid in (nursery, helper):
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1\n" in status
        # SETUID, SETGID, KILL, SYS_PTRACE, DAC_OVERRIDE
        assert f"CapEff:\t{0x800E2:016x}\n" in status
