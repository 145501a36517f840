"""``cuse-crypto service``: the service of systemd, installed and removed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cuse_crypto.cli.configuration import Configuration
from cuse_crypto.cli.options import announce
from cuse_crypto.errors import Failure
from cuse_crypto.service.installation import MOST_DEVICES

if TYPE_CHECKING:
    from cuse_crypto.service.status import Row

_WIDE = 240


@click.group("service")
def command() -> None:
    """Have systemd run it: /dev/cryptodev0 for the group crypto, whenever the machine is up.

    \b
    cuse-crypto service install --enable           # now, and at every start of the machine
    usermod --append --groups crypto alice         # alice may, from her next login on
    cuse-crypto service status
    """


@command.command()
@click.option("--enable", is_flag=True, help="Start it, now and whenever the machine starts.")
@click.option(
    "--devices",
    type=click.IntRange(1, MOST_DEVICES),
    default=None,
    help="So many: /dev/cryptodev0 and on, one process each. Else those that there are, or one.",
)
@click.option(
    "--any-owner",
    is_flag=True,
    help="Also from folders in which others than root may write: they become root by that.",
)
@click.pass_context
def install(ctx: click.Context, enable: bool, devices: int | None, any_owner: bool) -> None:
    """Put units, rules, users and /etc/cuse-crypto.toml in place; or bring them up to date."""
    from cuse_crypto.service import files, installation, systemd
    from cuse_crypto.service.installation import TARGET
    from cuse_crypto.service.program import Program
    from cuse_crypto.service.status import rows

    systemd.check_running()
    systemd.check_root()
    program = Program.own()
    if not any_owner:
        program.check_owners()
    program.check_access()
    installation.write_configuration(announce)
    tables = _checked(ctx, files.CONFIGURATION).tables
    installation.install(program, tables, devices=devices, enable=enable, say=announce)
    if enable:
        _check_nodes(rows())
        announce(f"what ran before goes on as it was until: systemctl restart {TARGET}")
    else:
        announce(f"start it with: systemctl enable --now {TARGET}")


@command.command()
@click.option("--keep-config", is_flag=True, help="Leave /etc/cuse-crypto.toml there.")
def remove(keep_config: bool) -> None:
    """End the service and take all of it away, with the users that were made for it."""
    from cuse_crypto.service import installation, systemd

    systemd.check_running()
    systemd.check_root()
    installation.remove(keep_configuration=keep_config, say=announce)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(as_json: bool) -> None:
    """Show the units and their devices; exit status 1 if a device is not there."""
    from cuse_crypto.service import systemd
    from cuse_crypto.service.status import rows

    systemd.check_running()
    found = rows()
    if as_json:
        announce(json.dumps([row._asdict() for row in found], indent=2))
    elif found:
        _show([row._asdict() for row in found])
    if not found:
        raise Failure("the service is not installed; cuse-crypto service install --enable")
    _check_nodes(found)


def _check_nodes(found: list["Row"]) -> None:
    absent = [row.unit for row in found if "-device@" in row.unit and not row.node]
    if absent:
        raise Failure(f"without a node: {' '.join(absent)}; see journalctl -u {absent[0]}")


def _checked(ctx: click.Context, path: Path) -> Configuration:
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    configuration = Configuration.read(path)
    configuration.check(root, root.command)
    return configuration


def _show(found: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in found[0]:
        table.add_column(name, no_wrap=True)
    for row in found:
        table.add_row(*(str(value or "") for value in row.values()))
    # A narrow terminal wraps lines; a pipe has them whole.
    Console(width=_WIDE).print(table, soft_wrap=True)
