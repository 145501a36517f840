"""``cuse-crypto device``: the front end alone."""

from typing import Any

import click
import trio

from cuse_crypto.cli.options import (
    AddressType,
    announce,
    credentials,
    follow_parent,
    limit_options,
    node_options,
    sandbox_option,
    set_up_process,
    tls_options,
    verbose_option,
)
from cuse_crypto.cli.sandbox import confine_front_end
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.errors import Failure
from cuse_crypto.wire.address import Address


@click.command("device")
@click.option(
    "--backend",
    "addresses",
    type=AddressType(),
    required=True,
    multiple=True,
    help="unix:PATH, tcp:HOST:PORT, vsock:CID:PORT, virtio:NAME or fd:N; see docs/transports.md. "
    "Of several, one is used at a time, and the next one when that goes. [repeatable]",
)
@tls_options
@node_options
@limit_options
@sandbox_option
@click.option("--with-parent", is_flag=True, hidden=True)
@verbose_option
def command(
    addresses: tuple[Address, ...], with_parent: bool, verbose: bool, **options: Any
) -> None:
    """Make the node and forward what programs ask of it to a back end, until SIGTERM."""
    set_up_process("device", verbose)
    if with_parent:
        follow_parent()
    tls = credentials(options)
    trio.run(_serve, [address.secured(tls) for address in addresses], options)


async def _serve(addresses: list[Address], options: dict[str, Any]) -> None:
    from cuse_crypto.frontend.limits import LIMITS, Limits
    from cuse_crypto.frontend.queue import BackendGone
    from cuse_crypto.frontend.route import Route
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
                Route(addresses, number_of(options["name"])),
                workers=options["workers"],
                deadline=options["deadline"],
                patience=options["patience"],
                direct=options["memory"] == "auto",
                api=options["api"],
                limits=limits,
            )
            try:
                engine = server.connect()
            except BackendGone as error:
                raise Failure(f"{error.strerror}; {_remedy(addresses[0])}") from None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run)
                announce(f"ready: {node.path} ({node.kind} node, {reason}; engine {engine})")
                await _first(ended, server.ended)
                signalled = ended.is_set()
                await server.stop()
            if not signalled:
                raise Failure(f"{node.path} was taken away (unmounted or aborted by somebody)")
        finally:
            node.close()
            limits.report()


def number_of(name: str) -> int:
    """At the end of a device's name; 0 if there is none. Devices begin with different back ends."""
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits or 0)


def _remedy(address: Address) -> str:
    if address.scheme in ("virtio", "fd"):
        return "start a back end there, see docs/transports.md"
    return f"start it with: cuse-crypto backend --listen {address}"


async def _first(*events: trio.Event) -> None:
    """Wait for any one of them."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
