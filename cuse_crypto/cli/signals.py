"""Waiting for SIGINT and SIGTERM, the orderly ends of every command that serves."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@asynccontextmanager
async def until_signalled() -> AsyncIterator[trio.Event]:
    """Within it these signals set the event instead of ending the process."""
    event = trio.Event()

    async def watch(task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(*ENDING) as signals:
            task_status.started()
            async for _ in signals:
                event.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        yield event
        nursery.cancel_scope.cancel()
