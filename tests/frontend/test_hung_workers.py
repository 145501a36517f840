"""Whose memory a worker hangs in: of the user who has made the request, and of no other one."""

from types import SimpleNamespace
from typing import Any

import pytest

from cuse_crypto.frontend import hung_workers
from cuse_crypto.frontend.files import OpenFiles
from cuse_crypto.frontend.hung_workers import LOOKS, Caller, HungWorkers
from cuse_crypto.fuse.protocol import BY_NAME, IN_HEADER, fuse_in_header

OPCODE = BY_NAME["FUSE_OPEN"].number


def request(unique: int, thread: int, uid: int) -> memoryview:
    header = fuse_in_header(IN_HEADER.size, OPCODE, unique, 1, uid, 0, thread, 0, 0)
    return memoryview(bytearray(IN_HEADER.bytes(header)))


class Worker:
    """One that copies for uid 1."""

    thread, serving, turn = 0, True, None

    def __init__(self) -> None:
        self.queue = SimpleNamespace(waiting=False, requests=0)
        self.request = request(2, 11, 1)


def test_a_worker_that_goes_on_to_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment when it is found out that it hangs."""
    worker: Any = Worker()
    found = HungWorkers([worker], OpenFiles(), 2)
    for _ in range(LOOKS):
        assert not found.look().by_user

    def goes_on(thread: int) -> bool:
        worker.request = request(4, 12, 2)
        return True

    monkeypatch.setattr(hung_workers, "is_copying", goes_on)
    hung = found.look()
    assert not hung.by_user, "neither the one that goes on nor the next one hangs"
    assert not hung.callers
    monkeypatch.setattr(hung_workers, "is_copying", lambda thread: True)
    for _ in range(LOOKS):
        hung = found.look()
    hung = found.look()
    assert hung.by_user == {2: 1}
    assert hung.callers == {4: Caller(12, 2)}
