"""Signals for callers: none of them is an error, none makes the device say anything."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.conftest import ATTACKER, Spawn, as_user
from tests.conftest import Service, StartDevice

pytestmark = pytest.mark.node
Attack = Callable[..., Path]


def counts(said: str) -> list[int]:
    """Of a ``signalled``: operations, interrupted, failed."""
    return [int(word) for word in re.findall(r"\d+", said)]


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGUSR1, signal.SIGURG])
def test_many_signals(open_device: Service, attack: Attack, spawn: Spawn, number: int) -> None:
    """To eight processes, every millisecond."""
    program = attack("signalled")
    callers = [
        spawn(ATTACKER - n % 2, program, open_device.path, int(number), 1, 3000) for n in range(8)
    ]
    found = [counts(caller.communicate(timeout=60)[0]) for caller in callers]
    assert all(operations > 10 for operations, _, _ in found), found
    assert [rest for _, *rest in found] == [[0, 0]] * 8
    assert open_device.stop() == 0
    said = [line for line in open_device.said().splitlines() if "--max-busy" not in line]
    assert said == []


def test_waiting_for_ones_own_turn(start_up: StartDevice, attack: Attack, spawn: Spawn) -> None:
    """Longer than a second, behind long operations of the same user."""
    service = start_up("--engine", "openssl", "--mode", "666", "--max-busy", "1")
    program = attack("signalled")
    long = spawn(ATTACKER, program, service.path, int(signal.SIGALRM), 40, 5000, 48 << 20)
    assert counts(long.communicate(timeout=100)[0])[1:] == [0, 0]


def test_a_long_operation(open_device: Service) -> None:
    """An AEAD of 64 MiB, which is one message, with a timer."""
    program = """
import signal, sys
from cuse_crypto import CryptoDevice
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
with CryptoDevice(sys.argv[1]) as device:
    aead = device.aead("aes-gcm", bytes(16))
    for _ in range(3):
        aead.seal(bytes(12), bytes((64 << 20) - 4096))
print("done")
"""
    command = as_user(ATTACKER, sys.executable, "-c", program, open_device.path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "done\n", done.stderr
