"""``cuse-crypto backend``: the back end alone."""

import contextlib
import logging
import os
import socket
from pathlib import Path
from typing import Any

import click
import trio

from cuse_crypto import notify
from cuse_crypto.cli.configuration import OfInstance
from cuse_crypto.cli.options import (
    AddressType,
    announce,
    credentials,
    described,
    engine_option,
    follow_parent,
    sandbox_option,
    set_up_process,
    tls_options,
    user_option,
    verbose_option,
)
from cuse_crypto.cli.sandbox import confine_back_end, identity_for, needs_of
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.cli.supervised import supervised
from cuse_crypto.hardening.caretaker import Caretaker, removing
from cuse_crypto.hardening.file_sender import sending
from cuse_crypto.linux import processes
from cuse_crypto.wire.address import Address

log = logging.getLogger(__name__)

DESCRIPTORS = 65536
"""For all connections that may be, each of which has four through shared memory."""


@click.command("backend", cls=OfInstance, instance="instance")
@click.option(
    "--listen",
    "address",
    type=AddressType(),
    required=True,
    help="unix:PATH, tcp:HOST:PORT, vsock:CID:PORT or fd:N; see docs/transports.md.",
)
@click.option(
    "--instance",
    default="",
    metavar="NAME",
    help="Of several back ends: [backend.NAME] of the configuration file is about this one.",
)
@engine_option
@click.option("--allow-uid", "uids", type=int, multiple=True, help="May connect too. [repeatable]")
@click.option(
    "--allow-cid",
    "cids",
    type=int,
    multiple=True,
    help="With vsock: this virtual machine may connect; none is this machine. [repeatable]",
)
@tls_options
@user_option
@sandbox_option
@click.option("--with-parent", type=int, default=0, hidden=True)
@verbose_option
def command(
    address: Address,
    uids: tuple[int, ...],
    cids: tuple[int, ...],
    with_parent: int,
    verbose: bool,
    **options: Any,
) -> None:
    """Execute operations for front ends, until SIGTERM.

    A Unix socket is made with mode 0600; root and the user who starts this may connect. Over TCP
    whoever shows a certificate of the same authority may.
    """
    set_up_process("backend", verbose)
    address = address.secured(credentials(options))
    options["uids"], options["cids"] = frozenset({0, os.geteuid(), *uids}), frozenset(cids)
    with contextlib.ExitStack() as stack:
        caretaker = None
        # Who is confined cannot remove the socket; a parent removes its folder.
        if address.scheme == "unix" and not with_parent:
            caretaker = stack.enter_context(removing(Path(address.rest)))
        lists = _lists(stack, address)
        options["parent"] = follow_parent(with_parent)
        supervisor = stack.enter_context(contextlib.closing(notify.Supervisor()))
        processes.allow_descriptors(DESCRIPTORS)
        trio.run(_serve, address, caretaker, lists, supervisor, options)


def _lists(stack: contextlib.ExitStack, address: Address) -> socket.socket | None:
    """Where new lists of revoked certificates come from; what reads them cannot be us, later."""
    revoked = address.tls.revoked if address.tls else None
    if not (revoked and revoked.path):
        return None
    from cuse_crypto.wire import revocation

    sender = sending(revoked.path, revocation.version, revoked.seen, revocation.framed)
    return stack.enter_context(sender)


async def _serve(
    address: Address,
    caretaker: Caretaker | None,
    lists: socket.socket | None,
    supervisor: notify.Supervisor,
    options: dict[str, Any],
) -> None:
    from cuse_crypto_backend import admission, engines, server

    async with until_signalled() as ended, trio.open_nursery() as nursery:
        engine, reason = engines.choose(options["engine"])
        needs = needs_of(engine.name)
        identity, remark = identity_for(options["user"], needs)
        listener = address.listen()
        address = address.bound(listener)
        allowed = admission.Admission(options["uids"], options["cids"], address.tls)
        try:
            if caretaker:
                caretaker.watch()
            confine_back_end(identity, needs, options["sandbox"])
            if options["parent"]:
                follow_parent(options["parent"])
            nursery.start_soon(server.serve, engine, listener, allowed, lists)
            status = f"{address} (engine {described(engine.name)}, {reason})"
            announce(f"ready: {status}")
            if remark:
                log.info("%s", remark)
            async with supervised(supervisor, status):
                await ended.wait()
        finally:
            nursery.cancel_scope.cancel()
            listener.close()
            with contextlib.suppress(PermissionError):
                address.clean()
