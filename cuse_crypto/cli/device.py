"""``cuse-crypto device``: the front end alone."""

from typing import Any

import click
import trio

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
from cuse_crypto.cli.shown import Shown
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.errors import Failure
from cuse_crypto.wire.address import Address


@click.command("device")
@click.option("--backend", "address", type=AddressType(), required=True, help="unix:PATH")
@node_options
@limit_options
@sandbox_option
@click.option("--with-parent", is_flag=True, hidden=True)
@verbose_option
def command(address: Address, with_parent: bool, verbose: bool, **options: Any) -> None:
    """Make the node and forward what programs ask of it to a back end, until SIGTERM."""
    set_up_process("device", verbose)
    if with_parent:
        follow_parent()
    shown = Shown(address, options)
    try:
        trio.run(_serve, address, options, shown)
    finally:
        shown.close()


async def _serve(address: Address, options: dict[str, Any], shown: Shown) -> None:
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
                board=shown.board,
            )
            try:
                engine = server.connect()
            except BackendGone as error:
                remedy = f"start it with: cuse-crypto backend --listen {address}"
                raise Failure(f"{error.strerror}; {remedy}") from None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run)
                await shown.mount(node.path, kind, engine)
                announce(f"ready: {node.path} ({node.kind} node, {reason}; engine {engine})")
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
