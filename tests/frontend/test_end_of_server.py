"""The end of a node's server: what hangs is not waited for, and all else is."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from cuse_crypto.frontend.hung_workers import Caller
from cuse_crypto.frontend.inflight import InflightRequest
from cuse_crypto.frontend.server import Server
from cuse_crypto.fuse.protocol import IN_HEADER, fuse_in_header
from cuse_crypto.wire.address import Address
from tests.test_frontend_server import FakeNode

HUNG = {2: Caller(11, 65534), 4: Caller(12, 65534)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    node = FakeNode()
    yield Server(node, Address.parse(f"unix:{tmp_path}/s"), workers=4, deadline=20)
    node.close()


def test_a_result_that_is_being_written(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller's memory is the caller's alone once the node has gone."""
    server.hung = HUNG
    server.inflight.add(6, 13)
    request = InflightRequest(server.inflight, 6)
    request.claim()
    claimed: list[list[int]] = []
    monkeypatch.setattr(server.node, "abort", lambda: claimed.append([*server.inflight.claimed]))

    async def finish() -> None:
        while not server.inflight.closed:
            await trio.sleep(0.005)
        await trio.sleep(0.05)
        request.finish()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish)
            nursery.start_soon(server.stop)

    trio.run(main)
    assert claimed == [[]]


def test_an_operation_beside_those_whose_callers_are_dead(server: Server) -> None:
    server.hung = HUNG
    server.inflight.add(6, 13)

    async def main() -> bool:
        with trio.move_on_after(0.2) as scope:
            await server.drain()
        return scope.cancelled_caught

    assert trio.run(main)


def test_a_worker_of_a_dead_caller_that_is_not_known_to_hang(server: Server) -> None:
    """An upgrade would wait for it, after the drain."""
    request = memoryview(IN_HEADER.bytes(fuse_in_header(IN_HEADER.size, 0, 6, 1, 0, 0, 0, 0, 0)))
    workers: list[Any] = server._workers
    workers.append(SimpleNamespace(serving=True, request=request))

    async def main() -> None:
        with trio.move_on_after(0.2) as scope:
            await server.drain()
        assert scope.cancelled_caught
        server.hung = {6: Caller(0, 65534)}
        with trio.fail_after(0.5):
            await server.drain()

    trio.run(main)


def test_nobody_waits_for_those_that_hang(server: Server) -> None:
    server.hung = HUNG
    for unique, caller in HUNG.items():
        server.inflight.add(unique, caller.thread)

    async def main() -> None:
        with trio.fail_after(0.5):
            await server.drain()

    trio.run(main)
