"""What a process that serves tells whoever supervises it: that it is ready, alive, about to end."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from cuse_crypto import notify

log = logging.getLogger(__name__)

LOOKS = 6
"""So often in the period of the watchdog is looked whether all is well."""


@asynccontextmanager
async def supervised(
    supervisor: notify.Supervisor, status: str, is_alive: Callable[[], bool] = lambda: True
) -> AsyncIterator[None]:
    """Ready, with ``status`` in words, as long as this lasts; at its end about to stop.

    While trio runs and ``is_alive``, the watchdog hears so.
    """
    period = notify.watchdog_period()
    async with trio.open_nursery() as nursery:
        if period:
            nursery.start_soon(_reassure, supervisor, period / LOOKS, is_alive)
        supervisor.tell("READY=1", f"STATUS={status}")
        try:
            yield
        finally:
            supervisor.tell("STOPPING=1", "STATUS=ending")
            nursery.cancel_scope.cancel()


async def _reassure(
    supervisor: notify.Supervisor, pause: float, is_alive: Callable[[], bool]
) -> None:
    well = True
    while True:
        was_well, well = well, is_alive()
        if well:
            supervisor.tell("WATCHDOG=1", wait=False)
        elif was_well:
            log.error("nobody takes the requests that wait; the watchdog is to hear nothing")
        await trio.sleep(pause)
