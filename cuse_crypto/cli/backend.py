"""``cuse-crypto backend``: the back end alone."""

import click
import trio

from cuse_crypto.cli.options import (
    AddressType,
    announce,
    engine_option,
    follow_parent,
    set_up_process,
    verbose_option,
)
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.wire.address import Address


@click.command("backend")
@click.option("--listen", "address", type=AddressType(), required=True, help="unix:PATH")
@engine_option
@click.option("--allow-uid", "uids", type=int, multiple=True, help="May connect too. [repeatable]")
@click.option("--with-parent", is_flag=True, hidden=True)
@verbose_option
def command(
    address: Address, engine: str, uids: tuple[int, ...], with_parent: bool, verbose: bool
) -> None:
    """Execute operations for front ends, until SIGTERM.

    A Unix socket is made with mode 0600; root and the user of this process may connect.
    """
    set_up_process("backend", verbose)
    if with_parent:
        follow_parent()
    trio.run(_serve, address, engine, uids)


async def _serve(address: Address, engine_name: str, uids: tuple[int, ...]) -> None:
    import os

    from cuse_crypto_backend import engines, server

    async with until_signalled() as ended, trio.open_nursery() as nursery:
        engine, reason = engines.choose(engine_name)
        listener = address.listen()
        try:
            allowed = frozenset({0, os.geteuid(), *uids})
            nursery.start_soon(server.serve, engine, listener, allowed)
            announce(f"ready: {address} (engine {engine.name}, {reason})")
            await ended.wait()
        finally:
            nursery.cancel_scope.cancel()
            listener.close()
            address.clean()
