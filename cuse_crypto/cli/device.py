"""``cuse-crypto device``: the front end alone."""

import contextlib
import logging
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click
import trio

from cuse_crypto import notify
from cuse_crypto.cli import renewal
from cuse_crypto.cli.configuration import OfInstance
from cuse_crypto.cli.options import (
    AddressType,
    announce,
    credentials,
    described,
    follow_parent,
    limit_options,
    node_options,
    sandbox_option,
    set_up_process,
    tls_options,
    verbose_option,
)
from cuse_crypto.cli.sandbox import confine_front_end
from cuse_crypto.cli.shown import Shown
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.cli.supervised import supervised
from cuse_crypto.errors import Failure
from cuse_crypto.fuse import claim
from cuse_crypto.hardening import exit_monitor as monitor
from cuse_crypto.linux import processes
from cuse_crypto.wire.address import Address

if TYPE_CHECKING:
    from cuse_crypto.frontend.crioget.process import NurseryProcess
    from cuse_crypto.frontend.estate import Estate
    from cuse_crypto.frontend.server import Server

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds for a back end to say who it is, where others wait for something else."""
DESCRIPTORS = 16384
"""Of all workers that may be, those that hang among them."""
END = 0.5
"""Seconds for workers to end, once the node is gone."""


def _inherited(context: object, option: object, values: tuple[str, ...]) -> list[tuple[str, int]]:
    """NAME=FD, as whoever started this process writes it."""
    pairs = (value.rpartition("=") for value in values)
    return [(name, int(number)) for name, _, number in pairs]


@click.command("device", cls=OfInstance, instance="name")
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
@click.option(
    "--early",
    is_flag=True,
    help="Make the node though no back end answers yet: who opens it waits for --patience.",
)
@node_options
@limit_options
@sandbox_option
@click.option("--with-parent", type=int, default=0, hidden=True)
@click.option(renewal.EXIT_MONITOR, type=int, default=-1, hidden=True)
@click.option(renewal.INHERIT, "inherited", multiple=True, hidden=True, callback=_inherited)
@verbose_option
def command(
    addresses: tuple[Address, ...],
    with_parent: int,
    exit_monitor: int,
    verbose: bool,
    **options: Any,
) -> None:
    """Make the node and forward what programs ask of it to a back end, until SIGTERM.

    `cuse-crypto upgrade` starts the installed program anew in the same process: whoever has the
    node open does not notice.
    """
    renewal.arrived()
    set_up_process("device", verbose, device=options["name"])
    follow_parent(with_parent)
    if exit_monitor >= 0:
        monitor.start(exit_monitor)
    processes.allow_descriptors(DESCRIPTORS)
    options["supervisor"] = with_parent
    # Before there are keys.
    nursery = _nursery(options)
    tls = credentials(options)
    secured = [address.secured(tls) for address in addresses]
    shown = Shown(addresses, options)
    with contextlib.closing(shown), contextlib.closing(notify.Supervisor()) as supervisor:
        hangs = trio.run(_serve, secured, supervisor, options, shown, nursery)
    if hangs:
        _leave_behind()


def _leave_behind() -> NoReturn:
    """End, though threads hang in the kernel: without a descriptor whose end is waited for."""
    logging.shutdown()
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    os._exit(0)


def _nursery(options: dict[str, Any]) -> "NurseryProcess | None":
    """For CRIOGET; an upgraded program has its predecessor's."""
    from cuse_crypto.frontend.crioget.process import HANDED_OVER, NurseryProcess

    inherited = dict(options["inherited"])
    number = inherited.pop(HANDED_OVER, None)
    options["inherited"] = list(inherited.items())
    if options["crioget"] == "off":
        if number is not None:
            os.close(number)
        return None
    try:
        return NurseryProcess(options["crioget"], number)
    except OSError as error:
        log.warning("CRIOGET is off: its process cannot be started (%s)", error.strerror)
        return None


