"""The thread that has CRIOGETs answered, with a nursery that cannot fork, and with a bug."""

import errno
import os
import time
from collections.abc import Callable
from typing import Any

from cuse_crypto.frontend.crioget.broker import PAUSE, SPARES, Broker, Pending
from cuse_crypto.frontend.inflight import InflightRequests
from tests.conftest import eventually


class FullMachine:
    """A nursery that cannot fork."""

    def __init__(self) -> None:
        self._orders = os.eventfd(0, os.EFD_SEMAPHORE)
        self.ordered = 0

    def fileno(self) -> int:
        return self._orders

    def order(self) -> None:
        self.ordered += 1
        os.eventfd_write(self._orders, 1)

    def take(self) -> Any:
        os.eventfd_read(self._orders)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def close(self) -> None:
        os.close(self._orders)


class Node:
    """A broker, and what it answers."""

    def __init__(self, nursery: Any) -> None:
        self.replies: list[tuple[int, int]] = []
        self.inflight = InflightRequests()
        self.broker = Broker(nursery, self.inflight, self._reply)

    def _reply(self, unique: int, error: int) -> None:
        self.replies.append((unique, error))

    def submit(self, unique: int, answered: Callable[[int], None] = lambda error: None) -> None:
        self.inflight.add(unique, os.getpid())
        self.broker.submit(Pending(0, os.getpid(), 0, 0, unique, answered))


def test_a_machine_that_is_full_is_not_asked_all_the_time() -> None:
    full = FullMachine()
    node = Node(full)
    node.submit(2)
    eventually(lambda: node.replies == [(2, errno.EOPNOTSUPP)])
    began, before = time.monotonic(), full.ordered
    time.sleep(5 * PAUSE)
    took, ordered = time.monotonic() - began, full.ordered - before
    node.broker.close()
    assert 0 < ordered <= SPARES * (took / PAUSE + 1)


def test_a_bug_of_what_counts_holds_no_caller() -> None:
    node = Node(None)

    def raises(error: int) -> None:
        raise RuntimeError("a bug")

    node.submit(2, raises)
    node.submit(4)
    eventually(lambda: node.replies == [(2, errno.EOPNOTSUPP), (4, errno.EOPNOTSUPP)])
    node.broker.close()
