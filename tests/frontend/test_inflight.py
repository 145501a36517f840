"""The right to answer a request: exactly one thread has it."""

import errno
import threading

import pytest

from cuse_crypto.frontend.inflight import AlreadyReplied, InflightRequest, InflightRequests


@pytest.fixture
def table() -> InflightRequests:
    return InflightRequests()


def added(table: InflightRequests, unique: int = 4) -> InflightRequest:
    table.add(unique, 4711)
    return InflightRequest(table, unique)


def test_its_worker_claims_it(table: InflightRequests) -> None:
    request = added(table)
    assert table.thread(4) == 4711
    request.claim()
    request.claim()
    assert not table.take(4)
    assert (4 in table, table.thread(4)) == (True, 4711)
    assert request.settle()
    request.finish()
    assert (4 in table, len(table), table.thread(4)) == (False, 0, None)


def test_another_one_takes_it(table: InflightRequests) -> None:
    request = added(table)
    assert table.take(4)
    assert not table.take(4)
    assert request.is_gone
    assert request.is_abandoned()
    with pytest.raises(AlreadyReplied):
        request.claim()
    assert not request.settle()
    assert not len(table)


def test_a_caller_that_dies_in_the_middle(table: InflightRequests) -> None:
    request = added(table)
    request.claim()
    assert not request.is_abandoned()
    table.dying.add(4)
    assert request.is_abandoned()
    with pytest.raises(OSError) as interrupted:
        request.claim()
    assert interrupted.value.errno == errno.EINTR
    request.finish()
    assert not table.dying


def test_the_end(table: InflightRequests) -> None:
    """What is claimed goes on; nothing else begins."""
    before, waiting = added(table, 2), added(table, 4)
    before.claim()
    table.close()
    late = added(table, 6)
    for one in (waiting, late):
        assert not one.settle()
    assert list(table.claimed) == [2]
    before.finish()
    assert not table.claimed


def test_only_one_of_many(table: InflightRequests) -> None:
    won: list[int] = []
    start = threading.Barrier(4)

    def compete(number: int) -> None:
        for unique in range(2000):
            if not unique % 100:
                start.wait(10)
            if InflightRequest(table, unique).settle() if number % 2 else table.take(unique):
                won.append(unique)

    for unique in range(2000):
        table.add(unique, 1)
    threads = [threading.Thread(target=compete, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(2000))