async def _serve(
    addresses: list[Address],
    supervisor: notify.Supervisor,
    options: dict[str, Any],
    shown: Shown,
    nursery: "NurseryProcess | None",
) -> bool:
    """Whether threads are left that hang."""
    from cuse_crypto.frontend.estate import Estate
    from cuse_crypto.frontend.limits import LIMITS, Limits
    from cuse_crypto.frontend.memory import why_not_direct
    from cuse_crypto.frontend.route import Route
    from cuse_crypto.frontend.server import Server
    from cuse_crypto.frontend.succession import inherit
    from cuse_crypto.fuse.node import Attributes, make, pick

    async with until_signalled() as ended:
        attributes = Attributes.named(options["mode"], options["owner"], options["group"])
        values = {row: options[row.name.replace("-", "_")] for row in LIMITS}
        limits = Limits(values, options["workers"])
        estate = Estate([*notify.inherited(), *options["inherited"]])
        predecessor = inherit(options["name"], estate)
        if predecessor:
            node, reason = predecessor.node, "taken over"
        else:
            kind, reason = pick(options["kind"])
            node = make(options["name"], kind, attributes)
        try:
            if node.kind == "mounted" and (problem := why_not_direct()):
                log.warning("callers will get EFAULT: %s", problem)
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
                estate=estate,
                predecessor=predecessor,
                board=shown.board,
                nursery=nursery,
            )
            ask = partial(_engine, server, addresses[0])
            if not predecessor:
                engine = ask(required=not options["early"])
            async with trio.open_nursery() as tasks:
                upgrade = partial(_renew_when_told, server, estate, shown, options["supervisor"])
                await tasks.start(partial(upgrade, nursery))
                tasks.start_soon(server.run)
                tasks.start_soon(shown.watch)
                try:
                    if predecessor:
                        # Callers wait for an answer, but not for the back end's name.
                        engine = "not known yet"
                        with trio.move_on_after(PATIENCE):
                            engine = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
                    about = node.path, node.kind, engine
                    if predecessor:
                        # They may be waiting for whoever comes if this one is killed, too.
                        tasks.start_soon(shown.mount, *about)
                    else:
                        await shown.mount(*about)
                    told = described(engine)
                    status = f"{node.path} ({node.kind} node, {reason}; engine {told})"
                    announce(f"ready: {status}")
                    async with supervised(supervisor, status, server.is_healthy):
                        await _first(ended, server.ended)
                    signalled = ended.is_set()
                finally:
                    # Its threads end with the node, whatever went wrong here.
                    with trio.CancelScope(shield=True):
                        await server.stop()
                        # Those that hang in a copy do not end, and are left behind.
                        with trio.move_on_after(END):
                            await server.ended.wait()
                    hangs = not server.ended.is_set()
                    tasks.cancel_scope.cancel()
            if not signalled:
                raise Failure(f"{node.path} was taken away (unmounted or aborted by somebody)")
            return hangs
        finally:
            node.close()
            limits.report()


def _engine(server: "Server", address: Address, *, required: bool = False) -> str:
    """Its name; Failure if there is no back end and one is ``required``."""
    from cuse_crypto.frontend.queue import BackendGone

    try:
        return server.connect()
    except BackendGone as error:
        if not required:
            return "not known yet"
        raise Failure(f"{error.strerror}; {_remedy(address)}") from None


async def _renew_when_told(
    server: "Server",
    estate: "Estate",
    shown: Shown,
    supervisor: int,
    nursery: "NurseryProcess | None",
    task_status: trio.TaskStatus[None],
) -> None:
    with trio.open_signal_receiver(signal.SIGUSR2) as told:
        # Not before it is heard: the signal would end this process.
        claim.record(server.node.lock, server.files.ledger.header.generation, supervisor)
        task_status.started()
        refused = 0
        async for _ in told:
            if await renewal.works():
                await server.drain()
                if server.hung:
                    # execve(2) would wait for threads that hang.
                    refused += 1
                    _renew_by_another(server, supervisor, refused)
                    continue
                shown.close()
                server.files.ledger.suspect_nobody()
                helping = nursery.handed_over() if nursery else {}
                renewal.renew({**estate.descriptors, **helping})


def _renew_by_another(server: "Server", supervisor: int, refused: int) -> None:
    """Have ``up`` start the installed program, which takes over. Without ``up`` no process sees the
    end of this one: ``refused`` counts the upgrades that are refused for that.
    """
    if supervisor:
        log.warning("%s: another process takes over", server.hanging)
        os.kill(os.getpid(), signal.SIGKILL)
    log.error("not renewed: %s; end these processes first", server.hanging)
    generation, uid = server.files.ledger.header.generation, next(iter(server.hung.values())).uid
    claim.record(server.node.lock, generation, 0, refused, uid)


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
