"""``cuse-crypto device``: the front end alone."""

import contextlib
from typing import Any

import click
import trio

from cuse_crypto import notify
from cuse_crypto.cli.configuration import OfInstance
from cuse_crypto.cli.options import (
    AddressType,
    announce,
    follow_parent,
    limit_options,
    node_options,
    sandbox_option,
    set_up_process,
    verbose_option,
)
from cuse_crypto.cli.sandbox import confine_front_end
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.cli.supervised import supervised
from cuse_crypto.errors import Failure
from cuse_crypto.wire.address import Address


@click.command("device", cls=OfInstance, instance="name")
@click.option("--backend", "address", type=AddressType(), required=True, help="unix:PATH")
@click.option(
    "--early",
    is_flag=True,
    help="Make the node without asking for the back end: who opens it waits for --patience.",
)
@node_options
@limit_options
@sandbox_option
@click.option("--with-parent", is_flag=True, hidden=True)
@verbose_option
def command(address: Address, with_parent: bool, verbose: bool, **options: Any) -> None:
    """Make the node and forward what programs ask of it to a back end, until SIGTERM."""
    set_up_process("device", verbose, device=options["name"])
    if with_parent:
        follow_parent()
    with contextlib.closing(notify.Supervisor()) as supervisor:
        trio.run(_serve, address, supervisor, options)


async def _serve(address: Address, supervisor: notify.Supervisor, options: dict[str, Any]) -> None:
    from cuse_crypto.frontend.limits import LIMITS, Limits
    from cuse_crypto.frontend.queue import BackendGone
    from cuse_crypto.frontend.server import Server
    from cuse_crypto.fuse.node import Attributes, make, pick

    async with until_signalled() as ended:
        attributes = Attributes.named(options["mode"], options["owner"], options["group"])
        kind, reason = pick(options["kind"])
        values = {row: options[row.name.replace("-", "_")] for row in LIMITS}
        limits = Limits(values, options["workers"])
        node = make(options["name"], kind, attributes)
        try:
            confine_front_end(options["sandbox"], mounted=node.kind == "mounted")
            server = Server(
                node,
                address,
                workers=options["workers"],
                deadline=options["deadline"],
                patience=options["patience"],
                direct=options["memory"] == "auto",
                api=options["api"],
                limits=limits,
            )
            try:
                behind = f"back end {address}" if options["early"] else f"engine {server.connect()}"
            except BackendGone as error:
                remedy = f"start it with: cuse-crypto backend --listen {address}"
                raise Failure(f"{error.strerror}; {remedy}") from None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run)
                status = f"{node.path} ({node.kind} node, {reason}; {behind})"
                announce(f"ready: {status}")
                async with supervised(supervisor, status, server.pulse.beats):
                    await _first(ended, server.ended)
                signalled = ended.is_set()
                await server.stop()
            if not signalled:
                raise Failure(f"{node.path} was taken away (unmounted or aborted by somebody)")
        finally:
            node.close()
            limits.report()


async def _first(*events: trio.Event) -> None:
    """Wait for any one of them."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
