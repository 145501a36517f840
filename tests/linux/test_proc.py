"""What is read from /proc, of real processes and of lines as the kernel writes them."""

import os
import signal
import subprocess
import threading

import pytest

from cuse_crypto.linux import proc
from tests.conftest import eventually

INT, CHLD, KILL = 1 << signal.SIGINT - 1, 1 << signal.SIGCHLD - 1, 1 << signal.SIGKILL - 1


@pytest.mark.parametrize(
    ("pending", "handled", "tracer", "dying"),
    [
        (0, 0, 0, False),
        (INT, 0, 0, True),
        (INT, INT, 0, False),
        (CHLD, 0, 0, False),
        (KILL, KILL, 0, True),
        (INT, 0, 4711, False),
        (INT | KILL, 0, 4711, True),
    ],
)
def test_who_dies(
    monkeypatch: pytest.MonkeyPatch,
    pending: int,
    handled: int,
    tracer: int,
    dying: bool,
) -> None:
    """A tracer may withhold any signal but SIGKILL."""
    found = {b"ShdPnd": b"%x" % pending, b"SigCgt": b"%x" % handled, b"TracerPid": b"%d" % tracer}
    monkeypatch.setattr(proc, "status", lambda thread: found)
    assert proc.is_dying(1) is dying


def test_who_is_gone_dies() -> None:
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    assert proc.is_dying(child.pid)
    assert proc.state(child.pid) == ""
    assert proc.uid_of(child.pid) is None


def test_states() -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    eventually(lambda: proc.state(child.pid) == "S")
    assert proc.uid_of(child.pid) == os.geteuid()
    child.kill()
    eventually(lambda: proc.state(child.pid) == "Z")
    child.wait()


def test_a_thread_that_does_not_copy() -> None:
    waiting, done = threading.Event(), threading.Event()
    numbers: list[int] = []

    def wait() -> None:
        numbers.append(threading.get_native_id())
        waiting.set()
        done.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(10)
    assert not proc.is_copying(numbers[0])
    assert proc.copied_from(os.getpid()) == set()
    done.set()
    thread.join()
